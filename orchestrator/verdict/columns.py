"""Scores of many clips as columns, eight bytes a score: a million clips in tens of megabytes."""

import math
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from jobs.metrics.base import ClipScores

Values = NDArray[np.float64]
ClipKey = tuple[str, int]
"""Prompt id and seed."""


@dataclass(frozen=True)
class VariantColumns:
    """The scores of one variant's clips."""

    clips: NDArray[np.intp]
    """The place of each clip among all keys."""
    values: Mapping[str, Values]
    """By metric, shape (clips,), NaN where there is none."""
    failures: Mapping[str, Mapping[ClipKey, str]]
    """Metric, then clip, to the reason why it has no value."""


@dataclass(frozen=True)
class ScoreColumns:
    """The scores of all variants' clips."""

    keys: tuple[ClipKey, ...]
    variants: Mapping[str, VariantColumns]

    @classmethod
    def of(cls, clips: Iterable[ClipScores]) -> "ScoreColumns":
        """The scores of these clips."""
        collector = ScoreCollector()
        for clip in clips:
            collector.add(clip.variant, clip.prompt, clip.seed, clip.values, clip.failures)
        return collector.columns()

    def clips(self) -> Iterator[ClipScores]:
        """The scores clip by clip, variant after variant."""
        for variant, of in self.variants.items():
            for row, place in enumerate(of.clips):
                key = self.keys[place]
                values = {n: float(v[row]) for n, v in of.values.items() if not math.isnan(v[row])}
                failures = {name: why[key] for name, why in of.failures.items() if key in why}
                yield ClipScores(variant, key[0], key[1], values, failures)

    def speaks(self, variant: str, prompts: Collection[str]) -> bool:
        """Whether there is a clip of one of these prompts by the variant."""
        return any(self.keys[place][0] in prompts for place in self.variants[variant].clips)

    def part(self, prompts: Collection[str], variants: Collection[str]) -> "ScoreColumns":
        """Only the clips of these prompts, by those of these variants that have any."""
        wanted = np.array([prompt in prompts for prompt, _ in self.keys], bool)
        parts = {}
        for name in variants:
            of = self.variants.get(name)
            if of is None or not (rows := wanted[of.clips]).any():
                continue
            failures = {
                metric: {key: why for key, why in reasons.items() if key[0] in prompts}
                for metric, reasons in of.failures.items()
            }
            parts[name] = VariantColumns(
                of.clips[rows], {m: v[rows] for m, v in of.values.items()}, failures
            )
        return ScoreColumns(self.keys, parts)


class ScoreCollector:
    """Makes columns of clips that come one by one."""

    def __init__(self) -> None:
        self._places: dict[ClipKey, int] = {}
        # Python 3.11 cannot evaluate array[int], and pdoc evaluates annotations.
        self._clips = defaultdict[str, "array[int]"](lambda: array("q"))
        self._values = defaultdict[str, "dict[str, array[float]]"](dict)
        self._failures: defaultdict[str, dict[str, dict[ClipKey, str]]] = defaultdict(dict)

    def add(
        self,
        variant: str,
        prompt: str,
        seed: int,
        values: Mapping[str, float],
        failures: Mapping[str, str],
    ) -> None:
        """Add the scores of one clip."""
        key = (prompt, seed)
        clips, columns = self._clips[variant], self._values[variant]
        row = len(clips)
        clips.append(self._places.setdefault(key, len(self._places)))
        for metric, value in values.items():
            column = columns.get(metric)
            if column is None:
                column = columns[metric] = array("d")
            if row > len(column):
                column.extend(repeat(math.nan, row - len(column)))
            column.append(value)
        for metric, why in failures.items():
            self._failures[variant].setdefault(metric, {})[key] = why

    def columns(self) -> ScoreColumns:
        """All that was added; nothing more can be added afterwards."""
        return ScoreColumns(
            tuple(self._places),
            {
                variant: VariantColumns(
                    np.frombuffer(clips, np.intp),
                    {
                        metric: _padded(column, len(clips))
                        for metric, column in self._values[variant].items()
                    },
                    self._failures[variant],
                )
                for variant, clips in self._clips.items()
            },
        )


def _padded(column: "array[float]", rows: int) -> Values:
    column.extend(repeat(math.nan, rows - len(column)))
    return np.frombuffer(column)
