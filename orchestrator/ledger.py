"""The sweep's own record in the storage; Ray, Optuna and MLflow are views of it.

A trial exists once its ``trial.json`` does, an epoch once its checkpoint is committed, a variant's
clips and scores once theirs are. Everything is written whole, once, so whoever reads, reads truth.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cluster.storage import Storage
from jobs.metrics.base import ClipScores
from jobs.spec import TrainingSpec, TrialSpec
from jobs.training.epochs import EpochLosses, checkpoint_key, partial_key, read_losses

SPEC_FILE = "spec.yaml"
PLAN_FILE = "plan.json"
PROTOCOL_FILE = "protocol.json"
VERDICT_FILE = "verdict.json"
VARIANTS_FILE = "variants.jsonl"
REPORT_FILE = "report/index.html"
DATA_FILE = "data.json"

PromptSet = Literal["screen", "shortlist", "confirmation"]
"""What of set A every variant says, the rest of it, which the base and the shortlist say, and set
B, which the base and the finalists say."""

SCREEN: PromptSet = "screen"
SHORTLIST: PromptSet = "shortlist"
CONFIRMATION: PromptSet = "confirmation"

TrialEnd = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended."""

    end: TrialEnd
    epochs: int
    """Committed epochs."""
    reason: str = ""
    final: bool = True
    """False when only its process failed: the next run of the sweep goes on with it."""


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it was started."""

    id: str
    order: int
    """The position in which the search asked for it, from 0."""
    point: dict[str, Any]
    """What the search chose, by key of ``training``."""
    spec: TrialSpec

    @property
    def training(self) -> TrainingSpec:
        """The trial's hyper-parameters."""
        return self.spec.training


class Ledger:
    """Typed access to one sweep's part of the storage."""

    def __init__(self, storage: Storage, sweep: str) -> None:
        self.storage = storage
        self.sweep = sweep

    def path(self, *parts: str) -> str:
        """The key of something of this sweep."""
        return "/".join((self.sweep, *parts))

    def write_text(self, name: str, text: str) -> None:
        """Put a document such as ``verdict.json`` in the sweep's folder."""
        self.storage.write(self.path(name), text.encode())

    def read_text(self, name: str) -> str | None:
        """The document, or None when there is none yet."""
        key = self.path(name)
        return self.storage.read(key).decode() if self.storage.exists(key) else None

    # trials

    def start_trial(self, spec: TrialSpec, point: dict[str, Any]) -> TrialRecord:
        """Record that the search asked for this trial; the same one again changes nothing."""
        started = self._started()
        if spec.id in started:
            return self.trial(spec.id)
        record = TrialRecord(spec.id, len(started), point, spec)
        row = {"order": record.order, "point": point, "spec": spec.model_dump(mode="json")}
        self.write_text(f"trials/{spec.id}/trial.json", json.dumps(row, indent=2) + "\n")
        return record

    def trials(self) -> list[TrialRecord]:
        """Every trial of the sweep, in the order in which they were asked for."""
        return sorted(map(self.trial, self._started()), key=lambda record: record.order)

    def trial(self, trial: str) -> TrialRecord:
        """A trial as it was started. Raises FileNotFoundError when it was not."""
        row = json.loads(self.storage.read(self.path("trials", trial, "trial.json")))
        spec = TrialSpec.model_validate(row["spec"])
        # JSON has no tuples, and a choice of the search space is one where YAML has a list.
        point = {k: tuple(v) if isinstance(v, list) else v for k, v in row["point"].items()}
        return TrialRecord(trial, row["order"], point, spec)

    def _started(self) -> list[str]:
        folder = self.path("trials")
        return [
            trial
            for trial in self.storage.children(folder)
            if self.storage.exists(f"{folder}/{trial}/trial.json")
        ]

    def end_trial(self, trial: str, result: TrialResult) -> None:
        """Record how a trial ended."""
        self.write_text(f"trials/{trial}/result.json", json.dumps(asdict(result)) + "\n")

    def result(self, trial: str) -> TrialResult | None:
        """How a trial ended, or None while it has not."""
        text = self.read_text(f"trials/{trial}/result.json")
        return TrialResult(**json.loads(text)) if text else None

    # epochs

    def checkpoint(self, trial: str, epoch: int) -> str:
        """The key of a checkpoint."""
        return checkpoint_key(self.sweep, trial, epoch)

    def partial(self, trial: str, epoch: int) -> str:
        """How the keys of checkpoints within an epoch begin."""
        return partial_key(self.sweep, trial, epoch)

    def furthest_partial(self, trial: str, epoch: int) -> str | None:
        """The key of the checkpoint that is furthest within an epoch, if there is one."""
        folder, _, start = self.partial(trial, epoch).rpartition("/")
        for name in reversed(self.storage.children(folder)):
            if name.startswith(f"{start}-") and self.storage.is_committed(f"{folder}/{name}"):
                return f"{folder}/{name}"
        return None

    def epochs(self, trial: str) -> list[EpochLosses]:
        """What each committed epoch gave, from the first on."""
        losses: list[EpochLosses] = []
        while self.storage.is_committed(self.checkpoint(trial, len(losses) + 1)):
            losses.append(self.losses(trial, len(losses) + 1))
        return losses

    def losses(self, trial: str, epoch: int) -> EpochLosses:
        """What a committed epoch gave."""
        return read_losses(self.storage.fetch(self.checkpoint(trial, epoch)))

    # variants

    def clips(self, variant: str, prompts: PromptSet = SCREEN) -> str:
        """The key of a variant's clips of a prompt set."""
        return self.path("clips", prompts, variant)

    def write_scores(
        self, variant: str, rows: Iterable[ClipScores], prompts: PromptSet = SCREEN
    ) -> None:
        """Record a variant's scores on a prompt set."""
        lines = "".join(row.to_json() + "\n" for row in rows)
        self.write_text(f"scores/{prompts}/{variant}.jsonl", lines)

    def scores(self, variant: str, prompts: PromptSet = SCREEN) -> list[ClipScores] | None:
        """A variant's scores on a prompt set, or None when it was not scored."""
        text = self.read_text(f"scores/{prompts}/{variant}.jsonl")
        return None if text is None else [ClipScores.from_json(row) for row in text.splitlines()]
