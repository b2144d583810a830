"""The statistics of a judgement: what it may claim from paired differences over prompts."""

from dataclasses import dataclass

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
    """Percentile bootstrap of the mean over prompts (Efron and Tibshirani 1993, section 13.3).

    The same resamples serve every difference, so that variants are compared on common draws and
    the answer depends on the seed alone, not on the order of questions.
    """

    def __init__(self, prompts: int, resamples: int, confidence: float, seed: int) -> None:
        draws = np.random.default_rng(seed).multinomial(
            prompts, np.full(prompts, 1 / prompts), size=resamples
        )
        self._weights = draws / prompts
        tail = (1 - confidence) / 2
        self._quantiles = (tail, 1 - tail)

    def interval(self, differences: NDArray[np.float64]) -> Interval:
        """The mean of paired differences, shape (prompts,), and its interval."""
        mean = float(differences.mean())
        # Resampled deviations from the mean: a constant difference has exactly no spread.
        low, high = np.quantile(self._weights @ (differences - mean), self._quantiles)
        return Interval(mean, mean + float(low), mean + float(high), len(differences))


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
