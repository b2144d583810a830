"""Where hosts run: what one asks of Ray's nodes, and whether any node could ever hold it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.problems import InputError, Problem
from orchestrator.spec.model import SweepSpec

_ACCELERATOR = "accelerator_type:"
"""Begins the resource that a node has 1 of for the type of its GPUs."""
_SHARE = 0.001
"""Of that resource, as Ray's own ``accelerator_type`` option takes."""


@dataclass(frozen=True)
class HostResources:
    """What a host asks of the cluster."""

    rank: Mapping[str, float]
    """Ray's resources for each rank of it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Ray's label selector for the nodes of all ranks."""
    spread: bool = False
    """Whether its ranks may be on several nodes."""

    @property
    def strategy(self) -> str:
        """Ray's word for how the ranks are placed."""
        return "PACK" if self.spread else "STRICT_PACK"

    def describe(self, ranks: int) -> str:
        """In words, for a host of so many ranks."""
        asks = {name: amount for name, amount in self.rank.items() if amount > _SHARE}
        asks |= {name: 1 for name in self.rank if name.startswith(_ACCELERATOR)}
        where = "" if ranks == 1 else " each, on one node" if not self.spread else " each"
        labels = f" of nodes with {dict(self.labels)}" if self.labels else ""
        return f"a host takes {ranks} x {asks}{where}{labels}"


def accelerator_of(resource: str) -> str | None:
    """The type of GPU that a resource of a node stands for; None where it is another resource."""
    return resource.removeprefix(_ACCELERATOR) if resource.startswith(_ACCELERATOR) else None


def host_resources(spec: SweepSpec) -> HostResources:
    """What each host of the sweep asks for."""
    resources = spec.resources
    rank = {"CPU": resources.cpus_per_rank}
    if resources.gpus_per_rank:
        rank["GPU"] = resources.gpus_per_rank
    if resources.placement.accelerator:
        rank[f"{_ACCELERATOR}{resources.placement.accelerator}"] = _SHARE
    return HostResources(rank, resources.placement.labels, resources.placement.spread_ranks)


def check_resources(spec: SweepSpec, nodes: Iterable[Mapping[str, Any]]) -> None:
    """Return if a cluster that no node will join could hold a host of the sweep.

    Raises:
        InputError: it never could.
    """
    resources, ranks = host_resources(spec), spec.engine.ranks
    if not could_hold(nodes, resources, ranks):
        what = f"{resources.describe(ranks)}, and this machine has no such room"
        hint = "Ask for less, or name a cluster that has it with --address."
        raise InputError([Problem("resources", what, hint)])


def could_hold(nodes: Iterable[Mapping[str, Any]], resources: HostResources, ranks: int) -> bool:
    """Whether a cluster of these nodes and no others could hold one host, were it empty.

    Args:
        nodes: as ``ray.nodes()`` has them.
        resources: what the host asks for.
        ranks: of the host.
    """
    places = [
        min(int(node["Resources"].get(name, 0) / amount) for name, amount in resources.rank.items())
        for node in nodes
        if node["Alive"] and _matches(node["Labels"], resources.labels)
    ]
    return (sum(places) if resources.spread else max(places, default=0)) >= ranks


def _matches(labels: Mapping[str, str], rules: Mapping[str, str]) -> bool:
    for name, rule in rules.items():
        values = re.findall(r"[A-Za-z0-9][A-Za-z0-9_.-]*", rule.removeprefix("!"))
        if rule.endswith(")"):
            values = values[1:]  # what precedes them is the word "in"
        if (labels.get(name) in values) == rule.startswith("!"):
            return False
    return True
