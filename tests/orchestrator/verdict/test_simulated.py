"""Error rates of verdicts in simulated sweeps; ``benchmarks/verdicts.md`` has larger runs."""

from dataclasses import replace
from functools import cache

import pytest

from benchmarks.verdicts import (
    COPIES,
    CURED,
    EVERYWHERE,
    FIRST,
    GAINS,
    GROUPS,
    HARMFUL,
    IMPRECISE,
    LANGUAGES_NULL,
    NULLS,
    ONE_LANGUAGE,
    RECIPES,
    SEEDS,
    SMALL,
    TRAP,
    TRAPPED,
    UNSCORED,
    UNSCORED_TRAP,
    WORSE,
    simulate,
    simulate_recipes,
)

SEED, RESAMPLES = 2026, 300


@cache
def run(world):
    return simulate(world, 100 if len(world.gains) > 10 else 200, SEED, RESAMPLES)


def in_tiers(worlds, is_plain):
    """The worlds as parameters, those that are not the plain form for `make test-all` alone."""
    return [
        pytest.param(world, id=world.name, marks=[] if is_plain(world) else [pytest.mark.full])
        for world in worlds
    ]


def test_the_worlds_are_those_that_are_claimed():
    assert len(NULLS) == 10
    assert {len(world.gains) for world in NULLS} == {1, 6, 36}
    assert {world.confirmation for world in NULLS} == {20, 60, 100}


@pytest.mark.parametrize("world", in_tiers(NULLS, lambda world: "," not in world.name))
def test_where_nothing_is_better_five_in_a_hundred_are_promoted_at_most(world):
    tally = run(world)
    assert tally.share(tally.ours, world.arms) <= 0.05
    assert tally.heard >= tally.sweeps
    # 95 % in truth; so few sweeps may show a little less than the 93 % that are claimed.
    assert tally.covered / tally.heard >= 0.92


@pytest.mark.parametrize("world", in_tiers(GAINS, lambda world: world is GAINS[0]))
def test_a_true_gain_is_found(world):
    tally = run(world)
    better = [arm for arm, gain in world.arms.items() if gain > 0]
    assert tally.share(tally.ours, better) >= 0.8
    assert tally.share(tally.ours, world.arms.keys() - better) <= 0.05
    assert tally.covered / tally.heard >= 0.93
    assert abs(tally.bias) < 0.02


@pytest.mark.parametrize("world", in_tiers(COPIES, lambda world: world is COPIES[-1]))
def test_near_copies_in_set_b_do_not_count_as_prompts(world):
    tally = run(world)
    assert tally.share(tally.ours, world.arms) <= 0.05
    assert tally.covered / tally.heard >= 0.92


def test_worse_than_the_base_is_told_as_such():
    tally = run(WORSE)
    assert tally.ours == {}
    assert tally.verdicts.get("REGRESSION", 0) + tally.verdicts.get("DO-NOT-FINE-TUNE", 0) >= 190


def test_the_best_loss_with_bad_audio_is_never_promoted():
    tally = run(TRAPPED)
    assert tally.share(tally.ours, [TRAP]) == 0
    assert tally.share(tally.ours, ["arm0"]) >= 0.9
    # The habits fall for it.
    assert tally.share(tally.lowest_loss, [TRAP]) == 1
    assert tally.share(tally.best_mean, [TRAP]) > 0.9


def test_the_habit_of_the_best_mean_errs_where_ours_does_not():
    (world,) = (world for world in NULLS if world.name == "36 arms")
    tally = run(world)
    assert tally.share(tally.best_mean, world.arms) > 0.1


def refused(tally):
    """The share of sweeps that say DO-NOT-FINE-TUNE."""
    return tally.verdicts.get("DO-NOT-FINE-TUNE", 0) / tally.sweeps


def short(world):
    """A hundred sweeps with a small set A, which hardly matters where few arms compete."""
    return simulate(replace(world, screen=16, shortlist_after=None), 100, SEED, RESAMPLES)


def test_the_attacks_are_those_that_are_claimed():
    assert {name: len(worlds) for name, worlds in GROUPS.items()} == {
        "plain": 21,
        "cured": 7,
        "unscored": 18,
        "unscored, trap": 2,
        "unscored, gain": 8,
        "imprecise": 6,
        "harmful": 3,
        "small gains": 8,
        "languages, null": 4,
        "languages, one": 3,
        "languages, everywhere": 8,
    }


@pytest.mark.parametrize("world", in_tiers(CURED[1:], lambda world: world.runaway == 0.2))
def test_an_arm_that_cures_a_base_is_promoted(world):
    tally = short(world)
    assert tally.promoted / tally.sweeps >= 0.9
    assert refused(tally) == 0


@pytest.mark.parametrize(
    "world", in_tiers(UNSCORED, lambda world: world.lost > 0.1 and world.informative)
)
def test_what_was_not_scored_promotes_nothing(world):
    tally = short(world)
    assert tally.promoted / tally.sweeps <= 0.05


def test_what_was_not_scored_keeps_no_constraint():
    for world in UNSCORED_TRAP:
        assert short(world).promoted == 0


@pytest.mark.parametrize(
    "world", in_tiers(IMPRECISE, lambda world: world in (IMPRECISE[0], IMPRECISE[-2]))
)
def test_a_better_arm_is_not_refused_for_lack_of_precision(world):
    tally = simulate(world, 100, SEED, RESAMPLES)
    assert refused(tally) <= 0.02
    if world.word_margin >= 0.05:
        assert tally.promoted / tally.sweeps >= 0.9


@pytest.mark.parametrize("world", in_tiers(HARMFUL, lambda world: False))
def test_a_better_arm_that_breaks_a_rule_is_not_promoted_nor_one_at_the_margin_refused(world):
    tally = simulate(world, 100, SEED, RESAMPLES)
    if world.more_words == world.word_margin:
        assert refused(tally) <= 0.05
    else:
        assert tally.promoted == 0


def few(world):
    """The same with eight arms over a small set A."""
    return replace(world, gains=(0.0,) * 8, screen=16, shortlist_after=None)


def test_no_language_is_promoted_by_chance_however_many_there_are():
    for world in LANGUAGES_NULL[1:3]:
        tally = simulate(few(world), 40, SEED, RESAMPLES)
        assert tally.of_languages["sweep or any language"] / tally.sweeps <= 0.05


@pytest.mark.full
@pytest.mark.parametrize("world", in_tiers(LANGUAGES_NULL[1:], lambda world: True))
def test_no_language_of_many_arms_is_promoted_by_chance(world):
    tally = simulate(world, 100, SEED, RESAMPLES)
    assert tally.of_languages["any language"] / tally.sweeps <= 0.05
    assert tally.of_languages["sweep or any language"] / tally.sweeps <= 0.05


def test_an_arm_that_is_good_in_one_language_is_its_finalist_and_promoted_there():
    tally = simulate(few(ONE_LANGUAGE[0]), 20, SEED, RESAMPLES)
    assert tally.of_languages["first arm heard in first language"] == tally.sweeps
    assert tally.of_languages["first arm promoted in first language"] == tally.sweeps
    assert tally.ours.get(FIRST, 0) == 0


@pytest.mark.full
@pytest.mark.parametrize("world", in_tiers(EVERYWHERE, lambda world: True))
def test_an_arm_that_is_good_everywhere_is_found_beside_languages(world):
    tally = short(world)
    least = 0.95 if world.gains[0] >= 0.2 else 0.8
    assert tally.ours.get(FIRST, 0) / tally.sweeps >= least


@pytest.mark.parametrize("world", in_tiers(SMALL, lambda world: len(world.gains) == 1))
def test_what_is_claimed_of_the_promoted_is_right(world):
    tally = short(world)
    assert tally.claims_covered / tally.promoted >= 0.9
    assert abs(tally.bias) <= 0.02
    if world.gains[0] <= 0.05:
        assert tally.bias < tally.measured_bias - 0.01


@pytest.mark.parametrize(
    "world", in_tiers(RECIPES, lambda world: world.seed_sd == 0.05 and len(world.gains) == 6)
)
def test_a_recipe_is_better_where_its_seeds_gain(world):
    tally = simulate_recipes(replace(world, screen=16, shortlist_after=None), 120, SEED, RESAMPLES)
    better = {count: tally.found[count].get("better", 0) / tally.sweeps for count in SEEDS}
    if world.gains[0] == 0:
        assert max(better.values()) <= 0.05
        assert world.seed_sd == 0 or tally.promoted / tally.sweeps > 0.3
    elif world.seed_sd <= 0.05:
        assert better[3] >= 0.5
        assert better[8] >= 0.9
        assert abs(tally.bias[8]) <= 0.02
    if tally.promoted >= 50:
        assert min(tally.covered.values()) / tally.promoted >= 0.85
