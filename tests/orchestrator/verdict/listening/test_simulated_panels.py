"""Error rates of simulated listening panels; ``benchmarks/verdicts.md`` has larger runs.

The seeds are fixed: a share over 100 panels may err by some points, but not from run to run.
"""

import pytest
from _panels import simulate

from benchmarks.panels import (
    ALIKE,
    CAUGHT,
    HONEST,
    LANGUAGES,
    MISSED,
    POWER,
    check_rates,
    simulate_languages,
)

QUICK = {
    "no gain, honest, taste 0.3",
    "one cheat of 8, +4, taste 0.3",
    "one person under 8 names, 0% changed",
    "one person under 8 names, 10% changed",
    "1 rater x 20, 7 raters x 1",
}


def in_tiers(panels, quick):
    return [
        pytest.param(each, id=each.name, marks=[] if each.name in quick else [pytest.mark.full])
        for each in panels
    ]


def named(panels, name):
    (panel,) = (each for each in panels if each.name == name)
    return panel


def test_the_attacks_are_those_that_are_claimed():
    assert {each.name for each in (*HONEST, *CAUGHT)} >= QUICK
    assert (len(HONEST), len(CAUGHT), len(MISSED), len(POWER), len(ALIKE)) == (4, 12, 9, 16, 4)


@pytest.mark.parametrize("panel", in_tiers((*HONEST, *CAUGHT), QUICK))
def test_no_gain_is_promoted_by_five_in_a_hundred_panels_at_most(panel):
    assert simulate(panel, 100, 300).promoted <= 0.05


def test_the_interval_alone_promotes_what_the_panel_does_not():
    for name, least in (
        ("one cheat of 8, +4, taste 0.3", 0.06),
        ("one person under 8 names, 0% changed", 0.12),
    ):
        tally = simulate(named(CAUGHT, name), 100, 300)
        assert tally.by_interval_alone >= least


def test_one_person_under_many_names_is_found():
    tally = simulate(named(CAUGHT, "one person under 8 names, 10% changed"), 60, 300)
    assert tally.excluding >= 0.95


@pytest.mark.parametrize("panel", in_tiers(ALIKE, {"both", "a base that fails on half"}))
def test_honest_raters_who_agree_are_rarely_taken_for_one(panel):
    assert simulate(panel, 60, 300).excluding <= 0.05


@pytest.mark.parametrize("panel", in_tiers(POWER, {"gain 0.6, 12 raters, taste 0.15"}))
def test_power_is_lost_to_leaving_one_out_and_not_all_of_it(panel):
    tally = simulate(panel, 60, 300)
    assert tally.promoted <= tally.by_interval_alone
    if panel.world.gain >= 0.4:
        assert tally.promoted >= 0.5 * tally.by_interval_alone
    if panel.world.gain >= 0.6 and panel.world.taste < 0.3:
        assert tally.promoted >= 0.8


def test_what_no_rule_finds_is_known():
    assert simulate(named(MISSED, "3 cheats of 8, +2"), 100, 300).promoted > 0.05


def test_a_language_that_got_worse_is_not_promoted_with_the_other():
    tally = simulate_languages(LANGUAGES["km +0.38 by 20, ko -0.17 by 8"], 60, 300)
    assert tally.promoted <= 0.05
    assert tally.by_interval_alone >= 0.3
    assert tally.verdicts["PROMOTE-BY-LANGUAGE"] >= 0.2


@pytest.mark.full
@pytest.mark.parametrize(
    ("truth", "verdict", "least"),
    [
        ("km +0.6 by 20, ko -0.6 by 8", "PROMOTE-BY-LANGUAGE", 0.8),
        ("+0.6 in 2 languages by 8", "PROMOTE", 0.6),
    ],
)
def test_languages_come_to_the_end_they_deserve(truth, verdict, least):
    assert simulate_languages(LANGUAGES[truth], 60, 300).verdicts[verdict] >= least


def test_traps_and_repeats_find_random_answers_and_keep_honest_raters():
    rates = check_rates(300, repeats=4)
    assert rates["random, traps"] > 0.9
    assert rates["random, repeats"] > 0.7
    assert rates["honest, traps"] == 0
    assert rates["honest, repeats"] < 0.05
