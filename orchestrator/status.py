"""A sweep's progress, read from its storage alone; nothing is written."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from jobs.spec.trial import place
from orchestrator.ledger import VERDICT_FILE, Ledger, TrialHistory, TrialRecord
from orchestrator.scores.from_ledger import ScoredSweep
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.plan import most_epochs
from orchestrator.spec.stored import require_spec


@dataclass(frozen=True)
class TrialStatus:
    """A trial's progress, as ``voxsweep status`` and the live table show it."""

    trial: str
    rank: int
    learning_rate: float
    epoch: int
    """Committed epochs."""
    epochs: int
    """Epochs that the trial trains for at most."""
    training_loss: float | None = None
    validation_loss: float | None = None
    objective: float | None = None
    """Of the best variant so far; None while none was scored."""
    best_variant: str | None = None
    status: str = "running"
    """``running``, ``open`` where only the storage was read, or how the trial ended."""
    reason: str = ""
    checkpoint_steps: int | None = None
    """Optimiser steps that an epoch is here; None where it is a pass over the clips."""
    seconds: float = 0.0
    """Wall time of its epochs. One that it shared with other trials counts whole for each."""

    @classmethod
    def started(cls, record: TrialRecord) -> "TrialStatus":
        """The status of a trial before its first epoch."""
        training = record.training
        return cls(
            record.id,
            training.rank,
            training.learning_rate,
            0,
            training.checkpoints,
            checkpoint_steps=training.checkpoint_steps,
        )

    @property
    def progress(self) -> tuple[str, str]:
        """What is counted, and how much of it is done: ``epoch`` and ``3/20``."""
        unit, _, done = place(self.epoch, self.checkpoint_steps).partition(" ")
        return unit, f"{done}/{self.epochs * (self.checkpoint_steps or 1)}"


@dataclass(frozen=True)
class RungStatus:
    """A rung, with how many trials reached it and how many it stopped."""

    epoch: int
    reached: int
    stopped: int


@dataclass(frozen=True)
class SweepStatus:
    """A sweep's progress."""

    sweep: str
    storage: str
    trials: tuple[TrialStatus, ...]
    asked: int
    """Trials that the search may start."""
    epochs: int
    """Committed epochs."""
    most_epochs: int
    rungs: tuple[RungStatus, ...]
    training_hours: float
    most_gpu_hours: float
    """As if no two trials had shared a GPU."""
    verdict: str | None
    checkpoint_steps: int | None = None
    """Optimiser steps that an epoch is in this sweep; None where it is a pass over the clips."""
    replicates: tuple[TrialStatus, ...] = ()
    """Trainings of the winner's hyperparameters with other seeds, which are in no count above."""
    undone: str = ""
    """What the budget left undone; empty where nothing."""


def sweep_status(ledger: Ledger) -> SweepStatus:
    """Read a sweep's progress.

    Raises:
        InputError: the storage has no sweep of this name.
    """
    spec = require_spec(ledger)
    trials = tuple(_trials(ledger, ledger.histories()))
    hours = sum(each.seconds for each in trials) / 3600
    verdict, record = ledger.read_text(VERDICT_FILE), ledger.record()
    return SweepStatus(
        sweep=ledger.sweep,
        storage=ledger.storage.url,
        trials=trials,
        asked=spec.search.trial_count,
        epochs=sum(each.epoch for each in trials),
        most_epochs=most_epochs(spec),
        rungs=tuple(_rungs(spec, trials)),
        training_hours=hours,
        most_gpu_hours=hours * spec.resources.gpus_per_rank * spec.engine.ranks,
        verdict=json.loads(verdict)["verdict"] if verdict else None,
        checkpoint_steps=spec.training.checkpoint_steps,
        replicates=tuple(_trials(ledger, ledger.replicate_histories())),
        undone=record.undone if record else "",
    )


def failures(ledger: Ledger) -> Iterator[str]:
    """A line for each trial that failed, and one that says what can be done."""
    trials = (*ledger.histories(), *ledger.replicate_histories())
    failed = [each for each in trials if each.result and each.end == "failed"]
    for each in failed:
        yield f"trial {each.record.id} failed: {each.result.reason if each.result else ''}"
    if failed:
        yield (
            "A trial that failed stays so. Change what made them fail (a lower learning_rate, or "
            "training.clip, where losses are not finite) and give the spec another name. If the "
            f"cause is gone, `voxsweep run` with --retry-failed tries these {len(failed)} again."
        )


def _trials(ledger: Ledger, trials: Iterable[TrialHistory]) -> Iterator[TrialStatus]:
    scored = ScoredSweep.read(ledger)
    best = scored.best if scored else {}
    for trial in trials:
        last = trial.epochs[-1] if trial.epochs else None
        variant = best.get(trial.record.id)
        yield replace(
            TrialStatus.started(trial.record),
            epoch=len(trial.epochs),
            training_loss=last.training_loss if last else None,
            validation_loss=last.validation_loss if last else None,
            objective=variant.objective if variant else None,
            best_variant=variant.variant if variant else None,
            status=trial.result.end if trial.result and trial.result.final else "open",
            reason=trial.result.reason if trial.result else "",
            seconds=trial.seconds,
        )


def _rungs(spec: SweepSpec, trials: tuple[TrialStatus, ...]) -> Iterator[RungStatus]:
    """The epochs at which ASHA compares: the grace, and each time ``reduction`` times more."""
    epoch = float(spec.grace)
    while spec.rungs.scheduler == "asha" and epoch < spec.longest_training:
        at = [each for each in trials if each.epoch >= int(epoch)]
        stopped = sum(each.status == "stopped" and each.epoch == int(epoch) for each in at)
        yield RungStatus(int(epoch), len(at), stopped)
        epoch *= spec.rungs.reduction
