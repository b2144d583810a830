"""Intervals and correlations, against numbers known from elsewhere."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr, t, wilcoxon

from orchestrator.verdict.stats import (
    EXACT_PAIRS,
    Interval,
    PairedBootstrap,
    _expanded,
    better_than_base,
    crossed_mean,
    given_selection,
    holm,
    holm_steps,
    prompts_to_clear,
    spearman,
)


def test_the_bootstrap_is_the_same_for_the_same_seed_only():
    differences = np.random.default_rng(0).normal(0.1, 0.2, 30)
    first, again, other = (
        PairedBootstrap(30, 400, 0.95, seed).interval(differences) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first.mean == other.mean


def test_the_interval_is_close_to_the_normal_one_for_many_prompts():
    differences = np.random.default_rng(3).normal(0.1, 0.25, 400)
    interval = PairedBootstrap(400, 4000, 0.95, 0).interval(differences)
    half = 1.96 * differences.std() / 20
    assert interval.low == pytest.approx(interval.mean - half, abs=0.003)
    assert interval.high == pytest.approx(interval.mean + half, abs=0.003)
    assert interval.n == 400


def test_bounds_are_numpys_quantiles_of_all_resampled_means_to_the_bit():
    """Of differences with either sign, asked for in any order."""
    chance = np.random.default_rng(5)
    for prompts in (5, 16, 48):
        bootstrap, tail = (
            PairedBootstrap(prompts, 1000, 0.95, 3),
            _expanded((1 - 0.95) / 2, prompts),
        )
        for differences in chance.normal(0.1, 0.3, (40, prompts)).round(2):
            mean = float(differences.mean())
            means = bootstrap._weights @ (differences - mean)
            low, high = np.quantile(means, (tail, 1 - tail))
            one_sided = mean + float(np.quantile(means, bootstrap._one_sided))
            negative = bootstrap.upper(-differences)
            assert negative == -mean + float(np.quantile(-means, bootstrap._one_sided))
            interval = bootstrap.interval(differences)
            assert (interval.low, interval.high) == (mean + float(low), mean + float(high))
            assert bootstrap.upper(differences) == one_sided


def test_a_constant_difference_has_no_spread():
    interval = PairedBootstrap(7, 100, 0.9, 0).interval(np.full(7, 0.1))
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-15)


def test_every_mean_of_two_prompts_is_one_of_three():
    interval = PairedBootstrap(2, 1000, 0.98, 0).interval(np.array([0.0, 1.0]))
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.0, 1.0)
    assert interval.includes_zero


def enumerated(gains):
    """The chance over all signs of the gains that are not 0, with Pratt's ranks."""
    gains = np.asarray(gains, float)
    ranks = rankdata(np.abs(gains))[gains != 0]
    signs = np.array(list(product((0, 1), repeat=len(ranks))))
    observed = ranks[gains[gains != 0] > 0].sum()
    return float((signs @ ranks >= observed - 1e-9).mean())


@pytest.mark.parametrize(
    "gains",
    [
        (0.1, 0.2, 0.3, 0.4, 0.5, 0, 0, 0),
        (1, 1, 1, 1, 1),
        (1, -1, 2, 2, 0, 3, -3, 3, 0, 4),
        (-1, -1, 0, 0, 2),
        (*(0.5,) * 9, -0.5, 0, 1, 1, -2),
    ],
)
def test_with_zeros_and_ties_the_probability_is_that_of_all_signs(gains):
    assert better_than_base(np.array(gains, float)) == pytest.approx(enumerated(gains), abs=1e-12)


def test_five_gains_and_no_loss_are_one_in_thirty_two():
    for zeros in range(20):
        gains = np.array([0.1, 0.2, 0.3, 0.4, 0.5, *[0.0] * zeros])
        assert better_than_base(gains) == 1 / 32
    assert better_than_base(np.zeros(5)) == 1.0


def test_without_zeros_and_ties_it_is_scipys_exact_one():
    gains = np.random.default_rng(0).normal(0.1, 0.3, 25)
    exact = wilcoxon(gains, alternative="greater", method="exact").pvalue
    assert better_than_base(gains) == exact
    tied = np.append(gains, [0.2, 0.2])
    # The approximation is near by, and takes over where there are many.
    assert better_than_base(tied) == pytest.approx(
        wilcoxon(tied, alternative="greater", method="asymptotic").pvalue, rel=0.05
    )
    many = np.repeat(gains, 3)
    assert len(many) > EXACT_PAIRS
    assert better_than_base(many) == pytest.approx(
        wilcoxon(many, alternative="greater", zero_method="pratt").pvalue, abs=0
    )


def test_spearman_equals_scipys_with_ties():
    x, y = [1.0, 2.0, 2.0, 4.0, 5.0, 5.0], [3.0, 1.0, 4.0, 4.0, 9.0, 2.0]
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)


def test_spearman_by_hand():
    # Rank differences 0, 1, -1, 0: 1 - 6 * 2 / (4 * 15).
    assert spearman([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)


@pytest.mark.parametrize(("x", "y"), [([1, 2], [2, 1]), ([1, 1, 1], [1, 2, 3]), ([], [])])
def test_spearman_is_undefined_for_too_little(x, y):
    assert spearman(x, y) is None


def test_an_estimate_far_above_its_threshold_stays():
    found = Interval(1.0, 0.9, 1.1, 50)
    claim = given_selection(found, 0.2, 0.95)
    assert (claim.mean, claim.low, claim.high) == pytest.approx((1.0, 0.9, 1.1))


def test_an_estimate_at_its_threshold_claims_nothing():
    claim = given_selection(Interval(0.1, 0.01, 0.19, 50), 0.1 - 1e-6, 0.95)
    assert (claim.mean, claim.low, claim.high) == (0.0, 0.0, 0.19)


@pytest.mark.parametrize("true", [0.03, 0.05, 0.10])
def test_claims_are_right_among_those_that_passed(true):
    """The plain estimate is 0.035, 0.021 and 0.002 too high."""
    error, threshold = 0.0255, 0.05
    drawn = np.random.default_rng(5).normal(true, error, 4000)
    passed = [mean for mean in drawn if mean >= threshold][:400]
    claims = [
        given_selection(Interval(m, m - 1.96 * error, m + 1.96 * error, 96), threshold, 0.95)
        for m in passed
    ]
    assert abs(np.mean([claim.mean for claim in claims]) - true) < 0.008
    assert np.mean([claim.low <= true <= claim.high for claim in claims]) >= 0.95


def test_prompts_to_clear_a_limit_by_hand():
    # Twice as near, with z 1.645 + 0.842 in place of 1.645.
    assert prompts_to_clear(0.2, 0.1, 10, 0.95) == math.ceil(10 * (2 * 2.4865 / 1.6449) ** 2)
    assert prompts_to_clear(0.2, -0.1, 10, 0.95) == prompts_to_clear(0.2, 0.1, 10, 0.95)
    assert prompts_to_clear(0.2, 0.0, 10, 0.95) is None


def test_intervals_beside_each_other_are_those_of_a_higher_confidence():
    differences = np.random.default_rng(2).normal(0.1, 0.3, 30)
    five = PairedBootstrap(30, 2000, 0.95, 3).interval(differences, beside=5)
    assert five == PairedBootstrap(30, 2000, 0.99, 3).interval(differences)


def test_weights_share_the_level_and_what_is_found_leaves_its_share_to_the_others():
    """By hand: a is tested at 1/2 of the level, then b and c at 1/2 each of all of it."""
    p, weights = [0.01, 0.02, 0.5], [0.5, 0.25, 0.25]
    assert holm_steps(p, weights) == [0.5, 0.5, 1.0]
    assert holm(p, weights) == [0.02, 0.04, 0.5]
    # With a third of the whole level each, Holm's usual adjustment: 3 x 0.01, 2 x 0.03, 1 x 0.04.
    assert holm([0.01, 0.04, 0.03], [1 / 3] * 3) == pytest.approx([0.03, 0.06, 0.06])


def test_a_crossed_mean_by_hand():
    """Two seeds, three prompts: both parts are Student's, and their squares add."""
    values = np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 4.0]])
    interval, seed_sd = crossed_mean(values, 0.9)
    # Seeds' means 3 and 3: nothing between them. Prompts' means 2, 2 and 5: a variance of 3.
    half = float(t.ppf(0.95, 2)) * math.sqrt(3 / 3)
    assert (interval.mean, interval.n, seed_sd) == (3.0, 3, 0.0)
    assert interval.high - interval.mean == pytest.approx(half)
    values[1] += 2
    interval, seed_sd = crossed_mean(values, 0.9)
    # Seeds' means 3 and 5: a variance of 2, and 2/3 of it is the noise of prompts.
    half = math.hypot(half, float(t.ppf(0.95, 1)) * math.sqrt(2 / 2))
    assert interval.mean - interval.low == pytest.approx(half)
    assert seed_sd == pytest.approx(math.sqrt(2 - 4 / 2 / 3))


@pytest.mark.parametrize("seed_sd", [0.0, 0.05, 0.1])
def test_a_crossed_mean_covers_other_seeds_and_prompts(seed_sd):
    rng, covered, missed_below = np.random.default_rng(1), 0, 0
    for _ in range(1000):
        values = 0.1 + seed_sd * rng.normal(size=(3, 1)) + 0.15 * rng.normal(size=(1, 40))
        interval, _ = crossed_mean(values + 0.15 * rng.normal(size=(3, 40)), 0.9)
        covered += interval.low <= 0.1 <= interval.high
        missed_below += interval.low > 0.1
    assert covered >= 900
    assert missed_below <= 55
