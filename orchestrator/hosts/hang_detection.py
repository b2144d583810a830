"""Telling a hung host from a slow one. Without a clock: every event comes with its time."""

from jobs.training.packing import Progress

PATIENCE = 20.0
"""A piece of work may take this many times as long as the longest one that came to an end."""


class HostWatch:
    """What was heard of one host. Times are seconds on any one clock."""

    def __init__(self, hang_seconds: float) -> None:
        self._hang_seconds = hang_seconds
        self._longest = 0.0
        self.last: Progress | None = None
        self.asked_at: float | None = None
        """Since when an answer is awaited; None while none is."""

    def ask(self, now: float) -> None:
        """The host was asked for its progress."""
        self.asked_at = now

    def hear(self, progress: Progress) -> None:
        """It answered."""
        self.asked_at = None
        if self.last is not None and progress.turns != self.last.turns:
            # The piece that was in hand last time has come to an end; it took at least so long.
            self._longest = max(self._longest, self.last.seconds)
        self.last = progress

    def restart(self) -> None:
        """The host was lost and came back with nothing in hand; how slow it is stays known."""
        self.last = self.asked_at = None

    @property
    def limit(self) -> float:
        """Seconds after which one piece of work, or silence, counts as hung."""
        return max(self._hang_seconds, PATIENCE * self._longest)

    def is_hung(self, now: float) -> bool:
        """Whether it is silent, or at one piece of work, for longer than the limit."""
        if self.asked_at is not None and now - self.asked_at > self.limit:
            return True
        return self.last is not None and self.last.doing != "" and self.last.seconds > self.limit
