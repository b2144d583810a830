"""The pool: one actor of a sweep that leases the hosts' slots to trials and watches the hosts."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorProxy
from ray.exceptions import ActorDiedError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.hosts.hang_detection import HangDetector
from orchestrator.hosts.host_actor import Heartbeat, HostActor
from orchestrator.hosts.leases import FencedError, LeaseTable, SlotLease
from orchestrator.hosts.served_leases import ClockReading

_CALLS_AT_ONCE = 10_000
"""A trial that waits for a slot is a call in progress."""
_RETRY = 1.0
"""Between two calls to a host that Ray calls unavailable, seconds."""
_PUBLISHING = 2.0
"""What passed a host's last check of its lease may take so long to be committed, seconds."""


class HostsGoneError(Exception):
    """No host is left that could serve a trial, and none will come back."""


@dataclass(frozen=True)
class AcquiredSlot:
    """A slot to use."""

    lease: str
    """What every call to the host begins with."""
    host: ActorProxy[HostActor]


@dataclass
class _Host:
    """What the pool knows of a host beside its leases."""

    number: int
    actor: ActorProxy[HostActor]
    detector: HangDetector
    is_open: bool = False
    node: str = ""
    """Ray's id of the node that its last process was on."""
    clock: ClockReading | None = None
    """The newest that it sent."""
    clock_received_at: float = 0.0
    """On the pool's clock."""
    clock_used_at: float = 0.0
    """When the newest reading was received that any of its terms began at, on the pool's clock."""
    unconfirmed: set[str] = field(default_factory=set)
    """Leases that it may serve, though it was lost."""
    openings: int = 0
    """A call from before the last one may fail after it; that says nothing of the host now."""
    suspected: asyncio.Event = field(default_factory=asyncio.Event)
    """It ended, or a call to it failed."""
    deaths: list[str] = field(default_factory=list)
    """Why it was lost, each time."""
    hung: int = 0
    """How often it was ended because it hung."""
    gone: str = ""
    """Why it will not come back."""

    def received(self, heartbeat: Heartbeat) -> None:
        """Keep its clock for the terms to come."""
        self.clock, self.clock_received_at = heartbeat.clock, time.monotonic()

    def term_start(self) -> ClockReading:
        """Where terms begin that are granted or renewed now, of which this takes note."""
        assert self.clock is not None, "a host's heartbeat comes before its leases"
        self.clock_used_at = max(self.clock_used_at, self.clock_received_at)
        return self.clock


class Pool:
    """Leases slots. An async actor: its calls interleave, and those that wait hold up no other.

    The hosts outlive it. When Ray starts it anew it takes its table from what they serve.
    """

    def __init__(self, hosts: Iterable[str], hang_seconds: float, lease_seconds: float) -> None:
        """``hosts`` are names: a handle would not survive as an argument when Ray starts the pool
        anew."""
        self._lease_seconds = lease_seconds
        self._table = LeaseTable()
        self._waiting: dict[str, asyncio.Future[SlotLease]] = {}
        """By holder."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._hosts = [
            _Host(number, ray.get_actor(name), HangDetector(hang_seconds))
            for number, name in enumerate(hosts)
        ]
        for host in self._hosts:
            self._spawn(self._follow(host))

    @ray.method
    async def acquire(self, trial: str, holder: str, alone: bool) -> AcquiredSlot:
        """Wait for a slot. What the trial held before is given up.

        Args:
            trial: its id.
            holder: who runs the trial; a new one fences the older ones for good.
            alone: on a host that serves nobody else, because the trial may end it.

        Raises:
            FencedError: a newer holder runs the trial, or it was reaped.
            HostsGoneError: there is nothing to wait for.
        """
        while True:
            lease = await self._request(trial, holder, alone=alone)
            host = self._hosts[lease.host]
            async with self._noticing_loss(host):
                # A new reading, so that the lease begins with a whole term.
                host.received(await host.actor.renew.remote([], None))
                # The host knows of every lease before its holder does, for the next pool to find.
                await host.actor.grant.remote(lease, host.term_start())
                return AcquiredSlot(lease.id, host.actor)

    @ray.method
    async def release(self, lease: str, ended: bool) -> None:
        """Free the slot for whoever waits; ``ended`` when the host itself ended the lease."""
        self._table.release(lease)
        if ended:
            self._table.mark_expired(lease)
        self._settle()

    @ray.method
    async def reap(self, trial: str) -> None:
        """The trial is over, however it ended: free its slot and keep its holders out."""
        self._table.reap(trial)
        self._settle()

    @ray.method
    async def beat(self) -> None:
        """Renew all leases on their hosts; end hosts that hang, so that Ray starts them anew.

        The driver calls it several times in a lease's term. When it does not, the leases expire.
        """
        now = time.monotonic()
        for host in self._hosts:
            if host.is_open and host.detector.is_hung(now):
                host.hung += 1
                self._close(host, f"hung: {host.detector.progress}")
                ray.kill(host.actor, no_restart=False)  # type: ignore[arg-type]  # Ray's own name for a handle
            elif host.is_open and host.detector.unanswered_since is None:
                host.detector.sent_heartbeat(now)
                self._spawn(self._renew(host))

    @ray.method
    async def state(self) -> dict[str, Any]:
        """What there is, as plain values for tests and the console."""
        leases = [self._table.on_host(host.number) for host in self._hosts]
        return {
            "hosts": [
                {
                    "is_open": host.is_open,
                    "leases": on_host,
                    "deaths": list(host.deaths),
                    "hung": host.hung,
                    "gone": host.gone,
                }
                for host, on_host in zip(self._hosts, leases, strict=True)
            ],
            "leases": {lease: trial for on_host in leases for lease, trial in on_host.items()},
            "waiting": self._table.waiting,
            "free": self._table.free,
            "deaths": sum(len(host.deaths) for host in self._hosts),
            "hung": sum(host.hung for host in self._hosts),
        }

    def _request(self, trial: str, holder: str, *, alone: bool) -> "asyncio.Future[SlotLease]":
        granted: asyncio.Future[SlotLease] = asyncio.get_running_loop().create_future()
        if all(host.gone for host in self._hosts):
            raise self._hosts_gone()
        self._table.request(trial, holder, alone=alone)
        if before := self._waiting.pop(holder, None):
            before.set_exception(FencedError(f"{holder} asked again"))
        self._waiting[holder] = granted
        self._settle()
        return granted

    def _settle(self) -> None:
        """Carry out what follows from what happened."""
        actions = self._table.settle()
        for holder in actions.fenced:
            error = FencedError(f"{holder} was fenced, or its trial reaped, while it waited")
            self._waiting.pop(holder).set_exception(error)
        for lease in actions.detach:
            self._spawn(self._detach(lease))
        for lease in actions.granted:
            self._waiting.pop(lease.holder).set_result(lease)

    async def _detach(self, lease: SlotLease) -> None:
        host = self._hosts[lease.host]
        # Nobody renews it any more, so its trial waits no longer than a term for the answer.
        self._expire_after_term(host, [lease.id])
        opening, is_detached = host.openings, False
        while host.is_open and opening == host.openings and not is_detached:
            async with self._noticing_loss(host):
                await host.actor.detach.remote(lease.id)
                is_detached = True
        self._table.mark_detached(lease.id)
        self._settle()

    async def _renew(self, host: _Host) -> None:
        opening = host.openings
        async with self._noticing_loss(host):
            leases = list(self._table.on_host(host.number))
            heartbeat = await host.actor.renew.remote(leases, host.term_start())
            if opening == host.openings:
                host.received(heartbeat)
                host.detector.got_answer(heartbeat.progress)

    def _expire_after_term(self, host: _Host, leases: Sequence[str]) -> None:
        """Take these for expired once the last term that they can have is over."""

        def expire() -> None:
            self._expire(host, leases)
            self._settle()

        over = host.clock_used_at + self._lease_seconds + _PUBLISHING
        asyncio.get_running_loop().call_later(max(0.0, over - time.monotonic()), expire)

    def _expire(self, host: _Host, leases: Iterable[str]) -> None:
        for lease in list(leases):
            self._table.mark_expired(lease)
            host.unconfirmed.discard(lease)

    async def _follow(self, host: _Host) -> None:
        """Open the host, and open it again whenever it comes back."""
        served: list[SlotLease] | None
        try:
            # Fails at once while the host restarts; then it has nothing to hand over.
            served = await host.actor.served.remote()
        except RayError:
            served = None
        while await self._open(host, served):
            # A call of its own each time: one from before may yet fail for the process before.
            self._spawn(self._wait_for_end(host))
            await host.suspected.wait()
            served = None

    async def _open(self, host: _Host, served: list[SlotLease] | None) -> bool:
        """Wait until the host serves, with what it holds or empty; False if it never will."""
        try:
            plan = await host.actor.ready.remote()
            if served is None:
                # The holders of the trials on it have been told that their slots are gone.
                await host.actor.clear.remote()
            heartbeat = await host.actor.renew.remote([], None)
        except ActorDiedError as error:
            host.gone = str(error)
            if all(each.gone for each in self._hosts):
                for waiting in self._waiting.values():
                    waiting.set_exception(self._hosts_gone())
                self._waiting.clear()
            return False
        except RayError:
            await asyncio.sleep(_RETRY)
            return await self._open(host, None)
        host.received(heartbeat)
        if host.node in ("", heartbeat.node):
            # It has ended what it served itself; or it died, and its node has seen to that.
            self._expire(host, host.unconfirmed)
        host.node = heartbeat.node
        host.is_open = True
        host.openings += 1
        host.suspected.clear()
        self._table.open_host(host.number, plan.slots, served or ())
        self._settle()
        return True

    async def _wait_for_end(self, host: _Host) -> None:
        """Wait until the host ends, by itself or with its process."""
        opening = host.openings
        while opening == host.openings and host.is_open:
            async with self._noticing_loss(host):
                self._lose(host, opening, await host.actor.wait_for_end.remote())

    @asynccontextmanager
    async def _noticing_loss(self, host: _Host) -> AsyncIterator[None]:
        """For calls to a host: one that fails ends the block, and has the host looked at again.

        Ray may report the death of a host's process so late that the next one serves already, and
        fail a call to that one. A host whose process is still the same is not lost.
        """
        opening, process = host.openings, host.clock and host.clock.process
        try:
            yield
        except RayActorError as error:
            try:
                heartbeat = await host.actor.renew.remote([], None)
            except RayError:
                heartbeat = None
            if heartbeat is None or heartbeat.clock.process != process:
                self._lose(host, opening, str(error))
            elif host.is_open and opening == host.openings:
                host.received(heartbeat)
                host.detector.got_answer(heartbeat.progress)
                await asyncio.sleep(_RETRY)
        except RayError as error:
            self._lose(host, opening, str(error))

    def _lose(self, host: _Host, opening: int, reason: str) -> None:
        """The host that was opened so many times is lost, unless it was opened again."""
        if opening == host.openings:
            self._close(host, reason)
            host.suspected.set()

    def _close(self, host: _Host, reason: str) -> None:
        """The host's slots are lost; their holders learn it from their own calls."""
        if host.is_open:
            host.is_open = False
            host.deaths.append(reason)
            host.detector.host_restarted()
            lost = self._table.lose_host(host.number)
            host.unconfirmed.update(lost)
            self._expire_after_term(host, lost)
            self._settle()

    def _hosts_gone(self) -> HostsGoneError:
        return HostsGoneError("\n".join(host.gone for host in self._hosts))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run beside the calls. The loop itself keeps only weak references to its tasks."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def start_pool(hosts: Iterable[str], hang_seconds: float, lease_seconds: float) -> ActorProxy[Pool]:
    """Start the pool of these hosts on the driver's node, where what kills it ends the sweep too.

    Args:
        hosts: names, from :func:`orchestrator.hosts.fleet.start_hosts`.
        hang_seconds: the least that counts as hung; see :class:`HangDetector`.
        lease_seconds: what the hosts were told.
    """
    here = ray.get_runtime_context().get_node_id()
    placed = ray.remote(Pool).options(
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=_CALLS_AT_ONCE,
        scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
    )
    pool: ActorProxy[Pool] = placed.remote(list(hosts), hang_seconds, lease_seconds)
    return pool
