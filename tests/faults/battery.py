"""Every fault that docs/reliability.md names, each in a whole small sweep on a cluster of raylets.

Run it from the repository's root, with some minutes for each case and nothing else at work:

    python -m tests.faults.battery [CASE...] [--json]

A case runs to the verdict, and is compared with the case ``undisturbed``, which always comes first.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from tests.cluster_sweep import WORKERS, ClusterSweep, Nodes, Outcome, begun, host_logs
from tests.raylets import Raylet, raylets, wait_until
from tests.small_sweep import EPOCHS, RANKS, Run

PATIENCE = 3600.0
"""Seconds until a run is taken to hang; a case takes minutes."""
_GONE = 20.0
"""For so long a service is gone, or a disk full; seconds."""
_GRACE = 10.0
"""Between a host's hearing that its node goes and its going, seconds; clouds give 30 and more."""
_JUMP = 7 * 24 * 3600
"""By which a clock jumps, seconds."""


@dataclass
class Stage:
    """What a case is given, and what it leaves for the comparison."""

    sweep: ClusterSweep
    stack: ExitStack
    nodes: Nodes
    kills: int = 0
    """Of anything that was at work."""
    begun: dict[str, int] = field(default_factory=dict)
    """How often hosts of clusters that are gone began to train each epoch."""
    held: dict[str, object] = field(default_factory=dict)

    def begin(self) -> Run:
        """The command, which is ended with the case if it still runs then."""
        run = self.sweep.start(self.nodes)
        self.stack.callback(run.end)
        return run

    def to_the_end(self, run: Run) -> None:
        code = run.finish()
        assert code == 0, f"the command ended with {code}:\n{run.stderr}"

    def look(self) -> None:
        """Note what a cluster that is about to go has to tell."""
        for key, times in begun(self.nodes.cluster).items():
            self.begun[key] = self.begun.get(key, 0) + times


Case = Callable[[Stage], None]


def undisturbed(stage: Stage) -> None:
    """Nothing happens."""
    stage.to_the_end(stage.begin())


def worker(stage: Stage) -> None:
    """kill -9 of a host's process, when a trial has committed its first epoch."""
    run = stage.begin()
    run.wait_for(lambda: stage.sweep.epochs(1) >= 1)
    stage.nodes.processes("HostActor")[0].kill()
    stage.kills = 1
    stage.to_the_end(run)


def node(stage: Stage) -> None:
    """kill -9 of the raylet of a node with a host, at the same moment; the node stays away."""
    run = stage.begin()
    run.wait_for(lambda: stage.sweep.epochs(1) >= 1)
    stage.nodes.cluster.kill(_host_node(stage))
    stage.kills = 1
    stage.to_the_end(run)


def driver(stage: Stage) -> None:
    """kill -9 of the driver, at the same moment; then the same command on the same cluster."""
    run = stage.begin()
    run.wait_for(lambda: stage.sweep.epochs(1) >= 1)
    run.kill()
    stage.kills = 1
    stage.held = stage.nodes.held()
    stage.to_the_end(stage.begin())


def stopped(stage: Stage) -> None:
    """SIGTERM to the driver, at the same moment; then the same command on the same cluster."""
    run = stage.begin()
    run.wait_for(lambda: stage.sweep.epochs(1) >= 1)
    run.stop()
    stage.kills = 1
    stage.held = stage.nodes.held()
    stage.to_the_end(stage.begin())


def cluster(stage: Stage) -> None:
    """kill -9 of every process, the driver's too, at the same moment; then a new cluster."""
    run = stage.begin()
    run.wait_for(lambda: stage.sweep.epochs(1) >= 1)
    run.kill()
    stage.look()
    stage.nodes.cluster.end()
    stage.kills = 1
    stage.nodes = stage.stack.enter_context(_cluster())
    stage.to_the_end(stage.begin())


def preempted(stage: Stage) -> None:
    """A node's notice file appears while its host trains; another node joins, and the first goes
    some seconds after its host has heard of it."""
    notice = stage.sweep.folder / "going"
    going = stage.nodes.add({"VOXSWEEP_NOTICE_FILE": str(notice)})
    for each in list(stage.nodes.workers[:-1]):
        stage.nodes.cluster.kill(each)
        stage.nodes.workers.remove(each)
    run = stage.begin()
    run.wait_for(lambda: any("epoch-002" in key for key in begun(stage.nodes.cluster)))
    notice.touch()
    stage.nodes.add()
    run.wait_for(lambda: "takes no more work" in _said(stage))
    _wait(run, _GRACE)
    stage.nodes.cluster.kill(going)
    stage.kills = 1
    stage.to_the_end(run)


def joins(stage: Stage) -> None:
    """The sweep begins with one node; another joins in mid-sweep and serves."""
    stage.nodes.cluster.kill(stage.nodes.workers.pop())
    run = stage.begin()
    run.wait_for(lambda: stage.sweep.epochs(1) >= 1)
    late = stage.nodes.add()
    run.wait_for(lambda: any(stage.nodes.of(h) == late for h in stage.nodes.processes("HostActor")))
    stage.to_the_end(run)


def s3(stage: Stage) -> None:
    """The storage is S3, and does not answer for a while in mid-sweep."""
    server = stage.stack.enter_context(_moto())
    _use(stage, server)
    run = stage.begin()
    run.wait_for(lambda: stage.sweep.epochs(1) >= 1)
    with server.stopped():
        _wait(run, _GONE)
    stage.to_the_end(run)


def mlflow(stage: Stage) -> None:
    """MLflow is a server, and does not answer for a while in mid-sweep."""
    server = stage.stack.enter_context(_mlflow(stage.sweep.folder))
    stage.sweep.more = f"records: {{mlflow: '{server.url}'}}\n"
    run = stage.begin()
    run.wait_for(lambda: stage.sweep.epochs(1) >= 1)
    with server.stopped():
        _wait(run, _GONE)
    stage.to_the_end(run)


def disk(stage: Stage) -> None:
    """The disk of a node, on which hosts put together what they send to S3, is full for a while in
    mid-sweep. Needs root: it is a small tmpfs."""
    server = stage.stack.enter_context(_moto())
    _use(stage, server)
    place = stage.sweep.folder / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(place)], check=True)
    stage.stack.callback(lambda: subprocess.run(["umount", "--lazy", str(place)], check=True))
    for each in list(stage.nodes.workers):
        stage.nodes.cluster.kill(each)
        stage.nodes.workers.remove(each)
    environment = {**server.environment, "VOXSWEEP_CACHE": str(place)}
    for _ in range(WORKERS):
        stage.nodes.add(environment)
    run = stage.begin()
    run.wait_for(lambda: stage.sweep.epochs(1) >= 1)
    ballast = place / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))
            file.flush()
    run.wait_for(lambda: "waits for the storage" in _said(stage))
    ballast.unlink()
    stage.to_the_end(run)


def clock(stage: Stage) -> None:
    """The wall clock of a node's processes jumps by a week, forward and then back, in mid-sweep.
    Needs libfaketime, named by VOXSWEEP_LIBFAKETIME: the machine's own clock is left alone."""
    library = os.environ.get("VOXSWEEP_LIBFAKETIME")
    assert library, "name libfaketime.so.1 with VOXSWEEP_LIBFAKETIME"
    file = stage.sweep.folder / "clock"
    file.write_text("+0\n")
    stage.nodes.cluster.kill(stage.nodes.workers.pop())
    stage.nodes.add(
        {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    )
    run = stage.begin()
    for epoch, jump in ((1, _JUMP), (2, -_JUMP)):
        run.wait_for(lambda epoch=epoch: stage.sweep.epochs(epoch) >= 1)  # type: ignore[misc]
        file.write_text(f"{jump:+d}\n")
    stage.to_the_end(run)


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        *(undisturbed, worker, node, driver, stopped, cluster),
        *(preempted, joins, s3, mlflow, disk, clock),
    )
}


@dataclass(frozen=True)
class Row:
    """What came of a case."""

    case: str
    passed: bool
    same_verdict: bool
    same_adapters: bool
    trials_lost: int
    epochs_repeated: int
    """Begun more than once by a host."""
    kills: int
    held: str
    """What was still taken of the cluster after the end; empty is nothing."""
    minutes: float
    error: str = ""


def run_case(name: str, expected: Outcome | None) -> tuple[Row, Outcome | None]:
    """Run one case from nothing to its verdict."""
    started, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="battery-"))
    outcome, error, trials_lost, repeated = None, "", 0, 0
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        sweep = ClusterSweep(folder, str(folder / "st"), patience=PATIENCE)
        stage = Stage(sweep, stack, stack.enter_context(_cluster()))
        try:
            CASES[name](stage)
            outcome = Outcome.of(sweep.ledger)
            stage.held |= stage.nodes.held()
        except Exception as caught:  # noqa: BLE001 (a case that fails is a row of the table)
            error = f"{type(caught).__name__}: {caught}"
        stage.look()
        repeated = sum(times - 1 for times in stage.begun.values())
        if outcome is not None:
            ends = [sweep.ledger.result(record.id) for record in sweep.ledger.trials()]
            trials_lost = sum(end is None or end.end == "failed" for end in ends)
    expected = expected or outcome
    same_verdict = (
        outcome is not None and expected is not None and (outcome.verdict == expected.verdict)
    )
    same_adapters = (
        outcome is not None and expected is not None and (outcome.adapters == expected.adapters)
    )
    fine = same_verdict and same_adapters and not (error or trials_lost or stage.held)
    counted = len(stage.begun) == len(RANKS) * EPOCHS  # every epoch was begun at least once
    row = Row(
        case=name,
        passed=fine and counted and repeated <= stage.kills,
        same_verdict=same_verdict,
        same_adapters=same_adapters,
        trials_lost=trials_lost,
        epochs_repeated=repeated,
        kills=stage.kills,
        held=json.dumps(stage.held) if stage.held else "",
        minutes=round((time.monotonic() - started) / 60, 1),
        error=error,
    )
    return row, outcome


def main() -> None:
    """Run the cases that are named, or all; exit code 1 when one did not pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--json", action="store_true", help="print one object")
    asked = parser.parse_args()
    if unknown := set(asked.cases) - set(CASES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    expected: Outcome | None = None
    rows = []
    for name in CASES:
        if name == "undisturbed" or not asked.cases or name in asked.cases:
            row, outcome = run_case(name, expected)
            expected = expected or outcome
            rows.append(row)
            sys.stderr.write(_line(row) + "\n")
    if asked.json:
        report = {"name": "faults", "cases": [asdict(row) for row in rows]}
        sys.stdout.write(json.dumps(report) + "\n")
    sys.exit(not all(row.passed for row in rows))


def _line(row: Row) -> str:
    said = "passed" if row.passed else "FAILED"
    same = f"verdict {_equal(row.same_verdict)}, adapters {_equal(row.same_adapters)}"
    counts = f"lost {row.trials_lost}, repeated {row.epochs_repeated} of {row.kills} kills"
    held = f"held {row.held or 'nothing'}"
    return f"{row.case:12} {said}  {same}; {counts}; {held}; {row.minutes} min  {row.error}"


def _equal(same: bool) -> str:
    return "equal" if same else "differ"


@contextmanager
def _cluster() -> Iterator[Nodes]:
    with raylets(cpus=1) as made:
        nodes = Nodes(made)
        for _ in range(WORKERS):
            nodes.add()
        try:
            yield nodes
        finally:
            if not made.token_file.parent.exists():  # a case has ended it
                made.token_file.parent.mkdir()


def _host_node(stage: Stage) -> Raylet:
    """The node of a host, the other one's if there are two."""
    return stage.nodes.of(stage.nodes.processes("HostActor")[0])


def _said(stage: Stage) -> str:
    return "".join(host_logs(stage.nodes.cluster))


def _use(stage: Stage, server: "Server") -> None:
    """Have the sweep keep what it makes there; a new cluster, since nodes need the login."""
    stage.sweep.storage = "s3://sweeps/battery"
    copies = {"VOXSWEEP_CACHE": str(stage.sweep.folder / "cache")}
    stage.sweep.environment = {**server.environment, **copies}
    os.environ.update(stage.sweep.environment)
    stage.stack.callback(lambda: [os.environ.pop(name) for name in stage.sweep.environment])
    server.make_bucket()
    stage.nodes.cluster.end()
    stage.nodes = stage.stack.enter_context(_cluster())


def _wait(run: Run, seconds: float) -> None:
    """Let the run go on for so long: what is gone for a while is gone for some time."""
    until = time.monotonic() + seconds
    run.wait_for(lambda: time.monotonic() > until)


@dataclass
class Server:
    """A server on loopback, which can be gone for a while and comes back as it was."""

    command: list[str]
    port: int
    environment: dict[str, str] = field(default_factory=dict)

    def start(self) -> "Server":
        self._process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._answers)
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """For the block nobody gets an answer: its processes are stopped, and keep their state."""
        family = [*psutil.Process(self._process.pid).children(recursive=True)]
        family.append(psutil.Process(self._process.pid))
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                process.resume()

    def end(self) -> None:
        family = psutil.Process(self._process.pid).children(recursive=True)
        for process in (*family, psutil.Process(self._process.pid)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def make_bucket(self) -> None:
        import boto3

        client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")
        client.create_bucket(Bucket="sweeps")

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"{self.command} ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def _serving(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.end()


def _moto() -> contextlib.AbstractContextManager[Server]:
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "AKIATESTING",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
    return _serving(Server(command, port, environment))


def _mlflow(folder: Path) -> contextlib.AbstractContextManager[Server]:
    port = _free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts"), "--workers", "1"),
    ]
    return _serving(Server(command, port))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
