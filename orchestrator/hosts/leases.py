"""Who holds which slot of which host: decisions only, without Ray and without a clock.

A trial asks under a *tenure*: one holder's claim to the trial. The newest tenure of a trial fences
the older ones for good, so that two processes that both believe to run a trial do not take the slot
from each other for ever. A tenure may hold several leases one after another, when hosts die.

A trial is granted nowhere while an earlier lease of it may be in force: its host has to say that
it serves the lease no more, or the lease's term to have run out. A host that only cannot be reached
may well train on, and must not commit beside the next one.

Each event is a method; :meth:`Leases.settle` then says what follows from it. With a thousand hosts
an event must not look at every lease once for each host, so what is on a host is kept by host.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


class FencedError(Exception):
    """A newer holder runs this trial, or the trial is over: whoever reads this must let go."""


@dataclass(frozen=True)
class Grant:
    """A slot of ``host`` for ``trial``, until it is released."""

    lease: str
    trial: str
    tenure: str
    host: int
    alone: bool
    """No other lease is granted on the host beside this one."""


@dataclass
class Orders:
    """What follows from the events since the last time."""

    granted: list[Grant] = field(default_factory=list)
    leaving: list[Grant] = field(default_factory=list)
    """To be detached on their hosts; :meth:`Leases.left` when that is done."""
    fenced: list[str] = field(default_factory=list)
    """Tenures that waited in vain."""


@dataclass(frozen=True)
class _Ask:
    trial: str
    tenure: str
    alone: bool


class _Grants:
    """Leases, found by their host and by their trial too."""

    def __init__(self) -> None:
        self._by_lease: dict[str, Grant] = {}
        self._by_host: defaultdict[int, dict[str, Grant]] = defaultdict(dict)
        self._by_trial: defaultdict[str, dict[str, Grant]] = defaultdict(dict)
        self._alone: Counter[int] = Counter()
        """By host, those that are to be alone."""

    def add(self, grant: Grant) -> None:
        self.pop(grant.lease)
        self._by_lease[grant.lease] = grant
        self._by_host[grant.host][grant.lease] = grant
        self._by_trial[grant.trial][grant.lease] = grant
        self._alone[grant.host] += grant.alone

    def pop(self, lease: str) -> Grant | None:
        grant = self._by_lease.pop(lease, None)
        if grant is not None:
            del self._by_host[grant.host][lease]
            del self._by_trial[grant.trial][lease]
            if not self._by_trial[grant.trial]:
                del self._by_trial[grant.trial]
            self._alone[grant.host] -= grant.alone
        return grant

    def on(self, host: int) -> list[Grant]:
        return list(self._by_host[host].values())

    def of(self, trial: str) -> list[Grant]:
        return list(self._by_trial.get(trial, {}).values())

    def load(self, host: int) -> int:
        return len(self._by_host[host])

    def is_alone(self, host: int) -> bool:
        return self._alone[host] > 0


class Leases:
    """The table. A host is known by a number; it is open from when it answers until it is lost."""

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}
        self._held = _Grants()
        self._leaving = _Grants()
        """Released, but still in their slots."""
        self._in_force: dict[str, str] = {}
        """Trials, by leases that were given up or lost, and that a host may still serve."""
        self._asks: dict[str, _Ask] = {}
        """By trial, who came first at the front."""
        self._reserved: dict[int, _Ask] = {}
        """Hosts that run empty for a trial that is to be alone."""
        self._tenures: dict[str, str] = {}
        """The newest of each trial."""
        self._fenced: set[str] = set()
        self._ended: set[str] = set()
        """Leases and trials that were given up before their host was first heard of."""
        self._orders = Orders()

    def open_host(self, host: int, slots: int, held: Sequence[Grant] = ()) -> None:
        """The host answers; ``held`` is what an earlier table granted on it.

        What was released since then, or whose trial has asked again, is detached.
        """
        self._slots[host] = slots
        for grant in held:
            if grant.trial in self._tenures or not self._ended.isdisjoint(
                (grant.lease, grant.trial)
            ):
                self._leave(grant)
            else:
                self._tenures[grant.trial] = grant.tenure
                self._held.add(grant)

    def forget_host(self, host: int) -> list[str]:
        """The host was lost, its slots with it; nothing is granted there until it opens again.

        Returns:
            Its leases, each of which may be in force until :meth:`left` or :meth:`lapsed`.
        """
        self._slots.pop(host, None)
        self._reserved.pop(host, None)
        lost = [*self._held.on(host), *self._leaving.on(host)]
        for grant in lost:
            self._held.pop(grant.lease)
            self._leaving.pop(grant.lease)
            self._in_force[grant.lease] = grant.trial
        return [grant.lease for grant in lost]

    def ask(self, trial: str, tenure: str, *, alone: bool = False) -> None:
        """Wait for a slot. What the trial held or asked for before is given up.

        Raises:
            FencedError: a newer tenure has asked for the trial, or the trial was reaped.
        """
        if tenure in self._fenced:
            raise FencedError(f"another process runs trial {trial} now, or it is over")
        if self._tenures.get(trial, tenure) != tenure:
            self._fence(trial)
        self._give_up(trial)
        self._ended.discard(trial)
        self._tenures[trial] = tenure
        self._asks[trial] = _Ask(trial, tenure, alone)

    def release(self, lease: str) -> None:
        """The holder needs the slot no more. A lease that is not held is no error."""
        self._ended.add(lease)
        if grant := self._held.pop(lease):
            self._leave(grant)

    def reap(self, trial: str) -> None:
        """The trial is over, whoever held it: free its slot and let none of its holders back in."""
        self._ended.add(trial)
        self._fence(trial)
        self._give_up(trial)

    def left(self, lease: str) -> None:
        """The host serves the lease no more, and its slot is free."""
        self._leaving.pop(lease)
        self.lapsed(lease)

    def lapsed(self, lease: str) -> None:
        """The lease is in force no more, whatever became of its slot."""
        self._in_force.pop(lease, None)

    def settle(self) -> Orders:
        """Grant what can be granted, and say all that is to be done; each is said once."""
        served, is_full = set(self._in_force.values()), False
        for ask in list(self._asks.values()):
            if ask.trial in served or (is_full and not ask.alone):
                continue
            host = self._place_alone(ask) if ask.alone else self._place()
            if host is not None:
                del self._asks[ask.trial]
                grant = Grant(uuid.uuid4().hex[:12], ask.trial, ask.tenure, host, ask.alone)
                self._held.add(grant)
                self._orders.granted.append(grant)
            elif not ask.alone:
                # Nor is there a slot for those behind: who is alone takes only what was kept.
                is_full = True
        orders, self._orders = self._orders, Orders()
        return orders

    def on(self, host: int) -> dict[str, str]:
        """The host's leases and their trials."""
        return {grant.lease: grant.trial for grant in self._held.on(host)}

    @property
    def waiting(self) -> list[str]:
        """Tenures in line."""
        return [ask.tenure for ask in self._asks.values()]

    @property
    def free(self) -> int:
        """Slots of open hosts in which no adapter is."""
        return sum(self._free(host) for host in self._slots)

    def _place(self) -> int | None:
        return self._emptiest(h for h in self._slots if self._free(h) > 0 and not self._is_taken(h))

    def _place_alone(self, ask: _Ask) -> int | None:
        """A host without any lease. While there is none, one is kept for this ask until it is
        empty, or another is: it may open later."""
        kept = next((h for h, kept_for in self._reserved.items() if kept_for == ask), None)
        host = self._emptiest(h for h in self._slots if h == kept or not self._is_taken(h))
        if host is None:
            return None
        if self._load(host) > 0:
            self._reserved[host if kept is None else kept] = ask
            return None
        if kept is not None:
            del self._reserved[kept]
        return host

    def _emptiest(self, hosts: Iterable[int]) -> int | None:
        return min(hosts, key=lambda host: (self._load(host), host), default=None)

    def _is_taken(self, host: int) -> bool:
        """Whether one that is alone is there, or is to come there."""
        tables = (self._held, self._leaving)
        return host in self._reserved or any(table.is_alone(host) for table in tables)

    def _load(self, host: int) -> int:
        return self._held.load(host) + self._leaving.load(host)

    def _free(self, host: int) -> int:
        return max(0, self._slots[host] - self._load(host))

    def _fence(self, trial: str) -> None:
        if tenure := self._tenures.pop(trial, None):
            self._fenced.add(tenure)
            self._orders.fenced += [
                ask.tenure for ask in self._asks.values() if ask.tenure == tenure
            ]

    def _give_up(self, trial: str) -> None:
        self._asks.pop(trial, None)
        self._reserved = {h: ask for h, ask in self._reserved.items() if ask.trial != trial}
        for grant in self._held.of(trial):
            self.release(grant.lease)

    def _leave(self, grant: Grant) -> None:
        self._leaving.add(grant)
        self._in_force[grant.lease] = grant.trial
        self._orders.leaving.append(grant)
