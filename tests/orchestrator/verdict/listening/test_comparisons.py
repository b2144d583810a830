"""Panels that compare: what decides, what excludes, and error rates of simulated panels."""

import numpy as np
import pytest
from _panels import simulate

from benchmarks.listening import CAUGHT, MISSED, POWER, check_rates, simulate_choice
from orchestrator.listening_room.plans import REPEATS
from orchestrator.verdict.listening.panel import hear
from orchestrator.verdict.listening.ratings import PREFERENCE, Rating, Ratings
from orchestrator.verdict.protocol import Listening


def compared(scores, system="v"):
    return [
        Rating(f"r{r}", f"c{s}", system, PREFERENCE, int(scores[r][s]))
        for r, s in np.ndindex(*np.shape(scores))
    ]


def test_a_comparison_is_a_difference_and_no_opinion():
    ratings = Ratings.build(compared([[3, -1], [0, 2]]))
    assert ratings.are_comparisons
    assert ratings.differences("v", "base").tolist() == [[3, -1], [0, 2]]
    assert ratings.mos("v") is None
    (axis,) = ratings.by_axis("v", "base")
    assert (axis.axis, axis.difference, axis.variant) == ("preference", 1.0, None)


def test_preferred_pairs_are_counted_and_neither_counts_half(make_protocol):
    protocol = make_protocol(listening=Listening(raters=3, sentences=2))
    scores = [[2, 1, 0, -1]] * 3
    report = hear(Ratings.build(compared(scores)), "v", protocol)
    assert (report.preferred.variant, report.preferred.neither, report.preferred.base) == (6, 3, 3)
    assert report.result.preference.mean == pytest.approx(0.625)
    assert report.result.preference.low <= 0.625 <= report.result.preference.high


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([Rating("a", "c0", "v", PREFERENCE, 4)], "a whole number from -3 to 3, got 4"),
        ([Rating("a", "c0", "base", PREFERENCE, 1)], "a preference is of a variant over the base"),
        (
            [Rating("a", "c0", "v", PREFERENCE, 1), Rating("a", "c1", "v", "prosody", 3)],
            "an axis is one of preference, got 'prosody'",
        ),
        ([Rating("a", "c0", "v", PREFERENCE, 1)] * 2, "one score for each axis, got 2"),
        (
            [
                Rating("a", "c0", "v", PREFERENCE, 1),
                Rating("a", "t", "", PREFERENCE, 1, "trap", 5),
            ],
            "a trap has an expected score from -3 to 3, got 5",
        ),
    ],
)
def test_what_is_no_comparison_is_told(rows, what):
    with pytest.raises(ValueError, match=what):
        Ratings.build(rows)


def test_who_hear_no_difference_are_not_one_person(make_protocol):
    protocol = make_protocol(listening=Listening(raters=3, sentences=40))
    rng = np.random.default_rng(3)
    scores = np.where(rng.random((4, 40)) < 0.8, 0, rng.choice([-1, 1], (4, 40)))
    assert hear(Ratings.build(compared(scores)), "v", protocol).excluded == ()
    scores = rng.integers(-2, 3, (4, 40))
    scores[3] = scores[0]
    (excluded,) = hear(Ratings.build(compared(scores)), "v", protocol).excluded
    assert (excluded.rater, excluded.rule) == ("r3", "copy")


def test_hidden_repeats_keep_honest_listeners_and_find_random_ones():
    rates = check_rates(2000, REPEATS["cmos"])
    assert rates["honest"] <= 0.05
    assert rates["random"] >= 0.9


@pytest.mark.parametrize("name", ["no gain, one cheat of 8", "no gain, honest, taste 0.2"])
def test_no_gain_is_promoted_by_five_in_a_hundred_panels_at_most(name):
    (panel,) = (each for each in CAUGHT if each.name == name)
    assert simulate(panel, 40, 200).promoted <= 0.05


@pytest.mark.full
def test_the_other_panels_too():
    for panel in CAUGHT:
        assert simulate(panel, 100, 300).promoted <= 0.05, panel.name


@pytest.mark.full
def test_a_gain_is_found_and_who_agree_to_cheat_are_not():
    named = {each.name: each for each in (*POWER, *MISSED)}
    assert simulate(named["gain 0.6, taste 0.2"], 60, 300).promoted >= 0.8
    assert simulate(named["no gain, three cheats of 8"], 60, 300).promoted > 0.05


@pytest.mark.full
def test_a_choice_among_three_promotes_none_without_a_gain_and_finds_the_better_one():
    assert simulate_choice((0.0, 0.0, 0.0), 60, resamples=300)["promoted"] <= 0.05
    assert simulate_choice((0.0, 0.0, 0.8), 30, resamples=300)["one of the largest gain"] >= 0.8
