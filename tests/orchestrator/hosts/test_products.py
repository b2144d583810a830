"""Processes that train take matrix products in the strict mode of their own node's CPU."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import ray

from cluster.ray.connect import ray_cluster
from jobs.mkl import VARIABLE, strict_mode
from jobs.spec.trial import EngineSpec, HostSpec, TrainingSpec
from jobs.training.packing import PackingPlan
from orchestrator.hosts.fleet import end_hosts, start_hosts
from orchestrator.hosts.node_requirements import HostResources
from orchestrator.hosts.rank_group import End, HostTask, PeerActor

OWN = "COMPATIBLE"


def seen() -> str:
    """What this process multiplies by, and whether it could have done so already."""
    return f"{os.environ.get(VARIABLE)}, torch loaded: {'torch' in sys.modules}"


class SeenLoop:
    """Says what a host's process is like when it is about to load its base."""

    def __init__(self, task: HostTask, end: End) -> None:
        self._seen = seen()

    def measure(
        self, training: TrainingSpec, batch_sizes: Sequence[int], slots: int | None
    ) -> PackingPlan:
        return PackingPlan(1, {}, {}, 0.0, self._seen)


class SeenPeer(PeerActor):
    """Says the same of another rank's process."""

    def seen(self) -> str:
        return seen()


def test_hosts_and_ranks_have_it_before_torch_is_loaded_and_the_users_own_value_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    task = HostTask(
        host=HostSpec(family="", source="", codec="", voice=None, precision="fp32"),
        engine=EngineSpec(),
        storage_url=str(tmp_path),
        data_key="",
        slots=1,
        training=TrainingSpec(),
        batch_sizes=(1,),
        provenance="a synthetic voice",
        lease_seconds=600.0,
    )
    mode = strict_mode(Path("/proc/cpuinfo").read_text().splitlines(keepends=True))
    # Or the node would have from this process what it is to find out for itself.
    monkeypatch.delenv(VARIABLE, raising=False)
    peer = ray.remote(concurrency_groups={"death": 1})(SeenPeer)
    with ray_cluster(None):
        hosts = start_hosts(task, HostResources({"CPU": 0.1}), 1, SeenLoop)
        other = peer.options(num_cpus=0.1).remote(task, 1)
        kept = peer.options(num_cpus=0.1, runtime_env={"env_vars": {VARIABLE: OWN}}).remote(task, 1)
        (plan,) = ray.get([host.ready.remote() for host in hosts.values()])
        assert plan.reason == f"{mode}, torch loaded: False"
        assert ray.get(other.seen.remote()) == f"{mode}, torch loaded: False"
        assert ray.get(kept.seen.remote()) == f"{OWN}, torch loaded: False"
        end_hosts(hosts)
