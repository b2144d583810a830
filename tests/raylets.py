"""A real Ray cluster of several raylets on this machine, to be killed node by node.

Everything listens on loopback and demands a token of its own. What makes Ray do so:

- ``RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0`` in each process's environment: Ray then takes 127.0.0.1 as
  its address, and binds to it alone. With any other address, such as 127.0.0.2, it listens on all
  interfaces. `ray start` refuses to join a cluster under this switch, Ray's own ``Cluster`` does
  not: ``raylet_keeper.py`` calls that.
- ``RAY_AUTH_MODE=token`` with a token in a file: what comes without it is refused.

All nodes thus have one address and differ by their ports and their ids. A driver that connects is
attached to the head. Nobody else's Ray is touched: processes are ended by their ids.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]

_POLL = 0.05
"""Between two looks at a condition outside this process, which nothing announces; seconds."""
_DEADLINE = 180.0

_HEALTH = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
"""The head looks after its nodes more often than it does by default (3000 and 5), so that a killed
one is missed in seconds; how long a slow one may take to answer stays 10 s."""


@dataclass(frozen=True)
class Raylet:
    """One node of the cluster."""

    id: str
    """Ray's id of it, hexadecimal, as in ``ray.nodes()``."""
    processes: Mapping[str, int]
    """Process ids by what Ray calls them: ``raylet``, and on the head ``gcs_server`` and others."""


class Raylets:
    """The cluster: a head, and the nodes added to it."""

    def __init__(self, folder: Path, *, dashboard: bool) -> None:
        """Nothing runs yet; ``folder`` is a short path (a socket's has 107 bytes), and is ours."""
        self._folder = folder
        self._dashboard = dashboard
        self._seen: set[psutil.Process] = set()
        self.token = secrets.token_hex(32)
        self.token_file = folder / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(self.token)

    @property
    def environment(self) -> dict[str, str]:
        """What a process that talks to this cluster, or is part of it, needs to have."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        return {
            **inherited,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }

    def start(self, cpus: int) -> "Raylets":
        """Start the head. Its drivers and tasks take at most ``cpus``."""
        log = (self._folder / "keeper.log").open("w")
        with log:
            self._keeper = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("raylet_keeper.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
                cwd=self._folder,
            )
        answer = self._order(
            num_cpus=cpus,
            num_gpus=0,
            include_dashboard=self._dashboard,
            dashboard_host="127.0.0.1",
            # One that is taken by the time it is used makes Ray look for the next.
            dashboard_port=None,
            _system_config=_HEALTH,
        )
        self.head = Raylet(answer["id"], answer["processes"])
        self.address: str = answer["address"]
        """``127.0.0.1:port``, as ``ray.init`` takes it."""
        self.dashboard_url = f"http://{answer['dashboard']}" if self._dashboard else ""
        """Where jobs are submitted."""
        return self

    def add(
        self,
        cpus: int = 1,
        gpus: int = 0,
        labels: Mapping[str, str] | None = None,
        resources: Mapping[str, float] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Raylet:
        """Add a node, which is part of the cluster on return. Its GPUs need not exist.

        ``environment`` is what its processes have beside the cluster's.
        """
        answer = self._order(
            num_cpus=cpus,
            num_gpus=gpus,
            labels=dict(labels or {}),
            resources=dict(resources or {}),
            env_vars=dict(environment or {}),
        )
        return Raylet(answer["id"], answer["processes"])

    def kill(self, node: Raylet) -> None:
        """``kill -9`` of a node's raylet. Its workers and agents end by themselves, a bit later."""
        self.processes()
        process = psutil.Process(node.processes["raylet"])
        process.kill()
        # Its parent, the keeper, buries it when it next looks; dead it is at once.
        wait_until(lambda: not _runs(process))

    def kill_head(self) -> None:
        """``kill -9`` of the head: of what knows the cluster, then of its raylet."""
        self.processes()
        psutil.Process(self.head.processes["gcs_server"]).kill()
        self.kill(self.head)

    def processes(self) -> list[psutil.Process]:
        """Every process of the cluster that runs: what it started, with all that descended from it.

        One whose parent died is known by having been seen before, or by a file of the cluster's
        that it has open or names in its command line.
        """
        with contextlib.suppress(psutil.NoSuchProcess):
            self._seen |= set(psutil.Process(self._keeper.pid).children(recursive=True))
        self._seen |= {each for each in psutil.process_iter() if self._is_ours(each)}
        self._seen.discard(psutil.Process())
        return [each for each in self._seen if _runs(each)]

    def end(self) -> None:
        """End every process of the cluster, and remove its files."""
        self.processes()
        self._keeper.kill()
        self._keeper.communicate()
        # The kernel ends what the keeper started; what descended from that may linger or be born
        # meanwhile.
        while left := self.processes():
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=_DEADLINE)
        shutil.rmtree(self._folder)

    def _order(self, **arguments: object) -> dict:
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        arguments["temp_dir"] = str(self._folder)
        self._keeper.stdin.write(json.dumps(arguments) + "\n")
        self._keeper.stdin.flush()
        answer = self._keeper.stdout.readline()
        assert answer, f"no node was started:\n{(self._folder / 'keeper.log').read_text()}"
        return json.loads(answer)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            opened = (each.path for each in process.open_files())
            return any(str(self._folder) in text for text in (*process.cmdline(), *opened))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


@contextmanager
def raylets(*, cpus: int = 1, dashboard: bool = False) -> Iterator[Raylets]:
    """A cluster of a head alone, to which the block may add; nothing of it is left afterwards.

    Without ``dashboard`` no jobs can be submitted, and two processes fewer run.
    """
    cluster = Raylets(Path(tempfile.mkdtemp(prefix="vs", dir="/tmp")), dashboard=dashboard)
    try:
        yield cluster.start(cpus)
    finally:
        cluster.end()


def wait_until(condition: Callable[[], bool]) -> None:
    """Until ``condition`` holds; fails when it does not within minutes."""
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(_POLL)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
