"""Hosts without a model on a real local Ray, and a pool over them."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from jobs.spec.trial import TrialSpec
from orchestrator.hosts.fleet import end_hosts, start_hosts
from orchestrator.hosts.leased_slot import LeasedSlot
from orchestrator.hosts.node_requirements import HostResources
from orchestrator.hosts.pool import start_pool
from tests.orchestrator.hosts.fake_loop import STAGE, FakeLoop, Stage, fake_task

RESOURCES = HostResources({"CPU": 0.1})


@dataclass
class FakeCluster:
    """What a driver has, and what a test needs to see and to break."""

    storage: Path
    stage: Any
    hosts: dict[str, Any]
    pool: Any

    def hold(self, event: str) -> None:
        ray.get(self.stage.hold.remote(event))

    def let(self, event: str) -> None:
        ray.get(self.stage.let.remote(event))

    def order(self, event: str, what: str) -> None:
        ray.get(self.stage.order.remote(event, what))

    def reap(self, trial: TrialSpec) -> None:
        ray.get(self.pool.reap.remote(trial.id))

    def slot(self) -> LeasedSlot:
        return LeasedSlot(self.pool)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = ray.get(self.pool.state.remote())
        return state

    def beat(self) -> None:
        """As a driver does, so that leases stay in force."""
        ray.get(self.pool.beat.remote())

    def beat_until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Beat as a driver would, until the pool's state is so."""
        while not condition(state := self.state()):
            ray.get(self.pool.beat.remote())
        return state

    def happened(self, kind: str) -> list[str]:
        events: list[str] = ray.get(self.stage.happened.remote())
        return [event for event in events if event.startswith(kind)]

    def wait_for(self, event: str, times: int = 1) -> None:
        ray.get(self.stage.wait_for.remote(event, times))

    def is_empty(self) -> bool:
        """Whether nobody holds or awaits a slot, on the pool and on the hosts."""
        served = ray.get([host.served.remote() for host in self.hosts.values()])
        state = self.state()
        return state["leases"] == {} and state["waiting"] == [] and not any(served)

    def wait_until_empty(self) -> None:
        """Hosts hear of a release a moment after the pool."""
        while not self.is_empty():
            pass

    def process_serving(self, trial: TrialSpec) -> int:
        """The process id of the host that serves the trial."""
        (name,) = [
            name
            for name, host in zip(self.hosts, self.state()["hosts"], strict=True)
            if trial.id in host["leases"].values()
        ]
        pid: int = ray.get(self.hosts[name].__ray_call__.remote(lambda _: os.getpid()))
        return pid

    def signal_host(self, opened: int, number: int) -> None:
        """Send a signal to the process that was the ``opened``-th to open."""
        os.kill(int(self.happened("open")[opened].split()[1]), number)


@contextlib.contextmanager
def fake_cluster(
    storage: Path,
    *,
    hosts: int = 1,
    slots: int = 2,
    hang: float = 60.0,
    lease: float = 600.0,
    source: str = "",
) -> Iterator[FakeCluster]:
    stage = ray.remote(Stage).options(num_cpus=0, name=STAGE, max_concurrency=1000).remote()
    started = start_hosts(fake_task(storage, slots, lease, source), RESOURCES, hosts, FakeLoop)
    pool = start_pool(started, hang, lease)
    try:
        yield FakeCluster(storage, stage, started, pool)
    finally:
        end_hosts(started)
        for actor in (pool, stage):
            ray.kill(actor)


STOP, GO_ON, TERM, KILL = signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM, signal.SIGKILL
