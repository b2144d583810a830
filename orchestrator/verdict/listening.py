"""The analysis of a listening test: opinion scores, paired differences, agreement of raters.

The test is that of Pov et al. 2026 (arXiv 2606.26618), section III-E: every rater scores every
system on the same sentences along three axes. Their tests treat all pairs as independent;
`two_way_interval` does not, and is the one to decide by.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, wilcoxon

from orchestrator.verdict.stats import Interval

Axis = Literal["naturalness", "prosody", "pronunciation"]
AXES: tuple[Axis, ...] = get_args(Axis)
SCALE = range(1, 6)
"""The five points of absolute category rating (ITU-T P.800, annex B)."""
RESAMPLES = 10_000
"""As many as Pov et al. 2026, section III-E."""

Level = Literal["nominal", "ordinal", "interval"]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Rating:
    """One rater's score, 1 to 5, of one system's rendering of a sentence, along one axis."""

    rater: str
    sentence: str
    system: str
    axis: Axis
    score: int


@dataclass(frozen=True, eq=False)
class Ratings:
    """Scores of shape (raters, sentences, systems, axes); NaN where nobody rated.

    A rating has all three axes or none.
    """

    raters: tuple[str, ...]
    sentences: tuple[str, ...]
    systems: tuple[str, ...]
    scores: Scores

    @classmethod
    def build(cls, rows: Sequence[Rating]) -> "Ratings":
        """Line up long rows; names are sorted, so that the order of rows does not matter.

        Raises:
            ValueError: naming every row or rating that cannot be used, one a line.
        """
        if problems := list(_problems(rows)):
            raise ValueError("\n".join(problems))
        raters, rater = _places(row.rater for row in rows)
        sentences, sentence = _places(row.sentence for row in rows)
        systems, system = _places(row.system for row in rows)
        axis = [AXES.index(row.axis) for row in rows]
        scores = np.full((len(raters), len(sentences), len(systems), len(AXES)), np.nan)
        scores[rater, sentence, system, axis] = [row.score for row in rows]
        return cls(raters, sentences, systems, scores)

    def only(self, sentences: Collection[str]) -> "Ratings":
        """Those of these sentences alone."""
        kept = [place for place, name in enumerate(self.sentences) if name in sentences]
        names = tuple(self.sentences[place] for place in kept)
        return replace(self, sentences=names, scores=self.scores[:, kept])

    def along(self, axis: Axis | None = None) -> Scores:
        """Scores along an axis, or the mean of the three: shape (raters, sentences, systems)."""
        return self.scores.mean(axis=-1) if axis is None else self.scores[..., AXES.index(axis)]

    def mos(self, system: str, axis: Axis | None = None) -> float:
        """Mean opinion score over raters and sentences, 1 to 5, of an axis or overall.

        Overall it is equation 2 of Pov et al. 2026, the mean of the three axes.

        Raises:
            ValueError: if the system was not rated.
        """
        return float(np.nanmean(self.along(axis)[..., self._place(system)]))

    def differences(self, system: str, base: str, axis: Axis | None = None) -> Scores:
        """Score of ``system`` minus that of ``base``, pair by pair: shape (raters, sentences).

        In points; positive means that ``system`` is better, NaN that a rater lacks one of the two.

        Raises:
            ValueError: if a system was not rated, or no rater heard both on one sentence.
        """
        scores = self.along(axis)
        paired = scores[..., self._place(system)] - scores[..., self._place(base)]
        if np.isnan(paired).all():
            raise ValueError(
                f"systems are compared by raters who heard both on one sentence, got no such "
                f"rating of {system!r} and {base!r}: collect paired ratings"
            )
        return paired

    def agreement(self, level: Level, axis: Axis | None = None) -> float | None:
        """Krippendorff's alpha of the raters; units are the sentences as each system spoke them."""
        return krippendorff_alpha(self.along(axis).reshape(len(self.raters), -1), level)

    def _place(self, system: str) -> int:
        if system not in self.systems:
            raise ValueError(
                f"a system is one that was rated, got {system!r}: "
                f"choose one of {', '.join(self.systems)}"
            )
        return self.systems.index(system)


def _problems(rows: Sequence[Rating]) -> Iterator[str]:
    if not rows:
        yield "a listening test has ratings, got none: collect some first"
    given = Counter((row.rater, row.sentence, row.system, row.axis) for row in rows)
    for row in rows:
        if row.axis not in AXES:
            yield (
                f"an axis is one of {', '.join(AXES)}, got {row.axis!r} at {_where(row)}: "
                "rename or remove the row"
            )
        if row.score not in SCALE:
            yield (
                f"a score is a whole number from 1 to 5, got {row.score!r} for {row.axis} at "
                f"{_where(row)}: correct or remove the row"
            )
    for row in {(row.rater, row.sentence, row.system): row for row in rows}.values():
        for axis in AXES:
            if (count := given[row.rater, row.sentence, row.system, axis]) != 1:
                yield (
                    f"a rating has one score for each axis, got {count} for {axis} at "
                    f"{_where(row)}: keep one, or remove the whole rating"
                )


def _where(row: Rating) -> str:
    return f"rater {row.rater!r}, sentence {row.sentence!r}, system {row.system!r}"


def _places(labels: Iterable[str]) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    names, places = np.unique(list(labels), return_inverse=True)
    return tuple(names.tolist()), places


def pooled_wilcoxon(differences: Scores) -> float:
    """Two-sided p of the Wilcoxon signed-rank test over all rater x sentence pairs.

    This is the test of Pov et al. 2026. It takes pairs for independent, which they are not when
    raters react differently to a system: at a nominal 5 %, with 5 raters x 20 sentences and a
    rater-by-system sd of 0.3 points, it rejects a true null in about a third of all tests
    (0.15 points: a fifth), and more raters do not help. Decide by `two_way_interval`.

    ``differences`` has any shape, NaN where there is no pair. Pairs without a difference are
    dropped, as Wilcoxon (1945) did, and p is 1 when none is left; ties share their mean rank.
    p is exact up to 50 pairs (13 when some are zero or tie), otherwise from the normal
    approximation without continuity correction.
    """
    # Equal differences of means differ in their last bits, and would then not tie.
    pairs = np.round(differences[~np.isnan(differences)], 9)
    return float(wilcoxon(pairs).pvalue) if pairs.any() else 1.0


def sentence_wilcoxon(differences: Scores) -> float:
    """`pooled_wilcoxon` over sentences, each the mean of its raters: from (raters, sentences).

    A rater's taste for a system shifts all sentences alike, so this too rejects the true null above
    in a quarter of all tests.
    """
    heard = ~np.isnan(differences).all(axis=0)
    return pooled_wilcoxon(np.nanmean(differences[:, heard], axis=0))


def pooled_interval(
    differences: Scores, seed: int, resamples: int = RESAMPLES, confidence: float = 0.95
) -> Interval:
    """Mean difference with its percentile bootstrap interval over all pairs.

    This stands for the interval of Pov et al. 2026, who do not say which bootstrap theirs is. It
    takes pairs for independent, so it is too narrow where `pooled_wilcoxon` rejects too often.
    ``n`` counts pairs.

    Raises:
        ValueError: if there are fewer than two pairs.
    """
    pairs = differences[~np.isnan(differences)]
    if len(pairs) < 2:
        raise ValueError(
            f"an interval resamples at least 2 paired ratings, got {len(pairs)}: collect more"
        )
    of_mean = bootstrap(
        (pairs,),
        np.mean,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return Interval(float(pairs.mean()), float(of_mean.low), float(of_mean.high), len(pairs))


def two_way_interval(
    differences: Scores, seed: int, resamples: int = RESAMPLES, confidence: float = 0.95
) -> Interval:
    """Mean difference with its two-way percentile bootstrap interval: the one to decide by.

    Raters and sentences are resampled independently of each other, and a pair counts as often as
    its rater times its sentence was drawn: Owen (2007), "The pigeonhole bootstrap", Annals of
    Applied Statistics 1(2). A resample that draws no pair at all is left out. ``n`` counts pairs.

    Under the null of `pooled_wilcoxon` a nominal 95 % covers 0 about as often. It covers more when
    pairs share nothing, and less with few raters who disagree about a system far more than they
    waver: 85 % for 5 raters (91 % for 8) at a rater-by-system sd of 0.6 and a residual of 0.3.

    Raises:
        ValueError: if fewer than two raters or two sentences have a pair.
    """
    paired = ~np.isnan(differences)
    by = np.ix_(paired.any(axis=1), paired.any(axis=0))
    differences, paired = differences[by], paired[by]
    raters, sentences = paired.shape
    if min(raters, sentences) < 2:
        raise ValueError(
            "a two-way interval resamples at least 2 raters and 2 sentences, got "
            f"{raters} and {sentences} with paired ratings: collect more"
        )
    rng = np.random.default_rng(seed)
    of_rater, of_sentence = (
        rng.multinomial(size, np.full(size, 1 / size), size=resamples)
        for size in (raters, sentences)
    )
    mean = float(differences[paired].mean())
    # Resampled deviations from the mean: a constant difference has exactly no spread.
    deviations = np.where(paired, differences - mean, 0.0)
    total = ((of_rater @ deviations) * of_sentence).sum(axis=1)
    count = ((of_rater @ paired.astype(float)) * of_sentence).sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(total[count > 0] / count[count > 0], (tail, 1 - tail))
    return Interval(mean, mean + float(low), mean + float(high), int(paired.sum()))


def krippendorff_alpha(values: ArrayLike, level: Level) -> float | None:
    """Agreement of raters: 1 is perfect, 0 that of chance, below 0 is systematic disagreement.

    Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": alpha is
    1 - (n - 1) sum o_ck d_ck / sum n_c n_k d_ck over pairs of values c, k, where o counts
    coincidences of values within units, n_c its row sums, n their sum and d the squared difference
    at the level of measurement: ordinal for the five points of an axis.

    ``values`` has shape (raters, units), NaN where a rater gave none; a unit with fewer than two
    values is left out. None where alpha is undefined: no such unit, or all values equal.
    """
    table = np.asarray(values, float)
    table = table[:, (~np.isnan(table)).sum(axis=0) >= 2]
    scale = np.unique(table[~np.isnan(table)])
    if len(scale) < 2:
        return None
    counts = (table[:, :, None] == scale).sum(axis=0).astype(float)  # (units, scale)
    # The diagonal also pairs each value with itself, but there the difference is 0.
    coincidences = counts.T @ (counts / (counts.sum(axis=1, keepdims=True) - 1))
    totals = counts.sum(axis=0)
    difference = _squared_differences(scale, totals, level)
    observed = (coincidences * difference).sum()
    expected = (np.outer(totals, totals) * difference).sum()
    return float(1 - (totals.sum() - 1) * observed / expected)


def _squared_differences(scale: Scores, totals: Scores, level: Level) -> Scores:
    """Krippendorff's (2011) difference functions, shape (scale, scale)."""
    if level == "nominal":
        return 1 - np.eye(len(scale))
    # The ordinal difference, all values from c to k but half of c and of k, is one of mean ranks.
    position = np.cumsum(totals) - totals / 2 if level == "ordinal" else scale
    return np.asarray(np.subtract.outer(position, position) ** 2)
