"""The pool: one actor of a sweep that leases the hosts' slots to trials and watches the hosts."""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.training.packing import PackingPlan
from orchestrator.hosts.hang_detection import HostWatch
from orchestrator.hosts.host_actor import Heard
from orchestrator.hosts.lease_terms import Stamp
from orchestrator.hosts.leases import FencedError, Grant, Leases

_CALLS_AT_ONCE = 10_000
"""A trial that waits for a slot is a call in progress."""
_RETRY = 1.0
"""Between two calls to a host that Ray calls unavailable, seconds."""
_PUBLISHING = 2.0
"""What passed a host's last look at its lease may take so long to be committed, seconds."""


class HostsGoneError(Exception):
    """No host is left that could serve a trial, and none will come back."""


@dataclass(frozen=True)
class Lease:
    """A slot to use."""

    id: str
    """What every call to the host begins with."""
    host: Any
    """The handle of an :class:`orchestrator.hosts.launch.HostActor`."""


@dataclass
class _Host:
    """What the pool knows of a host beside its leases."""

    number: int
    handle: Any
    watch: HostWatch
    is_open: bool = False
    node: str = ""
    """Ray's id of the node that its last process was on."""
    stamp: Stamp | None = None
    """The newest that it gave out."""
    stamped_at: float = 0.0
    """When that came, on the pool's clock."""
    vouched_at: float = 0.0
    """The same of the newest stamp that any of its leases was granted or renewed with."""
    unsure: set[str] = field(default_factory=set)
    """Leases that it may serve, though it was lost."""
    openings: int = 0
    """A call from before the last one may fail after it; that says nothing of the host now."""
    suspected: asyncio.Event = field(default_factory=asyncio.Event)
    """A call to it failed."""
    deaths: list[str] = field(default_factory=list)
    """Why it was lost, each time."""
    hung: int = 0
    """How often it was ended because it hung."""
    gone: str = ""
    """Why it will not come back."""


class Pool:
    """Leases slots. An async actor: its calls interleave, and those that wait hold up no other.

    The hosts outlive it. When Ray starts it anew it takes its table from what they serve.
    """

    def __init__(self, hosts: Iterable[str], hang_seconds: float, lease_seconds: float) -> None:
        """``hosts`` are names: a handle would not survive as an argument when Ray starts the pool
        anew."""
        self._lease_seconds = lease_seconds
        self._leases = Leases()
        self._waiting: dict[str, asyncio.Future[Grant]] = {}
        """By tenure."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._hosts = [
            _Host(number, ray.get_actor(name), HostWatch(hang_seconds))
            for number, name in enumerate(hosts)
        ]
        for host in self._hosts:
            self._spawn(self._keep(host))

    async def acquire(self, trial: str, tenure: str, *, alone: bool = False) -> Lease:
        """Wait for a slot. What the trial held before is given up.

        Args:
            trial: its id.
            tenure: one holder's claim to the trial; a new one fences the older ones for good.
            alone: on a host that serves nobody else, because the trial may end it.

        Raises:
            FencedError: a newer tenure runs the trial, or it was reaped.
            HostsGoneError: there is nothing to wait for.
        """
        while True:
            grant = await self._granted(trial, tenure, alone=alone)
            host = self._hosts[grant.host]
            opening = host.openings
            try:
                # A fresh stamp, so that the lease begins with a whole term.
                self._hear(host, await host.handle.renew.remote([], None))
                # The host knows of every lease before its holder does, for the next pool to find.
                await host.handle.grant.remote(grant, self._vouch(host))
            except RayError as error:
                self._lose(host, opening, str(error))
            else:
                return Lease(grant.lease, host.handle)

    async def release(self, lease: str, *, ended: bool = False) -> None:
        """Free the slot for whoever waits; ``ended`` when the host itself ended the lease."""
        self._leases.release(lease)
        if ended:
            self._leases.lapsed(lease)
        self._settle()

    async def reap(self, trial: str) -> None:
        """The trial is over, however it ended: free its slot and keep its holders out."""
        self._leases.reap(trial)
        self._settle()

    async def beat(self) -> None:
        """Renew all leases on their hosts; end hosts that hang, so that Ray starts them anew.

        The driver calls it several times in a lease's term. When it does not, the leases run out.
        """
        now = time.monotonic()
        for host in self._hosts:
            if host.is_open and host.watch.is_hung(now):
                host.hung += 1
                self._close(host, f"hung: {host.watch.last}")
                ray.kill(host.handle, no_restart=False)
            elif host.is_open and host.watch.asked_at is None:
                host.watch.ask(now)
                self._spawn(self._renew(host))

    async def state(self) -> dict[str, Any]:
        """What there is, as plain values for tests and the console."""
        hosts: list[dict[str, Any]] = [
            {
                "is_open": host.is_open,
                "leases": self._leases.on(host.number),
                "deaths": list(host.deaths),
                "hung": host.hung,
                "gone": host.gone,
                "turns": host.watch.last.turns if host.watch.last else 0,
                "doing": host.watch.last.doing if host.watch.last else "",
            }
            for host in self._hosts
        ]
        return {
            "hosts": hosts,
            "leases": {lease: trial for host in hosts for lease, trial in host["leases"].items()},
            "waiting": self._leases.waiting,
            "free": self._leases.free,
            "deaths": sum(len(host.deaths) for host in self._hosts),
            "hung": sum(host.hung for host in self._hosts),
        }

    def _granted(self, trial: str, tenure: str, *, alone: bool) -> "asyncio.Future[Grant]":
        granted: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        if all(host.gone for host in self._hosts):
            raise self._hosts_gone()
        self._leases.ask(trial, tenure, alone=alone)
        if before := self._waiting.pop(tenure, None):
            before.set_exception(FencedError(f"{tenure} asked again"))
        self._waiting[tenure] = granted
        self._settle()
        return granted

    def _settle(self) -> None:
        """Carry out what follows from what happened."""
        orders = self._leases.settle()
        for tenure in orders.fenced:
            error = FencedError(f"{tenure} was fenced, or its trial reaped, while it waited")
            self._waiting.pop(tenure).set_exception(error)
        for grant in orders.leaving:
            self._spawn(self._detach(grant))
        for grant in orders.granted:
            self._waiting.pop(grant.tenure).set_result(grant)

    async def _detach(self, grant: Grant) -> None:
        host = self._hosts[grant.host]
        opening = host.openings
        # Nobody renews it any more, so its trial waits no longer than a term for the answer.
        self._await_lapse(host, [grant.lease])
        try:
            await host.handle.detach.remote(grant.lease)
        except RayError as error:
            self._lose(host, opening, str(error))
        self._leases.left(grant.lease)
        self._settle()

    async def _renew(self, host: _Host) -> None:
        opening = host.openings
        try:
            leases, since = list(self._leases.on(host.number)), self._vouch(host)
            heard: Heard = await host.handle.renew.remote(leases, since)
        except RayError as error:
            self._lose(host, opening, str(error))
        else:
            if opening == host.openings:
                self._hear(host, heard)
                host.watch.hear(heard.progress)

    def _hear(self, host: _Host, heard: Heard) -> None:
        host.stamp, host.stamped_at = heard.stamp, time.monotonic()

    def _vouch(self, host: _Host) -> Stamp | None:
        """The stamp for terms to begin at, of which this takes note."""
        host.vouched_at = max(host.vouched_at, host.stamped_at)
        return host.stamp

    def _await_lapse(self, host: _Host, leases: Sequence[str]) -> None:
        """Take these for ended once the last term that they can have is over."""

        def lapse() -> None:
            for lease in leases:
                self._leases.lapsed(lease)
            host.unsure.difference_update(leases)
            self._settle()

        over = host.vouched_at + self._lease_seconds + _PUBLISHING
        asyncio.get_running_loop().call_later(max(0.0, over - time.monotonic()), lapse)

    async def _keep(self, host: _Host) -> None:
        """Open the host, and open it again whenever it comes back."""
        held: list[Grant] | None
        try:
            # Fails at once while the host restarts; then it has nothing to hand over.
            held = await host.handle.leases.remote()
        except RayError:
            held = None
        while await self._open(host, held):
            await self._lost(host)
            held = None

    async def _open(self, host: _Host, held: list[Grant] | None) -> bool:
        """Wait until the host serves, with what it holds or empty; False if it never will."""
        try:
            plan: PackingPlan = await host.handle.ready.remote()
            if held is None:
                # The trials that were on it have been told that their slots are gone.
                await host.handle.clear.remote()
            heard: Heard = await host.handle.renew.remote([], None)
        except ActorDiedError as error:
            host.gone = str(error)
            self._refuse_all()
            return False
        except RayError:
            await asyncio.sleep(_RETRY)
            return await self._open(host, None)
        self._hear(host, heard)
        if host.node in ("", heard.node):
            # It has ended what it served itself; or it died, and its node has seen to that.
            self._end_unsure(host)
        host.node = heard.node
        host.is_open = True
        host.openings += 1
        host.suspected.clear()
        self._leases.open_host(host.number, plan.slots, held or ())
        self._settle()
        return True

    async def _lost(self, host: _Host) -> None:
        """Wait until the host ends, or a call to it fails."""
        # A call of its own each time: one from before may yet fail for the process before.
        ended: asyncio.Future[str] = asyncio.wrap_future(host.handle.watch.remote().future())
        suspected = asyncio.ensure_future(host.suspected.wait())
        either: set[asyncio.Future[Any]] = {ended, suspected}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        suspected.cancel()
        if ended.done():
            error = ended.exception()
            self._close(host, str(error) if error else ended.result())
        else:
            ended.add_done_callback(asyncio.Future.exception)  # nobody needs to hear of it

    def _lose(self, host: _Host, opening: int, reason: str) -> None:
        """A call made after this opening failed: look again whether and with what it serves."""
        if opening == host.openings:
            self._close(host, reason)
            host.suspected.set()

    def _close(self, host: _Host, reason: str) -> None:
        """The host's slots are lost; their holders learn it from their own calls."""
        if host.is_open:
            host.is_open = False
            host.deaths.append(reason)
            host.watch.restart()
            lost = self._leases.forget_host(host.number)
            host.unsure.update(lost)
            self._await_lapse(host, lost)
            self._settle()

    def _end_unsure(self, host: _Host) -> None:
        for lease in host.unsure:
            self._leases.lapsed(lease)
        host.unsure.clear()

    def _refuse_all(self) -> None:
        if all(host.gone for host in self._hosts):
            for waiting in self._waiting.values():
                waiting.set_exception(self._hosts_gone())
            self._waiting.clear()

    def _hosts_gone(self) -> HostsGoneError:
        return HostsGoneError("\n".join(host.gone for host in self._hosts))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run beside the calls. The loop itself keeps only weak references to its tasks."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def start_pool(hosts: Iterable[str], hang_seconds: float, lease_seconds: float) -> Any:  # noqa: ANN401 (an actor handle)
    """Start the pool of these hosts on the driver's node, where what kills it ends the sweep too.

    Args:
        hosts: names, from :func:`orchestrator.hosts.launch.start_hosts`.
        hang_seconds: the least that counts as hung; see :class:`HostWatch`.
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
    return placed.remote(list(hosts), hang_seconds, lease_seconds)
