"""The stage that a search may begin with: what is best where it is cheap goes everywhere else."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger import TrialRecord
from orchestrator.search.reports import PROMISE
from orchestrator.spec.model import Choice, FirstSpec, SearchSpec


@dataclass(frozen=True)
class _Known:
    """The last that a trial of the stage reported."""

    point: dict[str, Choice]
    epoch: int
    promise: float


class FirstStage:
    """Says what to try next while some keys are held, and what follows from it.

    Where one numeric key is left, its choices are climbed: from the middle, each time the untried
    one that is nearest to the best so far. How good a learning rate is has one peak, so the far
    side of it need not be seen.
    """

    def __init__(self, search: SearchSpec, first: FirstSpec, settled: int) -> None:
        """``settled``: what a trial promises before this epoch says nothing."""
        self._search, self._first, self._settled = search, first, settled
        self._points: list[dict[str, Choice]] = []
        """That were suggested."""
        self._running: set[str] = set()
        self._known: dict[str, _Known] = {}
        """By trial, of those that have settled."""
        self._closed = False

    def holds(self, point: dict[str, Any]) -> bool:
        """Whether the point belongs to the stage."""
        return all(point[name] == value for name, value in self._first.hold.items())

    def next(self) -> dict[str, Choice] | None:
        """The point to try next; None if a sampler must say."""
        free = [name for name in self._search.space if name not in self._first.hold]
        if len(free) != 1 or not _are_numbers(self._search.space[free[0]].choices):
            return None
        (name,) = free
        choices = sorted(self._search.space[name].choices, key=_number)
        tried = {_number(point[name]) for point in self._points}
        left = [at for at, choice in enumerate(choices) if _number(choice) not in tried]
        if not left:
            return None
        best = max(self._known.values(), key=lambda known: known.promise, default=None)
        centre = len(choices) // 2 if best is None else choices.index(best.point[name])
        nearest = min(left, key=lambda at: (abs(at - centre), -at))
        return {
            key: choices[nearest] if key == name else self._first.hold[key]
            for key in self._search.space
        }

    def ask(self, record: TrialRecord) -> None:
        """A trial was suggested, perhaps one of the stage."""
        if self.holds(record.point) and not self.is_asked:
            self._points.append(record.point)
            self._running.add(record.id)

    def report(self, record: TrialRecord, result: dict[str, Any]) -> None:
        """A trial finished an epoch."""
        if record.id in self._running and result["epoch"] >= self._settled:
            known = _Known(record.point, result["epoch"], result[PROMISE])
            self._known[record.id] = known

    def end(self, record: TrialRecord) -> None:
        """A trial will report no more."""
        self._running.discard(record.id)

    def close(self) -> None:
        """There are no more points for it."""
        self._closed = True

    @property
    def is_asked(self) -> bool:
        """Whether all its trials were suggested."""
        return self._closed or len(self._points) >= self._first.trials

    @property
    def is_over(self) -> bool:
        """Whether all of them have ended too."""
        return self.is_asked and not self._running

    def elsewhere(self) -> list[dict[str, Choice]]:
        """The best point, with each other combination of the held keys' choices.

        The best is what came furthest, and among these what promises most; none if all failed.
        """
        if not self._known:
            return []
        best = max(self._known.values(), key=lambda known: (known.epoch, known.promise))
        hold = self._first.hold
        products = itertools.product(*(self._search.space[name].choices for name in hold))
        combinations = [dict(zip(hold, values, strict=True)) for values in products]
        return [{**best.point, **values} for values in combinations if values != hold]


def _are_numbers(choices: Sequence[Choice]) -> bool:
    return bool(choices) and all(type(choice) in (int, float) for choice in choices)


def _number(choice: Choice) -> float:
    return float(str(choice))
