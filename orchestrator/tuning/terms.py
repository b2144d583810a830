"""Until when a host's leases are in force: a host serves on while somebody renews them."""

import threading
import time
from collections.abc import Callable, Iterable

from jobs.training.epochs import SlotGoneError
from orchestrator.tuning.leases import Grant


class LeaseTerms:
    """The leases a host serves, each until ``seconds`` after it was last renewed. Thread-safe."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._grants: dict[str, Grant] = {}
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def begin(self, grant: Grant) -> None:
        """Serve the lease from now on."""
        with self._lock:
            self._grants[grant.lease] = grant
            self._ends[grant.lease] = self._clock() + self._seconds

    def end(self, lease: str) -> bool:
        """Serve it no more; whether it was served."""
        with self._lock:
            self._ends.pop(lease, None)
            return self._grants.pop(lease, None) is not None

    def renew(self, leases: Iterable[str]) -> None:
        """Start the terms of these anew; those that are not served stay ended."""
        with self._lock:
            end = self._clock() + self._seconds
            self._ends.update({lease: end for lease in leases if lease in self._grants})

    def check(self, lease: str) -> None:
        """Nothing, for a lease that is served.

        Raises:
            SlotGoneError: it was ended, or never begun.
        """
        with self._lock:
            if lease not in self._grants:
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
