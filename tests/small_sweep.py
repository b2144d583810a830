"""The real main job, small: two trials of two epochs on the embedded base, run as a user runs it.

Every process that a run starts is remembered, so that a test can see that none is left, and so that
one which is can be ended without touching anybody else's.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from jobs.embedded import VOICE_DIR
from jobs.metrics.references import MIN_REFERENCES

NAME = "small"
SPEC_NAME = "small.yaml"
TRAINING_CLIPS = 24
EPOCHS = 2
RANKS = (2, 4)
SCALES = (0.7, 1.0)
SHORTLIST_AFTER = 2
PROMPTS = ("nine two", "three five five", "one eight", "four six")
FRESH_PROMPTS = ("two two", "seven one three", "six", "eight nine", "five zero one")

_SPEC = """\
name: small
family: codec_lm
data: {{synthetic: true, manifest: manifest.jsonl}}
training: {{epochs: 2, batch_size: 8, learning_rate: 2.0e-3}}
search: {{sampler: grid, space: {{rank: [2, 4]}}}}
rungs: {{grace_epochs: 2}}
variants:
  lora_scales: [0, 0.7, 1.0]
  prompts: prompts.jsonl
  shortlist_after: {first}
  confirmation_prompts: fresh.jsonl
scoring:
  metrics: [similarity, word_error, dnsmos_p808]
  finalist_metrics: [{{name: wavlm_similarity, model: no/such, required: false}}]
  primary: similarity
  min_effect: 0.01
  constraints: [{{metric: word_error, margin: 0.5}}]
  finalists: 1
  bootstrap_resamples: 1000
resources: {{hosts: {hosts}, slots_per_host: {slots}, scorers: 1{resources}}}
"""

_POLL = 0.2
"""Between two looks at a condition outside this process, which nothing announces; seconds."""


def write_manifest(folder: Path) -> None:
    """The first clips of the embedded voice beside it, enough to train on and to compare with."""
    left, rows = {"train": TRAINING_CLIPS, "validation": MIN_REFERENCES}, []
    for line in (VOICE_DIR / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        left[row["split"]] -= 1
        if left[row["split"]] >= 0:
            shutil.copy(VOICE_DIR / row["audio"], folder)
            rows.append(row)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(lines, encoding="utf-8")


def write_spec(
    folder: Path, hosts: int = 1, slots: int = 1, resources: str = "", more: str = ""
) -> Path:
    """The spec and its prompts in ``folder``; what trials run on is not part of the question.

    ``resources`` are more keys of those, each after a comma, ``more`` further sections.
    """
    for name, texts in (("prompts", PROMPTS), ("fresh", FRESH_PROMPTS)):
        rows = [f'{{"id": "{name[0]}{i}", "text": "{text}"}}\n' for i, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("".join(rows))
    write_manifest(folder)
    path = folder / SPEC_NAME
    filled = {"hosts": hosts, "slots": slots, "resources": resources, "first": SHORTLIST_AFTER}
    path.write_text(_SPEC.format(**filled) + more)
    return path


@dataclass
class Run:
    """One ``voxsweep run``: a driver process and all that descended from it."""

    spec: Path
    storage: Path | str
    """A directory, or a URL."""
    options: Sequence[str] = ()
    """Of the command, beside spec and storage."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    patience: float = 420.0
    """Seconds that it may take to come to anything that is waited for."""
    processes: set[psutil.Process] = field(default_factory=set)

    def start(self) -> "Run":
        self._out, self._err = (self.spec.parent / name for name in ("stdout", "stderr"))
        with self._out.open("w") as out, self._err.open("w") as err:
            self._driver = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-c", "from orchestrator.cli import main; main()"),
                    *("run", str(self.spec), "--storage", str(self.storage), "--json"),
                    *self.options,
                ],
                stdout=out,
                stderr=err,
                env={**self.environment, "OMP_NUM_THREADS": "1"},
            )
        return self

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until it holds; the driver must still run then."""
        deadline = time.monotonic() + self.patience
        while not condition():
            self._look()
            assert self._driver.poll() is None, f"the driver ended first:\n{self.stderr}"
            assert time.monotonic() < deadline, f"waited too long:\n{self.stderr}"
            time.sleep(_POLL)

    def finish(self) -> int:
        """Wait for the driver's own end; the exit code."""
        deadline = time.monotonic() + self.patience
        while (code := self._driver.poll()) is None:
            self._look()
            assert time.monotonic() < deadline, f"waited too long:\n{self.stderr}"
            time.sleep(_POLL)
        return code

    def complete(self) -> "Run":
        """Start it, and see it to a good end, after which nothing of it runs."""
        self.start()
        try:
            assert self.finish() == 0, self.stderr
        finally:
            self.end()
        return self

    def signal(self, number: int) -> None:
        """Send a signal to the driver alone."""
        self._look()
        self._driver.send_signal(number)

    def stop(self) -> None:
        """SIGTERM to the driver alone, as a job that is stopped gets it."""
        self._look()
        self._driver.terminate()
        self._driver.wait()

    def kill(self) -> None:
        """``kill -9`` of the driver alone."""
        self._look()
        self._driver.kill()
        self._driver.wait()

    def left_behind(self, but: Collection[str] = ()) -> list[str]:
        """Names of what still runs a while after the driver ended, those in ``but`` not waited for.

        All of it is ended here, process by process.
        """
        deadline = time.monotonic() + 30.0
        while (names := self._names()) and time.monotonic() < deadline:
            if set(names) <= set(but):
                break
            time.sleep(_POLL)
        self.end()
        return names

    def end(self) -> None:
        """End whatever still runs."""
        if self._driver.poll() is None:
            self._look()
            self._driver.kill()
            self._driver.wait()
        for process in self.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def _look(self) -> None:
        try:
            self.processes |= set(psutil.Process(self._driver.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return  # it has just ended

    def _names(self) -> list[str]:
        names = []
        for process in self.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                names.append(process.name())
        return names

    def alive(self) -> list[psutil.Process]:
        """Those that still run."""

        def runs(process: psutil.Process) -> bool:
            try:
                return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                return False

        return [process for process in self.processes if runs(process)]


@dataclass(frozen=True)
class Undisturbed:
    """A run from nothing to its verdict that nobody disturbed, and what it left."""

    folder: Path
    code: int
    """The driver's exit code."""
    processes: int
    """How many descended from the driver."""
    left_behind: list[str]
    """Names of those that still ran a while after its end."""

    @property
    def spec(self) -> Path:
        return self.folder / SPEC_NAME

    @property
    def storage(self) -> Path:
        return self.folder / "st"

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()


def undisturbed(shared: Path) -> Undisturbed:
    """The undisturbed run in ``shared``, a folder of all processes of the test session.

    Whichever process asks first runs it, and the others wait. Both trials are on one host, which
    may train them in one pass.
    """
    folder, done = shared / "undisturbed", shared / "undisturbed.json"
    with (shared / "undisturbed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir()
            run = Run(write_spec(folder, slots=2), folder / "st").start()
            try:
                code, left_behind = run.finish(), run.left_behind()
            finally:
                run.end()
            facts = {"code": code, "processes": len(run.processes), "left_behind": left_behind}
            done.write_text(json.dumps(facts))
    return Undisturbed(folder, **json.loads(done.read_text()))
