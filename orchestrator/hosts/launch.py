"""Hosts on the cluster: what they are told, and how they are started."""

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from jobs.spec.trial import EngineSpec, HostSpec, TrainingSpec
from orchestrator.hosts.host_actor import End, HostActor
from orchestrator.hosts.node_requirements import Room
from orchestrator.hosts.rank_group import RankGroup

if TYPE_CHECKING:
    from jobs.training.loop import HostLoop

_CALLS_AT_ONCE = 64
"""Of leases' holders; each slot has one at a time, and one more while its holder changes."""


@dataclass(frozen=True)
class HostTask:
    """What every host of a sweep is told."""

    host: HostSpec
    engine: EngineSpec
    storage_url: str
    data_key: str
    slots: int | None
    """Adapters it may hold at once; None is as many as its memory takes, measured."""
    training: TrainingSpec
    """Of the largest adapter that will come, to measure with."""
    batch_sizes: tuple[int, ...]
    """Those that the sweep's trials may have."""
    provenance: str
    """By what right the voice is used, for every clip's metadata."""
    lease_seconds: float
    """A lease that nobody renews for so long is ended."""


def open_loop(task: HostTask, end: End) -> "HostLoop":
    """A loop over the ranks of a host, started."""
    from jobs.training.loop import HostLoop

    loop = HostLoop(partial(RankGroup, task, end))
    loop.start()
    return loop


def start_hosts(
    task: HostTask,
    room: Room,
    count: int,
    open_loop: "Callable[[HostTask, End], HostLoop]" = open_loop,
) -> dict[str, Any]:
    """Start ``count`` hosts, each as soon as the cluster has ``room`` for it, now or later.

    Returns:
        Their handles by name, for :func:`end_hosts`. The hosts end with this process too.
    """
    actor = ray.remote(concurrency_groups={"control": 4, "watch": 4})(HostActor)  # type: ignore[call-overload]  # Ray's stubs lack it, and options() refuses it
    hosts = {}
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


def end_hosts(hosts: Mapping[str, Any]) -> None:
    """End these hosts, whatever they do, and give back what was kept for them."""
    for name, host in hosts.items():
        ray.kill(host)
        # Ray would remove it with this process's job, but that may have much to do yet.
        with suppress(ValueError):  # a host of one rank has none
            ray.util.remove_placement_group(ray.util.get_placement_group(name))
