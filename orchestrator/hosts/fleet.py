"""The hosts of one run of a sweep, and the pool that lends their slots to trials."""

import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import ray
from ray import ObjectRef
from ray.actor import ActorProxy
from ray.exceptions import RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from jobs.data.prepared.keys import data_key
from jobs.training.loop import HostLoop
from jobs.training.packing import PackingPlan
from orchestrator.context import SweepContext
from orchestrator.errors import InfrastructureError
from orchestrator.hosts.host_actor import HostActor
from orchestrator.hosts.node_requirements import HostResources, host_resources
from orchestrator.hosts.pool import Pool, start_pool
from orchestrator.hosts.rank_group import End, HostTask, RankGroup

LEASE_SECONDS = 30.0
"""A lease that is not renewed for so long expires. A trial of a node that no longer answers waits
as long before it moves, because the node may still train it."""

HANG_SECONDS = 600.0
"""A host that is at one piece of work for longer than this, and than is usual for it, hangs."""

LEAVE_SECONDS = 20.0
"""An interrupted sweep waits for so long at most for its hosts to commit what they have. Slurm and
Kubernetes kill 30 s after their signal by default (KillWait, terminationGracePeriodSeconds)."""

_CALLS_AT_ONCE = 64
"""Of leases' holders; each slot has one at a time, and one more while its holder changes."""
_BEATS_A_LEASE = 4
_PATIENCE = 30.0
"""Seconds without a host until the user is told what the sweep waits for."""

Tell = Callable[[str], None]


class Fleet:
    """Hosts, at least one of which is ready.

    The others join when they are: a cluster may have no room for all of them, or only later.
    """

    def __init__(
        self,
        hosts: Collection[ActorProxy[HostActor]],
        pool: ActorProxy[Pool],
        tell: Tell,
        needs: str,
    ) -> None:
        """``needs`` says in words what resources a host takes."""
        self._hosts = list(hosts)
        self.pool = pool
        self._tell = tell
        self._needs = needs
        self._reported: set[str] = set()
        self._loading: list[ObjectRef[PackingPlan]] = [host.ready.remote() for host in hosts]
        self.capacity = len(hosts) * self._first_plan().slots
        """Trials that all the hosts hold together."""

    def reap(self, trial: str) -> None:
        """The trial is over: free what it holds. Does not wait."""
        self.pool.reap.remote(trial)

    def beat(self) -> None:
        """Renew the leases, and tell of hosts that have become ready."""
        with suppress(RayError):  # a pool that is being started anew gets the next one
            ray.get(self.pool.beat.remote(), timeout=LEASE_SECONDS)
        ready, self._loading = ray.wait(self._loading, num_returns=len(self._loading), timeout=0)
        for reference in ready:
            with suppress(RayError):  # what becomes of such a host is the pool's to say
                reason = ray.get(reference).reason
                if reason not in self._reported:
                    self._reported.add(reason)
                    self._tell(f"hosts: {reason}")

    def check(self) -> None:
        """Return if a host is left to serve trials.

        Raises:
            InfrastructureError: no host is left, and none will come back.
        """
        gone = [host["gone"] for host in ray.get(self.pool.state.remote())["hosts"]]
        if all(gone):
            raise _no_host(gone[0])

    def leave(self) -> None:
        """Have the hosts commit what they have of their epochs; wait a while for that."""
        what = "interrupted: the hosts commit what they have trained"
        self._tell(f"{what}, for at most {LEAVE_SECONDS:.0f} s; a second signal ends all at once")
        states = ray.get(self.pool.state.remote())["hosts"]
        serving = [
            host for host, state in zip(self._hosts, states, strict=True) if state["is_open"]
        ]
        leaving = [host.leave.remote("the sweep was interrupted") for host in serving]
        ray.wait(leaving, num_returns=len(leaving), timeout=LEAVE_SECONDS)

    def _first_plan(self) -> PackingPlan:
        """Wait for a host that could be loaded."""
        loading = self._loading
        patience: float | None = _PATIENCE
        while True:
            ready, loading = ray.wait(loading, timeout=patience)
            if ready:
                try:
                    plan: PackingPlan = ray.get(ready[0])
                except RayError as error:
                    if not loading:
                        raise _no_host(str(error)) from None
                else:
                    return plan
            else:
                has = {k: v for k, v in ray.cluster_resources().items() if k in ("CPU", "GPU")}
                nodes = sum(node["Alive"] for node in ray.nodes())
                self._tell(
                    f"no host is ready yet: {self._needs}; the whole cluster has {has} on {nodes} "
                    "nodes. Hosts join when there is room for them, on nodes that come later too"
                )
                patience = None


def _no_host(error: str) -> InfrastructureError:
    what = (error.strip().splitlines() or ["it does not say why"])[-1]
    return InfrastructureError(
        f"no host could go on: {what}. Correct that, then run the same command again."
    )


@contextmanager
def fleet(context: SweepContext, tell: Tell) -> Iterator[Fleet]:
    """Hosts and their pool for the length of the block; ``tell`` gets lines for people.

    Raises:
        InfrastructureError: no host could be loaded.
    """
    resources = host_resources(context.spec)
    hosts = start_hosts(host_task(context), resources, context.spec.hosts)
    pool = start_pool(hosts, HANG_SECONDS, LEASE_SECONDS)
    over = threading.Event()
    try:
        needs = resources.describe(context.spec.engine.ranks)
        started = Fleet(hosts.values(), pool, tell, needs)

        def keep_beating() -> None:
            started.beat()
            while not over.wait(LEASE_SECONDS / _BEATS_A_LEASE):
                started.beat()

        beating = threading.Thread(target=keep_beating, name="beat", daemon=True)
        beating.start()
        try:
            yield started
        except KeyboardInterrupt:
            started.leave()
            raise
        finally:
            over.set()
            beating.join()
    finally:
        ray.kill(pool)  # type: ignore[arg-type]  # Ray's own name for a handle
        end_hosts(hosts)


def host_task(context: SweepContext) -> HostTask:
    """What the sweep's hosts load, and what they measure themselves with."""
    spec = context.spec
    return HostTask(
        host=spec.host(),
        engine=spec.engine,
        storage_url=context.storage_url,
        data_key=data_key(context.data_digest),
        slots=spec.slots_per_host,
        training=spec.largest_training,
        batch_sizes=tuple(sorted(set(spec.corners("batch_size")))),
        lease_seconds=LEASE_SECONDS,
        provenance=spec.data.provenance,
    )


def open_loop(task: HostTask, end: End) -> HostLoop:
    """A loop over the ranks of a host, started."""
    loop = HostLoop(partial(RankGroup, task, end))
    loop.start()
    return loop


def start_hosts(
    task: HostTask,
    resources: HostResources,
    count: int,
    open_loop: Callable[[HostTask, End], HostLoop] = open_loop,
) -> dict[str, ActorProxy[HostActor]]:
    """Start ``count`` hosts, each as soon as the cluster has its ``resources``, now or later.

    Returns:
        Their handles by name, for :func:`end_hosts`. The hosts end with this process too.
    """
    actor = ray.remote(concurrency_groups={"control": 4, "watch": 4})(HostActor)  # type: ignore[call-overload]  # Ray's stubs lack it, and options() refuses it
    hosts: dict[str, ActorProxy[HostActor]] = {}
    for _ in range(count):
        name = f"host-{uuid.uuid4().hex}"
        placed = actor.options(
            name=name,
            num_cpus=resources.rank.get("CPU", 0),
            num_gpus=resources.rank.get("GPU", 0),
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=_CALLS_AT_ONCE,
            **_where(name, resources, task.engine.ranks),
        )
        hosts[name] = placed.remote(task, open_loop)
    return hosts


def _where(name: str, resources: HostResources, ranks: int) -> dict[str, Any]:
    """What else a host asks of Ray; of several ranks, a placement group of its name.

    One rank has none. When a node is lost and nothing else has room for a placement group of it,
    Ray (2.60, its pull request 65007) tries again without a pause, and its head has time for little
    else until a node comes.
    """
    if ranks == 1:
        more = {
            what: amount for what, amount in resources.rank.items() if what not in ("CPU", "GPU")
        }
        return {"resources": more, "label_selector": dict(resources.labels)}
    group = ray.util.placement_group(
        [dict(resources.rank)] * ranks,
        strategy=resources.strategy,
        name=name,
        bundle_label_selector=[dict(resources.labels)] * ranks,
    )
    strategy = PlacementGroupSchedulingStrategy(
        placement_group=group, placement_group_bundle_index=0
    )
    return {"scheduling_strategy": strategy}


def end_hosts(hosts: Mapping[str, ActorProxy[HostActor]]) -> None:
    """End these hosts, whatever they do, and give back what was kept for them."""
    for name, host in hosts.items():
        ray.kill(host)  # type: ignore[arg-type]  # Ray's own name for a handle
        # Ray would remove it with this process's job, but that may have much to do yet.
        with suppress(ValueError):  # a host of one rank has none
            ray.util.remove_placement_group(ray.util.get_placement_group(name))
