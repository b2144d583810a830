"""The sweep's own record in the storage; Ray, Optuna and MLflow are views of it.

A trial exists once its ``trial.json`` does, an epoch once its checkpoint is committed, a variant's
clips and scores once theirs are. Everything is written whole, once, so whoever reads, reads truth.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from cluster.storage.base import Storage, StorageKey
from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT, TrainingSpec, TrialSpec
from jobs.training.epochs import (
    LOSSES_FILE,
    EpochLosses,
    checkpoint_key,
    parse_losses,
    partial_key,
)

DRIVER_FILE = "driver.json"
SWEEP_FILE = "sweep.json"
SPEC_FILE = "spec.yaml"
PLAN_FILE = "plan.json"
CLIPS_FILE = "clips.txt"
PROTOCOL_FILE = "protocol.json"
VERDICT_FILE = "verdict.json"
VARIANTS_FILE = "variants.jsonl"
REPORT_FILE = "report/index.html"
DATA_FILE = "data.json"
DECODINGS_FILE = "decodings.json"
HOSTING_FILE = "hosting.json"
HOSTED = "-gguf-"
"""Between a variant's id and the type of a file that is made of it."""

PromptSet = str
"""``screen``: the part of set A that every variant speaks. ``shortlist``: the rest of set A, which
the base and the shortlist speak; ``shortlist-2`` and so on are prompts that were added to it later.
``confirmation``: set B, for the base and the finalists."""

SCREEN: PromptSet = "screen"
SHORTLIST: PromptSet = "shortlist"
CONFIRMATION: PromptSet = "confirmation"

_Prompts = TypeVar("_Prompts", bound=Sequence[Any])


def shortlist_sets(rest: Iterable[_Prompts]) -> dict[PromptSet, _Prompts]:
    """What the shortlist speaks: the rest of set A, part by part; a part without prompts is none.

    Args:
        rest: the parts after the first of :func:`orchestrator.verdict.protocol.parts_of_a`.
    """
    return {
        SHORTLIST if number == 1 else f"{SHORTLIST}-{number}": part
        for number, part in enumerate(rest, start=1)
        if part
    }


_TOLD_AFTER = 2.0
"""Seconds for which a second driver waits without a word."""


def _scores_name(variant: str, prompts: PromptSet) -> str:
    # What the base was tried with, and a voice's files, are no variants of the sweep: whoever
    # judges it sees none of them.
    folder = "base-decodings" if variant.startswith(f"{BASE_VARIANT}-") else "scores"
    folder = "hosting" if HOSTED in variant else folder
    return f"{folder}/{prompts}/{variant}.jsonl"


TrialEnd = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class SweepRun:
    """A run of the sweep, as far as its driver had recorded it. Times are Unix times in seconds."""

    started_at: float
    seen_at: float
    """When it last recorded that it ran."""
    gpus: float
    """That its hosts held."""

    @property
    def seconds(self) -> float:
        """Wall time."""
        return self.seen_at - self.started_at


@dataclass(frozen=True)
class SweepRecord:
    """Which sweep this is, and when it ran. Times are Unix times in seconds."""

    id: str
    """Chosen at random at the start: other storages may have a sweep of the same name."""
    started_at: float
    ended_at: float | None = None
    """When the current verdict was reached; None while there is none."""
    machine: str | None = None
    """The type of the machines that ran it; None where an earlier version of voxsweep wrote it."""
    runs: tuple[SweepRun, ...] = ()
    """In their order; of an earlier version of voxsweep nothing is known."""
    undone: str = ""
    """What the budget left undone, in a sentence; empty where nothing."""


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended."""

    end: TrialEnd
    epochs: int
    """Committed epochs."""
    reason: str = ""
    final: bool = True
    """False if only its process failed: the next run of the sweep resumes it."""
    ended_at: float | None = field(default=None, compare=False)
    """Unix time, seconds; None where an earlier version of voxsweep wrote it."""


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it was started."""

    id: str
    order: int
    """Its position among the trials that the search started, from 0."""
    point: dict[str, Any]
    """The searched hyperparameters, by key of ``training``."""
    spec: TrialSpec
    started_at: float | None = field(default=None, compare=False)
    """Unix time, seconds; None where an earlier version of voxsweep wrote it."""
    replicate_of: str | None = None
    """The trial of the search whose hyperparameters it repeats with another seed. Such a trial, a
    replicate, is none of the search's, and its ``order`` is among the replicates."""

    @property
    def training(self) -> TrainingSpec:
        """The trial's hyperparameters."""
        return self.spec.training


@dataclass(frozen=True)
class TrialHistory:
    """A trial with all that it has committed."""

    record: TrialRecord
    epochs: Sequence[EpochLosses]
    """From the first on."""
    result: TrialResult | None
    """None while the trial has not ended."""

    @property
    def training(self) -> TrainingSpec:
        """The trial's hyperparameters."""
        return self.record.training

    @property
    def end(self) -> TrialEnd | None:
        """How the trial ended; None while it has not."""
        return self.result.end if self.result else None

    @property
    def seconds(self) -> float:
        """Wall time of its epochs. One that it shared with other trials counts whole."""
        return sum(losses.seconds for losses in self.epochs)


class Ledger:
    """Typed access to one sweep's part of the storage."""

    def __init__(self, storage: Storage, sweep: str) -> None:
        self.storage = storage
        self.sweep = sweep
        # What is written once is read once: a request each, where the storage is far.
        self._records: dict[str, TrialRecord] = {}
        self._losses: dict[str, EpochLosses] = {}
        self._count: int | None = None
        """Trials of the search, once they were counted: only this ledger starts more."""

    def path(self, *parts: str) -> StorageKey:
        """The storage key of something in this sweep's folder."""
        return StorageKey("/".join((self.sweep, *parts)))

    def write_text(self, name: str, text: str) -> None:
        """Put a document such as ``verdict.json`` in the sweep's folder."""
        self.storage.write(self.path(name), text.encode())

    def read_text(self, name: str) -> str | None:
        """The document, or None when there is none yet."""
        try:
            return self.storage.read(self.path(name)).decode()
        except FileNotFoundError:
            return None

    # the sweep

    @contextmanager
    def driven(self, tell: Callable[[str], None]) -> Iterator[None]:
        """For the block, no other process drives this sweep; waits while one does.

        ``tell`` gets a line that says whom it waits for. The sweep of a driver that was killed is
        free at once, or in S3 once its lease has expired.
        """
        waiting = threading.Timer(_TOLD_AFTER, lambda: tell(f"waiting: {self._driver()}"))
        waiting.daemon = True
        waiting.start()
        try:
            with self.storage.exclusively(self.path("driver")):
                waiting.cancel()
                at = time.strftime("%Y-%m-%d %H:%M:%S %Z")
                driver = {"host": socket.gethostname(), "process": os.getpid(), "since": at}
                self.write_text(DRIVER_FILE, json.dumps(driver) + "\n")
                yield
        finally:
            waiting.cancel()

    def _driver(self) -> str:
        found = json.loads(self.read_text(DRIVER_FILE) or "{}")
        who = "process {process} on {host} runs this sweep since {since}".format_map(
            {"process": "?", "host": "?", "since": "a moment ago", **found}
        )
        return f"{who}. It goes on here when that has ended"

    def record(self) -> SweepRecord | None:
        """The sweep's record; None before its first run."""
        row = json.loads(self.read_text(SWEEP_FILE) or "null")
        if row is None:
            return None
        runs = tuple(SweepRun(**run) for run in row.pop("runs", ()))
        return SweepRecord(**row, runs=runs)

    def begin(self, machine: str | None = None) -> SweepRecord:
        """The sweep's record, which is written at the first call, with the type of ``machine``."""
        if known := self.record():
            return known
        record = SweepRecord(secrets.token_hex(8), self._earliest() or time.time(), machine=machine)
        self._write_record(record)
        return record

    def end(self) -> None:
        """Record that the sweep has come to its verdict."""
        self._write_record(replace(self.begin(), ended_at=time.time()))

    def note_run(self, run: SweepRun, undone: str = "") -> None:
        """Record how far a run has come, and what the budget has left undone."""
        known = self.begin()
        earlier = (each for each in known.runs if each.started_at != run.started_at)
        self._write_record(replace(known, runs=(*earlier, run), undone=undone))

    def _write_record(self, record: SweepRecord) -> None:
        self.write_text(SWEEP_FILE, json.dumps(asdict(record)) + "\n")

    def _earliest(self) -> float | None:
        """When the first epoch began, for sweeps that an earlier version of voxsweep started."""
        first = [epochs[0] for each in self._started() if (epochs := self.epochs(each))]
        return min((losses.finished_at - losses.seconds for losses in first), default=None)

    # trials

    def start_trial(self, spec: TrialSpec, point: dict[str, Any]) -> TrialRecord:
        """Record that the search starts this trial; the same one again changes nothing.

        Of one sweep one ledger at a time does this: it counts the trials once, not for each.
        """
        name = self.path("trials", spec.id, "trial.json")
        if spec.id in self._records or self.storage.exists(name):
            return self.trial(spec.id)
        order = len(self.trials()) if self._count is None else self._count
        record = TrialRecord(spec.id, order, point, spec, time.time())
        self._write_trial(record)
        self._count = order + 1
        return record

    def start_replicate(self, of: TrialRecord, seed: int) -> TrialRecord:
        """Record that a trial's hyperparameters are trained with another seed; likewise once."""
        training = of.training.model_copy(update={"seed": seed})
        spec = of.spec.model_copy(update={"training": training})
        known = self.replicates()
        if found := next((record for record in known if record.id == spec.id), None):
            return found
        record = TrialRecord(spec.id, len(known), of.point, spec, time.time(), of.id)
        self._write_trial(record)
        return record

    def _write_trial(self, record: TrialRecord) -> None:
        row = {
            "order": record.order,
            "point": record.point,
            "spec": record.spec.model_dump(mode="json"),
            "started_at": record.started_at,
            "replicate_of": record.replicate_of,
        }
        self.write_text(f"trials/{record.id}/trial.json", json.dumps(row, indent=2) + "\n")
        self._records[record.id] = record

    def lengthen_trials(self, to: TrainingSpec) -> None:
        """Let every trial train as long as ``to`` at least, which must not change its id.

        One that finished earlier goes on; one that was stopped or failed does not.
        """
        for record in self._all():
            if record.training.checkpoints < to.checkpoints:
                length = {"epochs": to.epochs, "steps": to.steps}
                training = record.training.model_copy(update=length)
                spec = record.spec.model_copy(update={"training": training})
                assert spec.id == record.id
                self._write_trial(replace(record, spec=spec))

    def trials(self) -> list[TrialRecord]:
        """Every trial of the search, in the order in which they were started."""
        return [record for record in self._all() if record.replicate_of is None]

    def replicates(self) -> list[TrialRecord]:
        """Every training of a winner's hyperparameters with another seed, in the same order."""
        return [record for record in self._all() if record.replicate_of is not None]

    def _all(self) -> list[TrialRecord]:
        return sorted(map(self.trial, self._started()), key=lambda record: record.order)

    def trial(self, trial: str) -> TrialRecord:
        """A trial as it was started. Raises FileNotFoundError when it was not."""
        if trial not in self._records:
            self._records[trial] = self._read_trial(trial)
        return self._records[trial]

    def _read_trial(self, trial: str) -> TrialRecord:
        row = json.loads(self.storage.read(self.path("trials", trial, "trial.json")))
        spec = TrialSpec.model_validate(row["spec"])
        # JSON has no tuples, and a choice of the search space is one where YAML has a list.
        point = {k: tuple(v) if isinstance(v, list) else v for k, v in row["point"].items()}
        return TrialRecord(
            trial, row["order"], point, spec, row.get("started_at"), row.get("replicate_of")
        )

    def histories(self) -> list[TrialHistory]:
        """Every trial of the search with its epochs and its end, in the order of :meth:`trials`."""
        return [self.history(record) for record in self.trials()]

    def replicate_histories(self) -> list[TrialHistory]:
        """The same of :meth:`replicates`."""
        return [self.history(record) for record in self.replicates()]

    def history(self, record: TrialRecord) -> TrialHistory:
        """A trial with its epochs and its end."""
        return TrialHistory(record, self.epochs(record.id), self.result(record.id))

    def _started(self) -> list[str]:
        folder = self.path("trials")
        return [
            trial
            for trial in self.storage.children(folder)
            if trial in self._records or self.storage.exists(f"{folder}/{trial}/trial.json")
        ]

    def end_trial(self, trial: str, result: TrialResult) -> None:
        """Record how a trial ended, and that it did so now."""
        ended = replace(result, ended_at=time.time())
        self.write_text(f"trials/{trial}/result.json", json.dumps(asdict(ended)) + "\n")

    def reopen_failed(self) -> None:
        """Have the next run try again every trial that failed for good."""
        for trial in self._started():
            result = self.result(trial)
            if result is not None and result.end == "failed":
                self.end_trial(trial, replace(result, final=False))

    def result(self, trial: str) -> TrialResult | None:
        """How a trial ended, or None while it has not."""
        text = self.read_text(f"trials/{trial}/result.json")
        return TrialResult(**json.loads(text)) if text else None

    def final_result(self, trial: str) -> TrialResult | None:
        """How a trial ended for good, or None while a run of the sweep may resume it.

        One that finished before the sweep's epochs grew has epochs left.
        """
        result = self.result(trial)
        if result is None or not result.final:
            return None
        asked = self.trial(trial).training.checkpoints
        return None if result.end == "finished" and result.epochs < asked else result

    # epochs

    def checkpoint(self, trial: str, epoch: int) -> StorageKey:
        """The key of a checkpoint."""
        return checkpoint_key(self.sweep, trial, epoch)

    def partial(self, trial: str, epoch: int) -> str:
        """The prefix of the keys of checkpoints within an epoch."""
        return partial_key(self.sweep, trial, epoch)

    def furthest_partial(self, trial: str, epoch: int) -> StorageKey | None:
        """The key of the last checkpoint within an epoch; None if there is none."""
        folder, _, start = self.partial(trial, epoch).rpartition("/")
        for name in reversed(self.storage.children(folder)):
            if name.startswith(f"{start}-") and self.storage.is_committed(f"{folder}/{name}"):
                return StorageKey(f"{folder}/{name}")
        return None

    def epochs(self, trial: str) -> list[EpochLosses]:
        """The losses of each committed epoch, from the first on."""
        losses: list[EpochLosses] = []
        while self.storage.is_committed(self.checkpoint(trial, len(losses) + 1)):
            losses.append(self.losses(trial, len(losses) + 1))
        return losses

    def losses(self, trial: str, epoch: int) -> EpochLosses:
        """The losses of a committed epoch."""
        key = self.checkpoint(trial, epoch)
        if key not in self._losses:
            self._losses[key] = parse_losses(self.storage.read_from(key, LOSSES_FILE))
        return self._losses[key]

    # variants

    def clips(self, variant: str, prompts: PromptSet = SCREEN) -> StorageKey:
        """The key of a variant's clips of a prompt set."""
        return self.path("clips", prompts, variant)

    def write_scores(
        self, variant: str, rows: Iterable[ClipScores], prompts: PromptSet = SCREEN
    ) -> None:
        """Record a variant's scores on a prompt set."""
        lines = "".join(row.to_json() + "\n" for row in rows)
        self.write_text(_scores_name(variant, prompts), lines)

    def scored_variants(self, prompts: PromptSet) -> list[str]:
        """The variants that were scored on a prompt set."""
        names = self.storage.children(self.path("scores", prompts))
        return [name.removesuffix(".jsonl") for name in names]

    def scores(self, variant: str, prompts: PromptSet = SCREEN) -> list[ClipScores] | None:
        """A variant's scores on a prompt set, or None when it was not scored."""
        text = self.read_text(_scores_name(variant, prompts))
        return None if text is None else [ClipScores.from_json(row) for row in text.splitlines()]
