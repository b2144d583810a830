"""The stage that a search may begin with: what is best where it is cheap goes everywhere else."""

import itertools
from typing import Any

from orchestrator.ledger import TrialRecord
from orchestrator.spec import Choice, FirstSpec, SearchSpec
from orchestrator.tuning.reports import PROMISE


class FirstStage:
    """Counts the trials of the stage, and knows the best of them when they have ended."""

    def __init__(self, search: SearchSpec, first: FirstSpec) -> None:
        self._search, self._first = search, first
        self._running: set[str] = set()
        self._count = 0
        """Of the stage's trials that were suggested."""
        self._ended: dict[str, tuple[int, float, dict[str, Choice]]] = {}
        """By trial: the epoch it came to, its promise there, its point."""
        self._closed = False

    def holds(self, point: dict[str, Any]) -> bool:
        """Whether the point belongs to the stage."""
        return all(point[name] == value for name, value in self._first.hold.items())

    def ask(self, record: TrialRecord) -> None:
        """A trial was suggested, perhaps one of the stage."""
        if self.holds(record.point) and not self.is_asked:
            self._count += 1
            self._running.add(record.id)

    def end(self, record: TrialRecord, result: dict[str, Any] | None) -> None:
        """A trial ended with this result; None is a failure."""
        if record.id in self._running:
            self._running.remove(record.id)
            if result is not None:
                self._ended[record.id] = (result["epoch"], result[PROMISE], record.point)

    def close(self) -> None:
        """There are no more points for it."""
        self._closed = True

    @property
    def is_asked(self) -> bool:
        """Whether all its trials were suggested."""
        return self._closed or self._count >= self._first.trials

    @property
    def is_over(self) -> bool:
        """Whether all of them have ended too."""
        return self.is_asked and not self._running

    def elsewhere(self) -> list[dict[str, Choice]]:
        """The best point, with each other combination of the held keys' choices.

        The best is what came furthest, and among these what promises most; none if all failed.
        """
        if not self._ended:
            return []
        *_, best = max(self._ended.values(), key=lambda ended: ended[:2])
        hold = self._first.hold
        products = itertools.product(*(self._search.space[name].choices for name in hold))
        combinations = [dict(zip(hold, values, strict=True)) for values in products]
        return [{**best, **values} for values in combinations if values != hold]
