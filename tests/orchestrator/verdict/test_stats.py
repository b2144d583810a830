"""Intervals and correlations, against numbers known from elsewhere."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from orchestrator.verdict.stats import PairedBootstrap, spearman


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


def test_a_constant_difference_has_no_spread():
    interval = PairedBootstrap(7, 100, 0.9, 0).interval(np.full(7, 0.1))
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-15)


def test_every_mean_of_two_prompts_is_one_of_three():
    interval = PairedBootstrap(2, 1000, 0.98, 0).interval(np.array([0.0, 1.0]))
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.0, 1.0)
    assert interval.includes_zero


def test_spearman_equals_scipys_with_ties():
    x, y = [1.0, 2.0, 2.0, 4.0, 5.0, 5.0], [3.0, 1.0, 4.0, 4.0, 9.0, 2.0]
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)


def test_spearman_by_hand():
    # Rank differences 0, 1, -1, 0: 1 - 6 * 2 / (4 * 15).
    assert spearman([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)


@pytest.mark.parametrize(("x", "y"), [([1, 2], [2, 1]), ([1, 1, 1], [1, 2, 3]), ([], [])])
def test_spearman_is_undefined_for_too_little(x, y):
    assert spearman(x, y) is None
