"""The stage that a search may begin with: the best point where trials are cheap goes elsewhere."""

import itertools
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger import TrialRecord
from orchestrator.search.reports import PROMISE
from orchestrator.spec.model import Choice, FirstSpec, SearchSpec


@dataclass(frozen=True)
class _LastReport:
    """What a trial of the stage reported last."""

    point: dict[str, Choice]
    epoch: int
    promise: float


class FirstStage:
    """Chooses points while some keys are held at a value, and the points that follow from them.

    Where one numeric key is free, its choices are climbed: from the middle, each time the untried
    one that is nearest to the best so far. The quality of a learning rate has one peak, so the far
    side of it need not be seen.
    """

    def __init__(self, search: SearchSpec, first: FirstSpec, settled: int) -> None:
        """``settled``: what a trial promises before this epoch says nothing."""
        self._search, self._first, self._settled = search, first, settled
        self._points: list[dict[str, Choice]] = []
        """Points of the stage that were suggested."""
        self._running: set[str] = set()
        self._reports: dict[str, _LastReport] = {}
        """By trial, of those that have settled."""
        self._closed = False

    def contains(self, point: dict[str, Any]) -> bool:
        """Whether the point belongs to the stage."""
        return all(point[name] == value for name, value in self._first.hold.items())

    def next_point(self) -> dict[str, Choice] | None:
        """The point to try next; None where the sampler has to choose."""
        free = [name for name in self._search.space if name not in self._first.hold]
        listed = self._search.space[free[0]].choices if len(free) == 1 else ()
        if not listed or any(type(choice) not in (int, float) for choice in listed):
            return None
        name, choices = free[0], sorted(listed, key=_number)
        tried = {_number(point[name]) for point in self._points}
        untried = [at for at, choice in enumerate(choices) if _number(choice) not in tried]
        if not untried:
            return None
        best = max(self._reports.values(), key=lambda report: report.promise, default=None)
        centre = len(choices) // 2 if best is None else choices.index(best.point[name])
        nearest = min(untried, key=lambda at: (abs(at - centre), -at))
        chosen = {**self._first.hold, name: choices[nearest]}
        return {key: chosen[key] for key in self._search.space}

    def add(self, record: TrialRecord) -> None:
        """Take in a trial that was suggested, if it is one of the stage."""
        if self.contains(record.point) and not self.is_full:
            self._points.append(record.point)
            self._running.add(record.id)

    def report(self, record: TrialRecord, result: dict[str, Any]) -> None:
        """Take in the result of a trial's epoch."""
        if record.id in self._running and result["epoch"] >= self._settled:
            report = _LastReport(record.point, result["epoch"], result[PROMISE])
            self._reports[record.id] = report

    def end(self, record: TrialRecord) -> None:
        """A trial reports no more."""
        self._running.discard(record.id)

    def close(self) -> None:
        """Suggest no more points of the stage: there are none left."""
        self._closed = True

    @property
    def is_full(self) -> bool:
        """Whether all trials of the stage were suggested."""
        return self._closed or len(self._points) >= self._first.trials

    @property
    def is_over(self) -> bool:
        """Whether all of them have ended too."""
        return self.is_full and not self._running

    def transfers(self) -> list[dict[str, Choice]]:
        """The best point, with each other combination of the held keys' choices.

        The best is the one that came furthest, and among these promises most; none if all failed.
        """
        if not self._reports:
            return []
        best = max(self._reports.values(), key=lambda report: (report.epoch, report.promise))
        hold = self._first.hold
        products = itertools.product(*(self._search.space[name].choices for name in hold))
        combinations = [dict(zip(hold, values, strict=True)) for values in products]
        return [{**best.point, **values} for values in combinations if values != hold]


def _number(choice: Choice) -> float:
    return float(str(choice))
