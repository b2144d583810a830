"""Starting and ending the hosts of a sweep on the cluster."""

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import ray
from ray.actor import ActorProxy
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from jobs.training.loop import HostLoop
from orchestrator.hosts.host_actor import HostActor
from orchestrator.hosts.node_requirements import Room
from orchestrator.hosts.rank_group import End, HostTask, RankGroup

_CALLS_AT_ONCE = 64
"""Of leases' holders; each slot has one at a time, and one more while its holder changes."""


def open_loop(task: HostTask, end: End) -> HostLoop:
    """A loop over the ranks of a host, started."""
    loop = HostLoop(partial(RankGroup, task, end))
    loop.start()
    return loop


def start_hosts(
    task: HostTask,
    room: Room,
    count: int,
    open_loop: Callable[[HostTask, End], HostLoop] = open_loop,
) -> dict[str, ActorProxy[HostActor]]:
    """Start ``count`` hosts, each as soon as the cluster has ``room`` for it, now or later.

    Returns:
        Their handles by name, for :func:`end_hosts`. The hosts end with this process too.
    """
    actor = ray.remote(concurrency_groups={"control": 4, "watch": 4})(HostActor)  # type: ignore[call-overload]  # Ray's stubs lack it, and options() refuses it
    hosts: dict[str, ActorProxy[HostActor]] = {}
    for _ in range(count):
        name = f"host-{uuid.uuid4().hex}"
        placed = actor.options(
            name=name,
            num_cpus=room.rank.get("CPU", 0),
            num_gpus=room.rank.get("GPU", 0),
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=_CALLS_AT_ONCE,
            **_where(name, room, task.engine.ranks),
        )
        hosts[name] = placed.remote(task, open_loop)
    return hosts


def _where(name: str, room: Room, ranks: int) -> dict[str, Any]:
    """What else a host asks of Ray; of several ranks, a placement group of its name.

    One rank has none. When a node is lost and nothing else has room for a placement group of it,
    Ray (2.60, its pull request 65007) tries again without a pause, and its head has time for little
    else until a node comes.
    """
    if ranks == 1:
        more = {what: amount for what, amount in room.rank.items() if what not in ("CPU", "GPU")}
        return {"resources": more, "label_selector": dict(room.labels)}
    group = ray.util.placement_group(
        [dict(room.rank)] * ranks,
        strategy=room.strategy,
        name=name,
        bundle_label_selector=[dict(room.labels)] * ranks,
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
