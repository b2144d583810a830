"""The ratings of a listening test, lined up by rater, sentence, system and axis.

Opinions are those of Pov et al. 2026 (arXiv 2606.26618), section III-E: every rater scores every
system on the same sentences along three axes. Comparisons are those of ITU-T P.800, annex E (CCR):
every rater hears a variant and the base side by side and says which is better, and by how much.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening.panel_stats import Scores, krippendorff_alpha
from orchestrator.verdict.outcome import AxisMeans

Axis = Literal["naturalness", "prosody", "pronunciation", "preference"]
PREFERENCE: Axis = "preference"
"""A variant against the base, side by side; the other axes are of one system alone."""
AXES: tuple[Axis, ...] = tuple(axis for axis in get_args(Axis) if axis != PREFERENCE)
SCALE = range(1, 6)
"""The five points of absolute category rating (ITU-T P.800, annex B)."""
COMPARISON_SCALE = range(-3, 4)
"""The seven of comparison category rating (annex E); above 0 the variant is better."""
Item = Literal["rating", "trap", "repeat"]


@dataclass(frozen=True)
class Rating:
    """One rater's score of one system's rendering of a sentence, along one axis: 1 to 5, or of a
    variant against the base -3 to 3."""

    rater: str
    sentence: str
    system: str
    axis: Axis
    score: int
    item: Item = "rating"
    """A ``trap`` has a known answer and may be of any sentence and system; a ``repeat`` is a
    second score of what the rater has rated. Both check the rater and count in no mean."""
    expected: int | None = None
    """The answer to a trap; None for other items."""


@dataclass(frozen=True, eq=False)
class Ratings:
    """Scores of shape (raters, sentences, systems, axes); NaN where nobody rated.

    They are opinions, of which a rating has all three axes or none, or comparisons with the base.
    """

    raters: tuple[str, ...]
    sentences: tuple[str, ...]
    systems: tuple[str, ...]
    axes: tuple[Axis, ...]
    scores: Scores
    traps: NDArray[np.intp]
    """Of each rater, the traps answered and those missed: shape (raters, 2)."""
    repeat_change: Scores
    """Of each rater, the mean distance of repeats to the first scores, in points; NaN without."""

    @classmethod
    def build(cls, rows: Sequence[Rating]) -> "Ratings":
        """Line up long rows; names are sorted, so that the order of rows does not matter.

        Raises:
            ValueError: naming every row or rating that cannot be used, one a line.
        """
        if problems := list(_problems(rows)):
            raise ValueError("\n".join(problems))
        rated = [row for row in rows if row.item == "rating"]
        raters, rater = _places(row.rater for row in rated)
        sentences, sentence = _places(row.sentence for row in rated)
        systems, system = _places(row.system for row in rated)
        axes = _axes(rated)
        axis = [axes.index(row.axis) for row in rated]
        scores = np.full((len(raters), len(sentences), len(systems), len(axes)), np.nan)
        scores[rater, sentence, system, axis] = [row.score for row in rated]
        traps, change = _checks(rows, raters)
        return cls(raters, sentences, systems, axes, scores, traps, change)

    @property
    def are_comparisons(self) -> bool:
        """Whether raters heard each system beside the base."""
        return self.axes == (PREFERENCE,)

    @property
    def scale(self) -> range:
        """What a score may be."""
        return COMPARISON_SCALE if self.are_comparisons else SCALE

    def only(self, sentences: Collection[str], raters: Collection[str] | None = None) -> "Ratings":
        """Those of these sentences alone, and of these raters; None for all raters.

        Traps and repeats are the rater's, of whatever sentence, and stay.
        """
        whose = [i for i, name in enumerate(self.raters) if raters is None or name in raters]
        kept = [i for i, name in enumerate(self.sentences) if name in sentences]
        return replace(
            self,
            raters=tuple(self.raters[i] for i in whose),
            sentences=tuple(self.sentences[i] for i in kept),
            scores=self.scores[np.ix_(whose, kept)],
            traps=self.traps[whose],
            repeat_change=self.repeat_change[whose],
        )

    def mos(self, system: str) -> float | None:
        """Mean opinion score over raters and sentences, 1 to 5; None where they are comparisons.

        It is equation 2 of Pov et al. 2026, the mean of the three axes.

        Raises:
            ValueError: if the system was not rated.
        """
        if self.are_comparisons:
            return None
        return float(np.nanmean(self._overall[..., self.place(system)]))

    def cells(self, system: str, base: str) -> Scores:
        """The scores that compare two systems, shape (raters, sentences, systems, axes).

        Raises:
            ValueError: if a system was not rated.
        """
        compared = (system,) if self.are_comparisons else (system, base)
        return np.asarray(self.scores[:, :, [self.place(name) for name in compared]])

    def by_axis(self, system: str, base: str) -> list[AxisMeans]:
        """What the axes say of two systems, over raters and sentences that have both.

        Raises:
            ValueError: if a system was not rated.
        """
        cells = self.cells(system, base)
        means = cells[~np.isnan(cells).any(axis=(2, 3))].mean(axis=0)
        return [
            AxisMeans(axis, of[0], None, None)
            if self.are_comparisons
            else AxisMeans(axis, of[0] - of[1], of[0], of[1])
            for axis, of in zip(self.axes, means.T.tolist(), strict=True)
        ]

    def differences(self, system: str, base: str) -> Scores:
        """Score of ``system`` minus that of ``base``, pair by pair: shape (raters, sentences).

        In points; positive means that ``system`` is better, NaN that a rater lacks one of the two.

        Raises:
            ValueError: if a system was not rated, or no rater heard both on one sentence.
        """
        paired = self._overall[..., self.place(system)]
        if not self.are_comparisons:
            paired = paired - self._overall[..., self.place(base)]
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
        """The mean of the axes, shape (raters, sentences, systems)."""
        return np.asarray(self.scores.mean(axis=-1))

    def place(self, system: str) -> int:
        """Where a system is along the third axis of ``scores``.

        Raises:
            ValueError: if the system was not rated.
        """
        if system not in self.systems:
            raise ValueError(
                f"a system is one that was rated, got {system!r}: "
                f"choose one of {', '.join(self.systems)}"
            )
        return self.systems.index(system)


def _checks(rows: Sequence[Rating], raters: Sequence[str]) -> tuple[NDArray[np.intp], Scores]:
    """How each rater did with traps and repeats."""
    first = {
        (row.rater, row.sentence, row.system, row.axis): row.score
        for row in rows
        if row.item == "rating"
    }
    traps = {rater: [0, 0] for rater in raters}
    changes: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        if row.item == "trap" and row.rater in traps:
            traps[row.rater][0] += 1
            traps[row.rater][1] += row.score != row.expected
        if row.item == "repeat":
            before = first[row.rater, row.sentence, row.system, row.axis]
            changes[row.rater].append(abs(row.score - before))
    change = [np.mean(changes[rater]) if changes[rater] else np.nan for rater in raters]
    return np.array([traps[rater] for rater in raters], np.intp), np.array(change, float)


def _axes(rated: Sequence[Rating]) -> tuple[Axis, ...]:
    """What is asked of each clip, or of each pair of clips."""
    return (PREFERENCE,) if any(row.axis == PREFERENCE for row in rated) else AXES


def _problems(rows: Sequence[Rating]) -> Iterator[str]:
    rated = [row for row in rows if row.item == "rating"]
    if not rated:
        yield "a listening test has ratings, got none: collect some first"
    axes = _axes(rated)
    scale = COMPARISON_SCALE if axes == (PREFERENCE,) else SCALE
    points = f"from {scale[0]} to {scale[-1]}"
    given = Counter((row.rater, row.sentence, row.system, row.axis) for row in rated)
    for row in rows:
        if row.axis not in axes:
            yield (
                f"an axis is one of {', '.join(axes)}, got {row.axis!r} at {_where(row)}: "
                "rename or remove the row"
            )
        if row.axis == PREFERENCE and row.item != "trap" and row.system == BASE_VARIANT:
            yield (
                f"a preference is of a variant over the base, got {row.system!r} at {_where(row)}: "
                "name the variant"
            )
        if row.score not in scale:
            yield (
                f"a score is a whole number {points}, got {row.score!r} for {row.axis} at "
                f"{_where(row)}: correct or remove the row"
            )
        if row.item == "trap" and row.expected not in scale:
            yield (
                f"a trap has an expected score {points}, got {row.expected!r} for {row.axis} at "
                f"{_where(row)}: give the known answer"
            )
        if row.item != "trap" and row.expected is not None:
            yield (
                f"only a trap has an expected score, got {row.expected!r} for a {row.item} at "
                f"{_where(row)}: leave it empty"
            )
        if row.item == "repeat" and not given[row.rater, row.sentence, row.system, row.axis]:
            yield (
                f"a repeat scores again what the rater has rated, got no rating of {row.axis} at "
                f"{_where(row)}: add it, or remove the repeat"
            )
    for row in {(row.rater, row.sentence, row.system): row for row in rated}.values():
        for axis in axes:
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
