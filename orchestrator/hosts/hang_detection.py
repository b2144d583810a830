"""Telling a hung host from a slow one. Without a clock: every event comes with its time."""

from jobs.training.packing import HostProgress

SLOW_FACTOR = 20.0
"""A piece of work may take this many times as long as the longest one that was finished."""


class HangDetector:
    """Watches one host by the answers to its heartbeats. Times are seconds on any one clock."""

    def __init__(self, hang_seconds: float) -> None:
        self._hang_seconds = hang_seconds
        self._longest = 0.0
        self.progress: HostProgress | None = None
        """The newest that came."""
        self.unanswered_since: float | None = None
        """When the heartbeat was sent that has no answer yet; None while there is none."""

    def sent_heartbeat(self, now: float) -> None:
        """The host was asked for its progress."""
        self.unanswered_since = now

    def got_answer(self, progress: HostProgress) -> None:
        """The host answered."""
        self.unanswered_since = None
        if self.progress is not None and progress.finished != self.progress.finished:
            # The piece in hand at the last answer has come to an end; it took at least so long.
            self._longest = max(self._longest, self.progress.seconds)
        self.progress = progress

    def host_restarted(self) -> None:
        """The host came back with nothing in hand; how slow it is stays known."""
        self.progress = self.unanswered_since = None

    @property
    def limit(self) -> float:
        """Seconds after which one piece of work, or silence, counts as hung."""
        return max(self._hang_seconds, SLOW_FACTOR * self._longest)

    def is_hung(self, now: float) -> bool:
        """Whether it is silent, or at one piece of work, for longer than the limit."""
        if self.unanswered_since is not None and now - self.unanswered_since > self.limit:
            return True
        work = self.progress
        return work is not None and work.doing != "" and work.seconds > self.limit
