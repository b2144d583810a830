"""Until when a host's leases are in force: a host serves on while somebody renews them.

The pool has to know when a host that it cannot reach serves no more, and a message of its own may
reach the host late. So a term does not begin when the host hears of its renewal, but at a
:class:`Stamp` that the host gave out before and the pool hands back: every term ends at most
``seconds`` after the pool got the newest stamp that it ever handed back. The two clocks are never
compared, and neither is one that somebody can set.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from jobs.training.epochs import SlotGoneError
from orchestrator.hosts.leases import Grant


@dataclass(frozen=True)
class Stamp:
    """A moment on the clock of one host's process, which means nothing to any other."""

    process: str
    at: float


class StrangeStampError(Exception):
    """The stamp is another process's: what is asked was meant for that one."""


def since_boot() -> float:
    """Seconds; nobody can set this clock, and it counts the time that a machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseTerms:
    """The leases a host serves, each until ``seconds`` after it was last renewed. Thread-safe."""

    def __init__(self, seconds: float, clock: Callable[[], float] = since_boot) -> None:
        self._seconds = seconds
        self._clock = clock
        self._process = uuid.uuid4().hex
        self._grants: dict[str, Grant] = {}
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def stamp(self) -> Stamp:
        """Now, for the terms that somebody will begin."""
        return Stamp(self._process, self._clock())

    def begin(self, grant: Grant, since: Stamp) -> None:
        """Serve the lease.

        Raises:
            StrangeStampError: an earlier process of this host was meant.
        """
        end = self._end(since)
        with self._lock:
            self._grants[grant.lease] = grant
            self._ends[grant.lease] = end

    def end(self, lease: str) -> bool:
        """Serve it no more; whether it was served."""
        with self._lock:
            self._ends.pop(lease, None)
            return self._grants.pop(lease, None) is not None

    def renew(self, leases: Iterable[str], since: Stamp) -> None:
        """Start the terms of these anew; those that are not served stay ended.

        Raises:
            StrangeStampError: an earlier process of this host was meant.
        """
        end = self._end(since)
        with self._lock:
            served = [lease for lease in leases if lease in self._grants]
            self._ends.update({lease: max(end, self._ends[lease]) for lease in served})

    def check(self, lease: str) -> None:
        """Nothing, for a lease that is in force at this moment.

        Raises:
            SlotGoneError: it was ended, or never begun, or its term is over.
        """
        with self._lock:
            if lease not in self._grants or self._ends[lease] <= self._clock():
                raise SlotGoneError(f"lease {lease} was ended: fenced, released or not renewed")

    def end_lapsed(self) -> list[str]:
        """End the leases that nobody renewed in time; those it were."""
        with self._lock:
            now = self._clock()
            lapsed = [lease for lease, end in self._ends.items() if end <= now]
            for lease in lapsed:
                del self._ends[lease], self._grants[lease]
            return lapsed

    def served(self) -> list[Grant]:
        """What is in force."""
        with self._lock:
            return list(self._grants.values())

    def _end(self, since: Stamp) -> float:
        if since.process != self._process:
            raise StrangeStampError("its process died, and Ray started another")
        return since.at + self._seconds
