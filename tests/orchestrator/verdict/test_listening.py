"""Listening tests small enough for paper, and many simulated ones in which no system is better."""

from dataclasses import replace
from math import erfc

import numpy as np
import pytest

from orchestrator.verdict.listening import (
    AXES,
    Rating,
    Ratings,
    krippendorff_alpha,
    pooled_interval,
    pooled_wilcoxon,
    sentence_wilcoxon,
    two_way_interval,
)

GAP = np.nan


def rows_of(scores):
    """Long rows from {(rater, sentence, system): (naturalness, prosody, pronunciation)}."""
    return [
        Rating(*key, axis, score)
        for key, three in scores.items()
        for axis, score in zip(AXES, three, strict=True)
    ]


ROWS = rows_of(
    {
        ("ann", "s1", "base"): (3, 3, 3),
        ("ann", "s2", "base"): (4, 3, 2),
        ("bob", "s1", "base"): (2, 2, 5),
        ("ann", "s1", "tuned"): (4, 5, 3),
        ("ann", "s2", "tuned"): (4, 4, 4),
        ("bob", "s1", "tuned"): (3, 3, 3),
        ("bob", "s2", "tuned"): (5, 5, 5),
        ("bob", "s2", "other"): (1, 1, 1),
    }
)


@pytest.fixture
def ratings():
    return Ratings.build(ROWS)


def test_the_order_of_rows_does_not_matter(ratings):
    again = Ratings.build(ROWS[::-1])
    assert ratings.raters == again.raters == ("ann", "bob")
    assert ratings.sentences == again.sentences == ("s1", "s2")
    assert ratings.systems == again.systems == ("base", "other", "tuned")
    np.testing.assert_array_equal(ratings.scores, again.scores)
    np.testing.assert_array_equal(ratings.scores[0, 1, 0], (4, 3, 2))
    assert np.isnan(ratings.scores[1, 1, 0]).all()


def test_mos_is_the_mean_over_axes_then_raters_and_sentences(ratings):
    assert ratings.mos("base") == pytest.approx(3)
    assert ratings.mos("tuned") == pytest.approx(4)
    assert ratings.mos("base", "naturalness") == pytest.approx(9 / 3)
    assert ratings.mos("base", "prosody") == pytest.approx(8 / 3)
    assert ratings.mos("base", "pronunciation") == pytest.approx(10 / 3)


def test_differences_are_paired_by_rater_and_sentence(ratings):
    np.testing.assert_array_equal(ratings.differences("tuned", "base"), [[1, 1], [0, GAP]])
    np.testing.assert_array_equal(
        ratings.differences("base", "tuned", "prosody"), [[-2, -1], [-1, GAP]]
    )


def test_systems_that_no_rater_heard_both_are_not_compared(ratings):
    with pytest.raises(ValueError, match="got no such rating of 'other' and 'base'"):
        ratings.differences("other", "base")


def test_an_unknown_system_is_named(ratings):
    with pytest.raises(ValueError, match="got 'tunde': choose one of base, other, tuned"):
        ratings.mos("tunde")


def test_every_problem_is_told_at_once():
    first, second, *others = ROWS
    rows = [replace(first, score=6), first, replace(second, axis="melody"), *others]
    rows.append(replace(others[-1], score=2.5, sentence="s1"))
    with pytest.raises(ValueError, match="score") as error:
        Ratings.build(rows)
    ann = "rater 'ann', sentence 's1', system 'base'"
    bob = "rater 'bob', sentence 's1', system 'other'"
    once = "a rating has one score for each axis"
    assert [problem.rpartition(":")[0] for problem in str(error.value).splitlines()] == [
        f"a score is a whole number from 1 to 5, got 6 for naturalness at {ann}",
        f"an axis is one of {', '.join(AXES)}, got 'melody' at {ann}",
        f"a score is a whole number from 1 to 5, got 2.5 for pronunciation at {bob}",
        f"{once}, got 2 for naturalness at {ann}",
        f"{once}, got 0 for prosody at {ann}",
        f"{once}, got 0 for naturalness at {bob}",
        f"{once}, got 0 for prosody at {bob}",
    ]


def test_no_ratings_are_no_listening_test():
    with pytest.raises(ValueError, match="got none"):
        Ratings.build([])


def test_the_signed_rank_test_by_hand():
    # The smaller rank sum is 4; 7 of the 16 sets of ranks 1 to 4 sum to no more.
    assert pooled_wilcoxon(np.array([[1.0, 2.0], [3.0, -4.0]])) == pytest.approx(14 / 16)


def test_pairs_without_a_difference_or_a_partner_are_dropped():
    pairs = np.array([[1.0, 0.0, 2.0], [3.0, -4.0, GAP]])
    assert pooled_wilcoxon(pairs) == pytest.approx(14 / 16)
    assert pooled_wilcoxon(np.zeros((5, 20))) == 1


def test_equal_differences_of_means_tie_whatever_their_last_bits():
    thirds = np.array([x / 3 - (x - 1) / 3 for x in (4, 5, 8, 11, 14)] + [4 / 3 - 5 / 3])
    assert len(set(np.abs(thirds))) > 1
    # One minus among six equal ranks: at most one minus in 7 of the 64 patterns of signs.
    assert pooled_wilcoxon(thirds) == pytest.approx(14 / 64)


def test_a_hundred_pairs_are_tested_with_the_normal_approximation():
    # Ranks 1 to 100 with every fourth one negative: W- = 4 * (1 + ... + 25) = 1300.
    differences = np.arange(1.0, 101) * np.where(np.arange(1, 101) % 4 == 0, -1, 1)
    z = (1300 - 100 * 101 / 4) / np.sqrt(100 * 101 * 201 / 24)
    two_tails = erfc(-z / np.sqrt(2))
    assert pooled_wilcoxon(differences.reshape(5, 20)) == pytest.approx(two_tails, rel=1e-9)


def test_the_sentence_mean_test_ranks_sentences():
    # Means 1, 2, 3, -4 and a sentence that nobody heard twice.
    differences = np.array([[0.0, 1.0, 3.0, GAP, GAP], [2.0, 3.0, 3.0, -4.0, GAP]])
    assert sentence_wilcoxon(differences) == pytest.approx(14 / 16)


@pytest.mark.parametrize("interval", [pooled_interval, two_way_interval])
def test_an_interval_is_the_same_for_the_same_seed_only(interval):
    differences = np.random.default_rng(0).normal(0.2, 0.5, (5, 20))
    first, again, other = (interval(differences, seed, 500) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first.mean == other.mean == pytest.approx(differences.mean())
    assert first.n == 100


@pytest.mark.parametrize("interval", [pooled_interval, two_way_interval])
def test_a_constant_difference_has_no_spread(interval):
    found = interval(np.array([[0.1, 0.1], [0.1, GAP]]), 0, 100)
    assert (found.low, found.mean, found.high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-12)
    assert found.n == 3


@pytest.mark.parametrize("whose", ["raters", "sentences"])
def test_only_the_two_way_interval_knows_that_pairs_share_a_rater_and_a_sentence(whose):
    # Two raters of opposite taste, alike on 20 sentences: a quarter of resamples holds one twice.
    differences = np.repeat([[-1.0], [1.0]], 20, axis=1)
    if whose == "sentences":
        differences = differences.T
    two_way = two_way_interval(differences, 0, 1000)
    assert (two_way.low, two_way.mean, two_way.high) == (-1, 0, 1)
    pooled = pooled_interval(differences, 0, 1000)
    # The mean of 40 signs has sd 1 / sqrt(40).
    assert (pooled.low, pooled.high) == pytest.approx((-1.96 / 40**0.5, 1.96 / 40**0.5), abs=0.05)


def test_the_two_way_interval_equals_one_drawn_pair_by_pair():
    rng = np.random.default_rng(4)
    differences = rng.normal(0.2, 0.5, (6, 8)) + rng.normal(0, 0.4, (6, 1))
    differences[rng.random((6, 8)) < 0.3] = GAP
    means = [
        np.nanmean(differences[np.ix_(rng.integers(6, size=6), rng.integers(8, size=8))])
        for _ in range(8000)
    ]
    interval = two_way_interval(differences, 0, 8000)
    low, high = np.quantile(means, (0.025, 0.975))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.03)
    assert high - low > 0.6
    assert interval.n == np.isfinite(differences).sum()


def test_resamples_without_a_pair_are_left_out():
    # Of 16 resamples 5 have the mean 0, 4 have 1/2, 5 have 1 and 2 have none: 0 reaches up to the
    # quantile 5 / 14, but only up to 5 / 16 if those without a pair counted as something between.
    differences = np.array([[0.0, GAP, GAP], [GAP, 1.0, GAP]])
    interval = two_way_interval(differences, 0, 20_000, confidence=1 - 2 * 0.335)
    assert (interval.low, interval.mean, interval.high, interval.n) == (0, 0.5, 1, 2)


def test_one_pair_has_no_interval():
    with pytest.raises(ValueError, match="at least 2 paired ratings, got 1"):
        pooled_interval(np.array([[1.0, GAP]]), 0)


@pytest.mark.parametrize("differences", [[[1.0, 2.0], [GAP, GAP]], [[1.0, GAP], [2.0, GAP]]])
def test_one_rater_or_one_sentence_tells_nothing_of_others(differences):
    with pytest.raises(ValueError, match="at least 2 raters and 2 sentences, got"):
        two_way_interval(np.array(differences), 0)


def test_under_the_null_only_the_two_way_interval_keeps_its_promise():
    # 5 raters x 20 sentences; sd of a rater's taste for a system 0.3, of how well a system does on
    # a sentence 0.25, of a score 0.7, which are the differences' sds up to one common factor.
    runs, rng = 500, np.random.default_rng(0)
    rejected = covered = 0
    for seed in range(runs):
        differences = (
            rng.normal(0, 0.3, (5, 1)) + rng.normal(0, 0.25, (1, 20)) + rng.normal(0, 0.7, (5, 20))
        )
        rejected += pooled_wilcoxon(differences) < 0.05
        covered += two_way_interval(differences, seed, 500).includes_zero
    assert rejected / runs > 0.15
    assert covered / runs >= 0.9


# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": 4 observers, 12 units.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, GAP, GAP, GAP],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAP, 3],
        [GAP, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAP],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAP],
    ]
)


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_is_krippendorffs(level, published):
    assert krippendorff_alpha(OBSERVERS, level) == pytest.approx(published, abs=0.0005)


def test_nominal_alpha_by_hand():
    # Coincidences, unit by unit; the last unit has one value and drops out.
    third = 1 / 3
    coincidences = np.array(
        [
            [3 + 2 + 2, 1 + third, third, third, 0],
            [1 + third, 2 + 4 + 4, 1 + third, third, 0],
            [third, 1 + third, 4 + 4, third, 0],
            [third, third, third, 4, 0],
            [0, 0, 0, 0, 3],
        ]
    )
    totals = coincidences.sum(axis=1)
    np.testing.assert_allclose(totals, [9, 13, 10, 5, 3])
    # 39 * 32 agreements against 9*8 + 13*12 + 10*9 + 5*4 + 3*2 = 344 by chance, of 40 * 39.
    by_hand = (39 * 32 - 344) / (40 * 39 - 344)
    assert (39 * np.trace(coincidences) - totals @ (totals - 1)) / 1216 == pytest.approx(by_hand)
    assert krippendorff_alpha(OBSERVERS, "nominal") == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_of_perfect_and_of_opposite_raters(level):
    assert krippendorff_alpha([[1, 2, 5, GAP], [1, 2, 5, 4]], level) == pytest.approx(1)
    # Four coincidences, all of 1 with 2, where chance has 2 * 2 * 2 of 4 * 3: 1 - 3 * 4 / 8.
    assert krippendorff_alpha([[1, 2], [2, 1]], level) == pytest.approx(-0.5)


@pytest.mark.parametrize("values", [[[3, 3], [3, 3]], [[1, GAP], [GAP, 2]]])
def test_alpha_is_undefined_without_variation_or_without_a_pair(values):
    assert krippendorff_alpha(values, "ordinal") is None


def test_agreement_is_over_the_sentences_as_each_system_spoke_them(ratings):
    # Both heard s1 of base, s1 and s2 of tuned. Overall 3 3, 4 3, 4 5: squared differences are
    # 2 (0 + 1 + 1) in coincidences and 2 (3*2*1 + 3*1*4 + 2*1*1) by chance.
    assert ratings.agreement("interval") == pytest.approx(1 - 5 * 4 / 40)
    # Prosody 3 2, 5 3, 4 5.
    assert ratings.agreement("interval", "prosody") == pytest.approx(1 - 5 * 12 / 88)
