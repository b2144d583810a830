"""What a trial reports after an epoch, and the keys of the result that Ray Tune carries."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.storage.base import StorageKey
from jobs.training.epochs import EpochLosses
from orchestrator.spec.model import OBJECTIVE, SECONDS
from orchestrator.verdict.comparison import Assessment

TRIAL = "trial"
"""A trial's id in Ray Tune's configs and results, and as an attribute of the study's trials."""
PROMISE = "promise"
"""Of the epoch's best variant: its gain, less what it breaks."""
MEASURED = "measured"
"""The best variant's mean in each metric, by name, and its cost."""
CONSTRAINTS = "constraints"
"""By how much the best variant breaks each constraint; 0 or less where it holds."""


@dataclass(frozen=True)
class EpochReport:
    """What a trial tells Ray Tune after an epoch."""

    trial: str
    checkpoint: StorageKey
    losses: EpochLosses
    best: Assessment
    """Of the trial's variants so far."""
    promise: float
    """Of this epoch's variants the best."""
    seconds: float
    """Cost of the trial's epochs so far: wall time times ranks."""
    done: bool

    def to_result(self) -> dict[str, Any]:
        """The same as Ray Tune's result, which Tune flattens."""
        return {
            TRIAL: self.trial,
            "checkpoint": self.checkpoint,
            OBJECTIVE: self.best.objective,
            PROMISE: self.promise,
            "best_variant": self.best.variant,
            MEASURED: {**self.best.measured, SECONDS: self.seconds},
            CONSTRAINTS: dict(self.best.constraints),
            "epoch": self.losses.epoch,
            "training_iteration": self.losses.epoch,
            "training_loss": self.losses.training_loss,
            "validation_loss": self.losses.validation_loss,
            "done": self.done,
        }


def objective_key(name: str) -> str:
    """The key of an objective in Ray Tune's flattened result."""
    return name if name == OBJECTIVE else f"{MEASURED}/{name}"


def entries_under(result: Mapping[str, Any], key: str) -> Iterator[tuple[str, float]]:
    """Names and values of the flattened result's entries under ``key``."""
    prefix = f"{key}/"
    for name, value in result.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), value
