"""The small sweep on a cluster of several raylets, to be disturbed, and what became of it."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from cluster.storage.base import Storage, open_storage
from orchestrator.ledger import VERDICT_FILE, Ledger
from orchestrator.verdict.outcome import Verdict
from tests.raylets import Raylet, Raylets, wait_until
from tests.small_sweep import EPOCHS, NAME, Run, write_spec

WORKERS = 2
PLACED = ", gpus_per_rank: 1, placement: {labels: {role: worker}}"
"""A host a node: each has one GPU, which Ray believes in and torch does not."""

_AT_REST = {"ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::IDLE"}
"""Ray's own processes, and workers that wait for work of whatever job."""

_HELD = """
import json, sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
total, free = ray.cluster_resources(), ray.available_resources()
groups = ray.util.placement_group_table().values()
print(json.dumps({
    "resources": {k: v - free.get(k, 0) for k, v in total.items() if v > free.get(k, 0)
                  and not k.startswith(("memory", "object_store_memory"))},
    "groups": [g["name"] for g in groups if g["state"] != "REMOVED"],
    "actors": [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)],
}))
"""


@dataclass
class Nodes:
    """A cluster whose every node but the head has room for one host."""

    cluster: Raylets
    workers: list[Raylet] = field(default_factory=list)

    def add(self, environment: Mapping[str, str] | None = None) -> Raylet:
        node = self.cluster.add(gpus=1, labels={"role": "worker"}, environment=environment)
        self.workers.append(node)
        return node

    def of(self, process: psutil.Process) -> Raylet:
        """The node that a process runs on."""
        raylets = {parent.pid for parent in process.parents()}
        (node,) = [n for n in self.workers if n.processes["raylet"] in raylets]
        return node

    def processes(self, actor: str) -> list[psutil.Process]:
        """Workers that Ray has given the name of this actor."""
        return [each for each in self.cluster.processes() if actor in command(each)]

    def held(self) -> dict[str, object]:
        """What is still taken of the cluster when its driver has ended; empty when nothing is."""
        found: dict[str, object] = {}

        def look() -> bool:
            answer = subprocess.run(
                [sys.executable, "-c", _HELD, self.cluster.address],
                env=self.cluster.environment,
                capture_output=True,
                text=True,
            )
            found.clear()
            assert answer.returncode == 0, answer.stderr
            found.update({k: v for k, v in json.loads(answer.stdout.splitlines()[-1]).items() if v})
            names = [command(each) for each in self.cluster.processes()]
            if busy := [n for n in names if n.startswith("ray::") and n not in _AT_REST]:
                found["processes"] = busy
            return not found

        try:
            wait_until(look)
        except AssertionError:
            return found
        return {}


@dataclass
class ClusterSweep:
    """One folder with the spec and what the driver says; one storage; one cluster after another."""

    folder: Path
    storage: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of driver and cluster alike, beside what each has."""
    more: str = ""
    """Further sections of the spec."""
    patience: float = 420.0

    def start(self, nodes: Nodes) -> Run:
        """The command, on these nodes; the same again goes on."""
        spec = write_spec(self.folder, hosts=WORKERS, slots=1, resources=PLACED, more=self.more)
        environment = {**nodes.cluster.environment, **self.environment}
        options = ("--address", nodes.cluster.address)
        return Run(spec, self.storage, options, environment, self.patience).start()

    @property
    def ledger(self) -> Ledger:
        return Ledger(open_storage(self.storage), NAME)

    def epochs(self, number: int) -> int:
        """How many trials have committed this epoch."""
        return sum(len(self.ledger.epochs(t.id)) >= number for t in self.ledger.trials())


@dataclass(frozen=True)
class Outcome:
    """What a sweep has to show."""

    verdict: Verdict
    adapters: Mapping[str, str]
    """SHA-256 of every epoch's adapter and optimiser, by their keys."""

    @classmethod
    def of(cls, ledger: Ledger) -> "Outcome":
        text = ledger.read_text(VERDICT_FILE)
        assert text is not None, "there is no verdict"
        # The protocol names the prompt file, which lies elsewhere.
        verdict = replace(Verdict.from_json(text), protocol_hash="")
        return cls(verdict, adapters(ledger.storage, ledger))


def adapters(storage: Storage, ledger: Ledger) -> dict[str, str]:
    """SHA-256 of what every committed epoch trained."""
    return {
        f"{record.id} {epoch} {name}": hashlib.sha256(
            storage.read_from(ledger.checkpoint(record.id, epoch), name)
        ).hexdigest()
        for record in ledger.trials()
        for epoch in range(1, EPOCHS + 1)
        if storage.is_committed(ledger.checkpoint(record.id, epoch))
        for name in ("adapter_model.safetensors", "optimizer.safetensors")
    }


def host_logs(cluster: Raylets) -> list[str]:
    """What each process of a cluster, of hosts among them, has written to its standard error."""
    logs = cluster.token_file.parent.glob("ray/session_2*/logs/worker-*.err")
    return [log.read_text() for log in logs]


def begun(cluster: Raylets) -> Counter[str]:
    """How often hosts began to train each epoch, by what they wrote into their logs."""
    keys = (re.findall(r"^training (\S+)$", log, re.MULTILINE) for log in host_logs(cluster))
    return Counter(key for found in keys for key in found)


def command(process: psutil.Process) -> str:
    """What a process calls itself; empty when it has just ended."""
    try:
        return " ".join(process.cmdline()[:1])
    except psutil.NoSuchProcess:
        return ""


Condition = Callable[[], bool]
