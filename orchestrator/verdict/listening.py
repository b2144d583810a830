"""Listening tests: ratings, their analysis, and what they make of a verdict.

The test is that of Pov et al. 2026 (arXiv 2606.26618), section III-E: every rater scores every
system on the same sentences along three axes. Their tests treat all pairs as independent;
`two_way_interval` does not, and it decides.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wilcoxon

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.outcome import ListeningReport, Outcome, Verdict
from orchestrator.verdict.protocol import Listening, Protocol
from orchestrator.verdict.sentences import after_listening
from orchestrator.verdict.stats import Interval

Axis = Literal["naturalness", "prosody", "pronunciation"]
AXES: tuple[Axis, ...] = get_args(Axis)
SCALE = range(1, 6)
"""The five points of absolute category rating (ITU-T P.800, annex B)."""
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

    def mos(self, system: str) -> float:
        """Mean opinion score over raters and sentences, 1 to 5.

        It is equation 2 of Pov et al. 2026, the mean of the three axes.

        Raises:
            ValueError: if the system was not rated.
        """
        return float(np.nanmean(self._overall[..., self._place(system)]))

    def differences(self, system: str, base: str) -> Scores:
        """Score of ``system`` minus that of ``base``, pair by pair: shape (raters, sentences).

        In points; positive means that ``system`` is better, NaN that a rater lacks one of the two.

        Raises:
            ValueError: if a system was not rated, or no rater heard both on one sentence.
        """
        paired = self._overall[..., self._place(system)] - self._overall[..., self._place(base)]
        if np.isnan(paired).all():
            raise ValueError(
                f"systems are compared by raters who heard both on one sentence, got no such "
                f"rating of {system!r} and {base!r}: collect paired ratings"
            )
        return paired

    def agreement(self) -> float | None:
        """Krippendorff's alpha of the raters; units are the sentences as each system spoke them."""
        return krippendorff_alpha(self._overall.reshape(len(self.raters), -1))

    @property
    def _overall(self) -> Scores:
        """The mean of the three axes, shape (raters, sentences, systems)."""
        return np.asarray(self.scores.mean(axis=-1))

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


def two_way_interval(
    differences: Scores, seed: int, resamples: int, confidence: float = 0.95
) -> Interval:
    """Mean difference with its two-way percentile bootstrap interval, which decides.

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


def krippendorff_alpha(values: ArrayLike) -> float | None:
    """Agreement of raters: 1 is perfect, 0 that of chance, below 0 is systematic disagreement.

    Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": alpha is
    1 - (n - 1) sum o_ck d_ck / sum n_c n_k d_ck over pairs of values c, k, where o counts
    coincidences of values within units, n_c its row sums, n their sum and d the squared difference
    of ordinal values: of their mean ranks.

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
    ranks = np.cumsum(totals) - totals / 2
    difference = np.subtract.outer(ranks, ranks) ** 2
    observed = (coincidences * difference).sum()
    expected = (np.outer(totals, totals) * difference).sum()
    return float(1 - (totals.sum() - 1) * observed / expected)


def apply_listening_test(verdict: Verdict, ratings: Ratings, protocol: Protocol) -> Verdict:
    """Let a listening test between winner and base decide on the promotion that is pending.

    ``PROMOTE`` when enough raters and sentences give a two-way interval above 0 and a gain of
    ``listening.min_effect``; ``REGRESSION`` when the interval lies below 0; ``DO-NOT-FINE-TUNE``
    when its upper end is too small a gain. Otherwise the promotion stays pending.

    Args:
        verdict: of the metrics. One without a winner has nothing to confirm and stays as it is.
        ratings: of the winner and the base, by prompt id and variant id.
        protocol: under which the verdict was reached.

    Raises:
        ValueError: the winner and the base were not rated by two raters on two sentences.
    """
    if verdict.variant is None:
        return verdict
    differences = ratings.differences(verdict.variant, BASE_VARIANT)
    paired = ~np.isnan(differences)
    report = ListeningReport(
        difference=two_way_interval(
            differences, protocol.seed, protocol.bootstrap_resamples, protocol.confidence
        ),
        mos=ratings.mos(verdict.variant),
        base_mos=ratings.mos(BASE_VARIANT),
        raters=int(paired.any(axis=1).sum()),
        sentences=int(paired.any(axis=0).sum()),
        pooled_p=pooled_wilcoxon(differences),
        alpha=ratings.agreement(),
    )
    outcome = _outcome(report, protocol.listening)
    confirmed = outcome.startswith("PROMOTE")
    return replace(
        verdict,
        verdict=outcome,
        sentence=after_listening(outcome, report, verdict.sentence, protocol),
        variant=verdict.variant if confirmed else None,
        runner_up=verdict.runner_up if confirmed else verdict.variant,
        listening=report,
    )


def _outcome(report: ListeningReport, rule: Listening) -> Outcome:
    difference = report.difference
    if report.raters < rule.raters or report.sentences < rule.sentences:
        return "PROMOTE-PENDING-LISTENING"
    if difference.high < 0:
        return "REGRESSION"
    if difference.high <= rule.min_effect:
        return "DO-NOT-FINE-TUNE"
    if difference.low > 0 and difference.mean >= rule.min_effect:
        return "PROMOTE"
    return "PROMOTE-PENDING-LISTENING"
