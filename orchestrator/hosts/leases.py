"""Who holds which slot of which host: decisions only, without Ray and without a clock.

A trial is run by one *holder* at a time, whose id is its fencing token: the newest holder of a
trial fences the older ones for good, so that two processes that both believe to run a trial do not
take the slot from each other for ever. A holder may have several leases one after another, when
hosts die.

A trial is granted nowhere while an earlier lease of it may be in force: its host has to say that
it serves the lease no more, or the lease has to expire. A host that only cannot be reached may well
train on, and must not commit beside the next one.

Each event is a method; :meth:`LeaseTable.settle` then says what follows from it. With a thousand
hosts an event must not look at every lease once for each host, so what is on a host is kept by
host.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


class FencedError(Exception):
    """A newer holder runs this trial, or the trial is over: whoever reads this must let go."""


@dataclass(frozen=True)
class SlotLease:
    """A slot of ``host`` for ``trial``, until it is released."""

    id: str
    trial: str
    holder: str
    host: int
    alone: bool
    """No other lease is granted on the host beside this one."""


@dataclass
class LeaseActions:
    """What follows from the events since the last time."""

    granted: list[SlotLease] = field(default_factory=list)
    detach: list[SlotLease] = field(default_factory=list)
    """On their hosts; :meth:`LeaseTable.mark_detached` when that is done."""
    fenced: list[str] = field(default_factory=list)
    """Holders that waited in vain."""


@dataclass(frozen=True)
class _Request:
    trial: str
    holder: str
    alone: bool


class LeaseTable:
    """Hosts have numbers. One is open from when it answers until it is lost."""

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}
        """Of each open host."""
        self._leases: dict[str, SlotLease] = {}
        """What is in a slot, by id."""
        self._by_host: defaultdict[int, dict[str, SlotLease]] = defaultdict(dict)
        self._detaching: set[str] = set()
        """Those that were given up, and are in their slots still."""
        self._may_be_served: dict[str, str] = {}
        """Trials, by leases that were given up or lost, and that a host may still serve."""
        self._requests: dict[str, _Request] = {}
        """By trial, who came first at the front."""
        self._reserved: dict[int, _Request] = {}
        """Hosts that run empty for a trial that is to be alone."""
        self._holders: dict[str, str] = {}
        """The newest of each trial."""
        self._fenced: set[str] = set()
        self._ended: set[str] = set()
        """Leases and trials that were given up before their host first answered."""
        self._actions = LeaseActions()

    def open_host(self, host: int, slots: int, served: Sequence[SlotLease] = ()) -> None:
        """The host answers; ``served`` is what an earlier table granted on it.

        What was released since then, or whose trial has a newer request, is detached.
        """
        self._slots[host] = slots
        for lease in served:
            self._add(lease)
            if lease.trial in self._holders or {lease.id, lease.trial} & self._ended:
                self._detach(lease)
            else:
                self._holders[lease.trial] = lease.holder

    def lose_host(self, host: int) -> list[str]:
        """The host was lost, its slots with it; nothing is granted there until it opens again.

        Returns:
            Its leases, each of which may be served until :meth:`mark_detached` or
            :meth:`mark_expired`.
        """
        self._slots.pop(host, None)
        self._reserved.pop(host, None)
        lost = list(self._by_host[host].values())
        for lease in lost:
            self._remove(lease.id)
            self._may_be_served[lease.id] = lease.trial
        return [lease.id for lease in lost]

    def request(self, trial: str, holder: str, *, alone: bool = False) -> None:
        """Wait for a slot. What the trial held or requested before is given up.

        Raises:
            FencedError: a newer holder has requested the trial, or the trial was reaped.
        """
        if holder in self._fenced:
            raise FencedError(f"another process runs trial {trial} now, or it is over")
        if self._holders.get(trial, holder) != holder:
            self._fence(trial)
        self._give_up(trial)
        self._ended.discard(trial)
        self._holders[trial] = holder
        self._requests[trial] = _Request(trial, holder, alone)

    def release(self, lease: str) -> None:
        """The holder needs the slot no more. A lease that is not held is no error."""
        self._ended.add(lease)
        if lease in self._leases and lease not in self._detaching:
            self._detach(self._leases[lease])

    def reap(self, trial: str) -> None:
        """The trial is over, whoever held it: free its slot and let none of its holders back in."""
        self._ended.add(trial)
        self._fence(trial)
        self._give_up(trial)

    def mark_detached(self, lease: str) -> None:
        """The host serves the lease no more, and its slot is free."""
        if lease in self._detaching:
            self._remove(lease)
        self.mark_expired(lease)

    def mark_expired(self, lease: str) -> None:
        """The lease is served no more, whatever became of its slot."""
        self._may_be_served.pop(lease, None)

    def settle(self) -> LeaseActions:
        """Grant what can be granted, and say all that is to be done; each is said once."""
        served, is_full = set(self._may_be_served.values()), False
        for request in list(self._requests.values()):
            if request.trial in served or (is_full and not request.alone):
                continue
            with_room = (h for h in self._slots if self._free(h) > 0 and not self._is_taken(h))
            host = self._place_alone(request) if request.alone else self._emptiest(with_room)
            if host is not None:
                del self._requests[request.trial]
                lease = SlotLease(
                    uuid.uuid4().hex[:12], request.trial, request.holder, host, request.alone
                )
                self._add(lease)
                self._actions.granted.append(lease)
            elif not request.alone:
                # Nor is there a slot for those behind: who is alone takes only what was kept.
                is_full = True
        actions, self._actions = self._actions, LeaseActions()
        return actions

    def on_host(self, host: int) -> dict[str, str]:
        """The host's leases and their trials, but those that are being detached."""
        leases = self._by_host[host].values()
        return {lease.id: lease.trial for lease in leases if lease.id not in self._detaching}

    @property
    def waiting(self) -> list[str]:
        """Holders in line."""
        return [request.holder for request in self._requests.values()]

    @property
    def free(self) -> int:
        """Slots of open hosts in which no adapter is."""
        return sum(map(self._free, self._slots))

    def _place_alone(self, request: _Request) -> int | None:
        """A host without any lease. While there is none, one is kept for this request until it is
        empty, or another is: it may open later."""
        kept = next((h for h, kept_for in self._reserved.items() if kept_for == request), None)
        host = self._emptiest(h for h in self._slots if h == kept or not self._is_taken(h))
        if host is None:
            return None
        if self._by_host[host]:
            self._reserved[host if kept is None else kept] = request
            return None
        if kept is not None:
            del self._reserved[kept]
        return host

    def _emptiest(self, hosts: Iterable[int]) -> int | None:
        return min(hosts, key=lambda host: (len(self._by_host[host]), host), default=None)

    def _is_taken(self, host: int) -> bool:
        """Whether one that is alone is there, or is to come there."""
        return host in self._reserved or any(each.alone for each in self._by_host[host].values())

    def _free(self, host: int) -> int:
        return max(0, self._slots[host] - len(self._by_host[host]))

    def _fence(self, trial: str) -> None:
        if holder := self._holders.pop(trial, None):
            self._fenced.add(holder)
            if holder in self.waiting:
                self._actions.fenced.append(holder)

    def _give_up(self, trial: str) -> None:
        self._requests.pop(trial, None)
        self._reserved = {h: each for h, each in self._reserved.items() if each.trial != trial}
        for lease in [each.id for each in self._leases.values() if each.trial == trial]:
            self.release(lease)

    def _add(self, lease: SlotLease) -> None:
        self._leases[lease.id] = lease
        self._by_host[lease.host][lease.id] = lease

    def _remove(self, lease: str) -> None:
        self._detaching.discard(lease)
        del self._by_host[self._leases.pop(lease).host][lease]

    def _detach(self, lease: SlotLease) -> None:
        self._detaching.add(lease.id)
        self._may_be_served[lease.id] = lease.trial
        self._actions.detach.append(lease)
