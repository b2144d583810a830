"""The statistics of a judgement: what it may claim from paired differences over prompts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` prompts with its bootstrap interval, in the metric's unit."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def includes_zero(self) -> bool:
        """Whether no difference is among the plausible values."""
        return self.low <= 0 <= self.high


class PairedBootstrap:
    """Expanded percentile bootstrap of the mean over prompts.

    The percentile interval (Efron and Tibshirani 1993, section 13.3) is too narrow over few
    prompts. Its tails are widened to those that give Student's t interval for normal data
    (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3).

    The same resamples serve every difference, so that variants are compared on common draws and
    the answer depends on the seed alone, not on the order of questions.
    """

    def __init__(self, prompts: int, resamples: int, confidence: float, seed: int) -> None:
        draws = np.random.default_rng(seed).multinomial(
            prompts, np.full(prompts, 1 / prompts), size=resamples
        )
        self._weights = draws / prompts
        self._prompts, self._tail = prompts, (1 - confidence) / 2
        self._one_sided = 1 - _expanded(1 - confidence, prompts)
        # A variant's differences are asked for several times, as they are and with the other sign.
        self._resampled = lru_cache(maxsize=16)(self._sorted_means)

    def interval(self, differences: NDArray[np.float64], beside: int = 1) -> Interval:
        """The mean of paired differences, shape (prompts,), and its interval.

        With so many ``beside`` each other, all of them hold together at the confidence of one
        (Bonferroni's inequality).
        """
        mean = float(differences.mean())
        # Resampled deviations from the mean: a constant difference has exactly no spread.
        if not np.ptp(differences):
            return Interval(mean, mean, mean, len(differences))
        means = self._means(differences)
        tail = _expanded(self._tail / beside, self._prompts)
        low, high = (_quantile(means, at) for at in (tail, 1 - tail))
        return Interval(mean, mean + low, mean + high, len(differences))

    def upper(self, differences: NDArray[np.float64]) -> float:
        """The one-sided upper bound of the mean of paired differences, shape (prompts,)."""
        mean = float(differences.mean())
        if not np.ptp(differences):
            return mean
        return mean + _quantile(self._means(differences), self._one_sided)

    def _means(self, differences: NDArray[np.float64]) -> NDArray[np.float64]:
        """The resampled means less the mean, shape (resamples,), in rising order."""
        if differences[differences != 0][0] > 0:
            return self._resampled(differences.tobytes())
        return -self._resampled((-differences).tobytes())[::-1]

    def _sorted_means(self, differences: bytes) -> NDArray[np.float64]:
        values = np.frombuffer(differences)
        return np.sort(self._weights @ (values - float(values.mean())))


def _quantile(ordered: NDArray[np.float64], share: float) -> float:
    """What :func:`numpy.quantile` gives, to the bit, of values that are in order already."""
    place = (len(ordered) - 1) * share
    before = math.floor(place)
    low, high = float(ordered[before]), float(ordered[min(before + 1, len(ordered) - 1)])
    part = place - before
    return high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part


@lru_cache(maxsize=64)
def _expanded(tail: float, prompts: int) -> float:
    if prompts < 2:
        return tail
    # Only here, as all of scipy: a reader of verdicts waits.
    from scipy.special import ndtr, stdtrit

    spread = math.sqrt(prompts / (prompts - 1))
    return float(ndtr(spread * stdtrit(prompts - 1, tail)))


def crossed_mean(differences: NDArray[np.float64], confidence: float) -> tuple[Interval, float]:
    """The mean over seeds and prompts, with its interval for other seeds and other prompts.

    Model: a difference is the mean plus an effect of its seed, one of its prompt, which all seeds
    share, and a rest, each normal. The variance of the mean is at most that of the seeds' means
    over the number of seeds plus that of the prompts' means over the number of prompts, which
    count the rest twice (the denominator of min F': Clark 1973, "The language-as-fixed-effect
    fallacy", Journal of Verbal Learning and Verbal Behavior 12). Each of the two is estimated with
    degrees of freedom of its own; half the interval is the root of the sum of their squared half
    intervals, which covers with the confidence or more (Banerjee 1960, "Approximate confidence
    interval for linear functions of means of k populations when the population variances are not
    equal", Sankhya 22).

    Args:
        differences: shape (seeds, prompts), two or more of each.
        confidence: two-sided.

    Returns:
        The interval, and the standard deviation between seeds without the noise of prompts: the
        root of the variance component by analysis of variance, 0 where that is negative.
    """
    from scipy.special import stdtrit  # as in the bootstrap

    seeds, prompts = differences.shape
    mean = float(differences.mean())
    by_seed, by_prompt = differences.mean(axis=1), differences.mean(axis=0)
    between = float(by_seed.var(ddof=1))
    of_seeds, of_prompts = between / seeds, float(by_prompt.var(ddof=1)) / prompts
    rest = differences - by_seed[:, None] - by_prompt + mean
    noise = float((rest**2).sum()) / ((seeds - 1) * (prompts - 1)) / prompts
    seed_sd = math.sqrt(max(0.0, between - noise))
    of_t = stdtrit([seeds - 1, prompts - 1], (1 + confidence) / 2) ** 2
    half = math.sqrt(float(of_t @ [of_seeds, of_prompts]))
    return Interval(mean, mean - half, mean + half, prompts), seed_sd


EXACT_PAIRS = 50
"""Up to here probabilities of the signed-rank test are exact, as scipy's are without ties."""


def better_than_base(gains: NDArray[np.float64]) -> float:
    """One-sided p of the paired signed-rank test that gains, shape (prompts,), lie above 0.

    Wilcoxon (1945), zeros ranked and then dropped (Pratt 1959). Exact up to ``EXACT_PAIRS``
    gains, conditional on zeros and ties; beyond, by the normal approximation.
    """
    # Here, because a trial's process judges without it and starts half a second sooner.
    from scipy.stats import wilcoxon

    if not gains.any():
        return 1.0
    sizes = np.abs(gains)
    if len(gains) <= EXACT_PAIRS and (not gains.all() or len(np.unique(sizes)) < len(gains)):
        # Where scipy, exact without zeros and ties, would approximate.
        return _exact_signed_rank(gains[gains != 0], _ranks(sizes)[gains != 0])
    return float(wilcoxon(gains, alternative="greater", zero_method="pratt").pvalue)


def _exact_signed_rank(gains: NDArray[np.float64], ranks: NDArray[np.float64]) -> float:
    """Chance that ranks with random signs have a positive sum as large as that of ``gains``.

    Ranks and signs are the permutation distribution of Wilcoxon's statistic (Lehmann 1975, section
    3.2); the sums of doubled ranks, which are whole even for ties, are counted one rank at a time.
    """
    doubled = np.rint(2 * ranks).astype(int)
    chances = np.zeros(doubled.sum() + 1)
    chances[0] = 1.0
    for rank in doubled:
        chances[rank:] += chances[:-rank]
        chances /= 2
    return float(min(1.0, chances[doubled[gains > 0].sum() :].sum()))


def given_selection(found: Interval, threshold: float, confidence: float) -> Interval:
    """What an estimate is worth that is reported because it passed ``threshold``.

    Estimates that pass are too high on average. For a normal estimate X of an effect d, given
    X >= threshold, P(X >= found) rises with d: the effect at which it is one half is the
    median-unbiased estimate, and that at which it is the lower tail the lower limit (Zhong and
    Prentice 2008, "Bias-reduced estimators and confidence intervals for odds ratios in
    genome-wide association studies", section 2.3). Both are 0 at least: that the effect is not
    negative is what the test claims. The upper limit stays: selection only makes it safer.

    Args:
        found: the mean and its interval at ``confidence``, as if nothing had been selected.
        threshold: in the same unit, at most the mean.
        confidence: of the interval.
    """
    from scipy.optimize import brentq  # as in better_than_base
    from scipy.special import log_ndtr, ndtri

    tail = (1 - confidence) / 2
    error = (found.high - found.low) / (2 * float(ndtri(1 - tail)))
    if error == 0:
        return found

    def effect(probability: float) -> float:
        def excess(at: float) -> float:
            passed, this_high = (at - threshold) / error, (at - found.mean) / error
            return float(log_ndtr(this_high) - log_ndtr(passed)) - math.log(probability)

        far = max(found.high, 0.0) + 10 * error
        return 0.0 if excess(0.0) >= 0 else float(brentq(excess, 0.0, far))

    return Interval(effect(0.5), effect(tail), found.high, found.n)


def holm_steps(p_values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """What share of the level each of several tests is held to, at its place in Holm's order.

    A test has its weight's share among the tests that are left when its turn comes, the smallest
    p over weight first ("A simple sequentially rejective multiple test procedure", Holm 1979,
    section 4).

    Args:
        p_values: of the tests.
        weights: of the tests, above 0.
    """
    ratios = [p / weight for p, weight in zip(p_values, weights, strict=True)]
    return [
        weight / sum(w for w, other in zip(weights, ratios, strict=True) if other >= ratio)
        for weight, ratio in zip(weights, ratios, strict=True)
    ]


def holm(p_values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The p-values adjusted so that all of them together err at the level of one (Holm 1979).

    Args:
        p_values: of the tests.
        weights: as of :func:`holm_steps`; equal ones give the usual adjustment.
    """
    steps = holm_steps(p_values, weights)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i] / weights[i])
    adjusted, highest = [1.0] * len(p_values), 0.0
    for i in order:
        highest = max(highest, p_values[i] / steps[i])
        adjusted[i] = min(1.0, highest)
    return adjusted


def prompts_needed(spread: float, effect: float, level: float, power: float = 0.8) -> int:
    """How many prompts show ``effect`` with this power at the ``level`` of one test.

    The normal formula for a paired mean, 5 % more for the signed-rank test (its asymptotic
    relative efficiency on normal data is 3/pi; Lehmann 1975, section 2.4).

    Args:
        spread: standard deviation of the paired differences, in the metric's unit.
        effect: the mean difference to be shown, in the same unit, above 0.
        level: of the test, its share of the significance.
        power: chance of showing the effect if it is there.
    """
    from scipy.special import ndtri

    z = float(ndtri(1 - level) + ndtri(power))
    return math.ceil(math.pi / 3 * (z * spread / effect) ** 2)


def prompts_to_clear(half: float, room: float, prompts: int, confidence: float) -> int | None:
    """How many prompts bring a one-sided bound to one side of a limit, with a power of 0.8.

    Args:
        half: by how much the bound at ``confidence`` now exceeds the mean.
        room: distance of the mean from the limit, in the same unit, on either side.
        prompts: how many there are now.
        confidence: of the bound.

    Returns:
        None if more than a thousand times as many would be needed.
    """
    from scipy.special import ndtri

    z, power = float(ndtri(confidence)), float(ndtri(0.8))
    # The bound comes nearer to its mean with the root of the number of prompts.
    times = math.inf if room == 0 else (half / abs(room) * (1 + power / z)) ** 2
    return math.ceil(prompts * times) if times <= 1000 else None


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Rank correlation, ties at their mean rank (Spearman 1904).

    None where it is undefined: fewer than three points, or all of one side equal.
    """
    ranks_x, ranks_y = _ranks(np.asarray(x, float)), _ranks(np.asarray(y, float))
    if len(ranks_x) < 3 or np.ptp(ranks_x) == 0 or np.ptp(ranks_y) == 0:
        return None
    return float(np.corrcoef(ranks_x, ranks_y)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place])
