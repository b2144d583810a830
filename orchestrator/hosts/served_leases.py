"""The leases that a host serves, each until it expires: somebody has to renew it.

The pool has to know when a host that it cannot reach serves no more, and a message of its own may
reach the host late. So a term does not begin when the host receives the renewal, but at a
:class:`ClockReading` that the host sent before and the pool hands back: every term ends at most
``seconds`` after the pool received the newest reading that it ever handed back. The two clocks are
never compared, and neither is one that somebody can set.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from jobs.training.epochs import HostBrokenError, SlotGoneError
from orchestrator.hosts.leases import SlotLease


@dataclass(frozen=True)
class ClockReading:
    """A moment on the clock of one host's process, which means nothing to any other."""

    process: str
    seconds: float


def since_boot() -> float:
    """Seconds; nobody can set this clock, and it counts the time that a machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ServedLeases:
    """Leases, each in force until ``seconds`` after it was last renewed. Thread-safe."""

    def __init__(self, seconds: float, clock: Callable[[], float] = since_boot) -> None:
        self._seconds = seconds
        self._clock = clock
        self._process = uuid.uuid4().hex
        self._leases: dict[str, tuple[SlotLease, float]] = {}
        """With the moments at which they expire."""
        self._lock = threading.Lock()

    def read_clock(self) -> ClockReading:
        """Now, for terms to begin at."""
        return ClockReading(self._process, self._clock())

    def start(self, lease: SlotLease, since: ClockReading) -> None:
        """Serve the lease.

        Raises:
            HostBrokenError: an earlier process of this host was meant.
        """
        expiry = self._expiry(since)
        with self._lock:
            self._leases[lease.id] = lease, expiry

    def end(self, lease: str) -> bool:
        """Serve it no more; whether it was served."""
        with self._lock:
            return self._leases.pop(lease, None) is not None

    def renew(self, leases: Iterable[str], since: ClockReading) -> None:
        """Start the terms of these anew; those that are not served stay ended.

        Raises:
            HostBrokenError: an earlier process of this host was meant.
        """
        expiry = self._expiry(since)
        with self._lock:
            for served, before in [self._leases[each] for each in leases if each in self._leases]:
                self._leases[served.id] = served, max(before, expiry)

    def check(self, lease: str) -> None:
        """Return if the lease is in force at this moment.

        Raises:
            SlotGoneError: it was ended, or never started, or has expired.
        """
        with self._lock:
            _, expiry = self._leases.get(lease, (None, float("-inf")))
            if expiry <= self._clock():
                raise SlotGoneError(f"lease {lease} was ended: fenced, released or not renewed")

    def expire(self) -> list[str]:
        """End the leases that nobody renewed in time; their ids."""
        with self._lock:
            now = self._clock()
            expired = [lease for lease, (_, expiry) in self._leases.items() if expiry <= now]
            for lease in expired:
                del self._leases[lease]
            return expired

    def served(self) -> list[SlotLease]:
        """All that were started and neither ended nor expired."""
        with self._lock:
            return [lease for lease, _ in self._leases.values()]

    def _expiry(self, since: ClockReading) -> float:
        if since.process != self._process:
            raise HostBrokenError("its process died, and Ray started another")
        return since.seconds + self._seconds
