"""What MLflow's runs of a sweep hold, read from the ledger alone.

The same ledger gives the same runs, whether the sweep runs or was over long ago: names, values,
steps and times. A run is the sweep's, or one trial's.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from jobs.metrics.base import ClipScores
from jobs.training.epochs import EpochLosses
from orchestrator.ledger import CONFIRMATION, VERDICT_FILE, Ledger, TrialRecord, TrialResult
from orchestrator.records.notes import link, trial_note
from orchestrator.records.params import legal_name, training_params
from orchestrator.scores.from_ledger import ScoredSweep

TRIAL_TAG = "voxsweep.trial"
NOTE_TAG = "mlflow.note.content"
"""What MLflow's pages show of a run as its description, in Markdown."""

Status = Literal["FINISHED", "FAILED"]
_LONGEST_NAME = 120
"""Characters; more is cut off in MLflow's tables."""
_STATUS: dict[str, Status] = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


@dataclass(frozen=True)
class MetricValue:
    """A metric's value at a step; ``time`` is in milliseconds since 1970."""

    name: str
    value: float
    time: int
    step: int


@dataclass(frozen=True)
class RunContent:
    """All that one run holds. Times are in milliseconds since 1970."""

    trial: str | None
    """None for the sweep's own run, whose children the trials' are."""
    name: str
    started_at: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    end: tuple[Status, int] | None = None
    """How and when it ended; None while it may go on."""
    epochs: int = 0
    """Those that are trained and scored, and stay as they are from then on."""
    epoch_values: Callable[[int], Sequence[MetricValue]] = field(default=lambda _: ())
    """What an epoch from 1 to ``epochs`` gave."""
    summary: Sequence[MetricValue] = ()
    """What is known when the sweep has come to its verdict."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Artifacts' names, and the storage's keys of what is in them."""


@dataclass(frozen=True)
class _ScoredEpoch:
    """What later epochs and the tags of the trial need to know of an epoch."""

    steps: int
    """Optimiser steps, up to its end."""
    seconds: float
    """Wall time, up to its end."""
    ended_at: float
    best: float
    """The objective of the best variant, up to its end."""
    best_variant: str
    objectives: Mapping[str, float]
    """By variant."""


_NO_EPOCH = _ScoredEpoch(0, 0.0, 0.0, -np.inf, "", {})
"""Before the first."""


class TrialRuns:
    """Reads trials' runs; what was read of an epoch is not read again."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._epochs: dict[str, list[_ScoredEpoch]] = defaultdict(list)

    def read(self, trial: str) -> RunContent:
        """The run of a trial that was started."""
        ledger = self._ledger
        record, result = ledger.trial(trial), ledger.result(trial)
        epochs = self._epochs[trial]
        while (found := self._next(record, epochs)) is not None:
            epochs.append(found)
        sweep = ledger.begin()
        started = record.started_at
        if started is None:
            # An earlier version wrote the ledger: the first epoch began when the trial did.
            started = epochs[0].ended_at - epochs[0].seconds if epochs else sweep.started_at
        over = sweep.ended_at is not None and ledger.read_text(VERDICT_FILE) is not None
        return RunContent(
            trial=trial,
            name=_name(record),
            started_at=_ms(started),
            params=training_params(record.training),
            tags=dict(self._tags(record, result, epochs, sweep.id)),
            end=_end(result, epochs, started),
            epochs=len(epochs),
            epoch_values=lambda epoch: list(self._values(record, epoch)),
            summary=list(self._confirmed(trial, _ms(sweep.ended_at or 0.0))) if over else (),
        )

    def _next(self, record: TrialRecord, before: Sequence[_ScoredEpoch]) -> _ScoredEpoch | None:
        """The epoch after those ``before``, once its every variant was scored."""
        ledger, number = self._ledger, len(before) + 1
        if not ledger.storage.is_committed(ledger.checkpoint(record.id, number)):
            return None
        rows: list[ClipScores] = []
        for variant in self._scored.variants(record.id, number):
            scores = ledger.scores(variant.id)
            if scores is None:
                return None
            rows += scores
        losses = ledger.losses(record.id, number)
        assessments = self._scored.of_epoch(record, losses, rows)
        objectives = {each.variant: each.objective for each in assessments}
        last = before[-1] if before else _NO_EPOCH
        ranked = {last.best_variant: last.best, **objectives}
        best = max(ranked, key=ranked.__getitem__)  # of equal ones the earliest
        return _ScoredEpoch(
            steps=last.steps + len(losses.step_losses),
            seconds=last.seconds + losses.seconds,
            ended_at=losses.finished_at,
            best=ranked[best],
            best_variant=best,
            objectives=objectives,
        )

    def _values(self, record: TrialRecord, number: int) -> Iterator[MetricValue]:
        """Of one epoch; by optimiser step what is named so, by epoch the rest."""
        trial = record.id
        before, epoch = [_NO_EPOCH, *self._epochs[trial]][number - 1 : number + 1]
        losses = self._ledger.losses(trial, number)
        time = _ms(losses.finished_at)

        def value(name: str, of: float) -> MetricValue:
            return MetricValue(name, of, time, number)

        yield value("loss/training", losses.training_loss)
        yield value("loss/validation", losses.validation_loss)
        for name, loss in _by_group(losses):
            yield value(name, loss)
        yield value("objective/best_so_far", epoch.best)
        yield value("seconds/epoch", losses.seconds)
        yield value("seconds/so_far", epoch.seconds)
        for variant in self._scored.variants(trial, number):
            scale = f"scale_{variant.lora_scale:.2f}"
            yield value(f"objective/{scale}", epoch.objectives[variant.id])
            for name, of in means(self._ledger.scores(variant.id) or []):
                yield value(f"{name}/{scale}", of)
        steps = zip(losses.step_losses, losses.learning_rates, strict=True)
        for step, (loss, rate) in enumerate(steps, start=1 + before.steps):
            yield MetricValue("by_step/loss", loss, time, step)
            yield MetricValue("by_step/learning_rate", rate, time, step)

    def _confirmed(self, trial: str, time: int) -> Iterator[MetricValue]:
        """What its finalists scored on set B."""
        finalists = set(self._ledger.scored_variants(CONFIRMATION))
        for number in range(1, len(self._epochs[trial]) + 1):
            for variant in self._scored.variants(trial, number):
                if variant.id in finalists:
                    rows = self._ledger.scores(variant.id, CONFIRMATION) or []
                    scale = f"confirmation_scale_{variant.lora_scale:.2f}"
                    for name, of in means(rows):
                        yield MetricValue(f"{name}/{scale}", of, time, number)

    def _tags(
        self,
        record: TrialRecord,
        result: TrialResult | None,
        epochs: Sequence[_ScoredEpoch],
        sweep_id: str,
    ) -> Iterator[tuple[str, str]]:
        ledger = self._ledger
        yield "voxsweep.sweep_id", sweep_id
        yield TRIAL_TAG, record.id
        yield "voxsweep.order", str(record.order)
        yield "voxsweep.checkpoints", link(ledger, "trials", record.id, "checkpoints")
        best = epochs[-1].best_variant if epochs else None
        if best is not None:
            yield "voxsweep.best_variant", best
            yield "voxsweep.clips", link(ledger, "clips", "screen", best)
        if result is not None:
            yield "voxsweep.end", result.end
            if result.reason:
                yield "voxsweep.reason", result.reason
        protocol = self._scored.protocol if epochs else None
        yield NOTE_TAG, trial_note(ledger, record, result, best, protocol)

    @cached_property
    def _scored(self) -> ScoredSweep:
        scored = ScoredSweep.read(self._ledger)
        assert scored is not None, "spec and protocol are written before the first trial"
        return scored


def means(rows: Sequence[ClipScores]) -> Iterator[tuple[str, float]]:
    """Each metric's mean over the clips that have it, and how many clips lack one."""
    for name in dict.fromkeys(name for row in rows for name in row.values):
        yield name, float(np.mean([row.values[name] for row in rows if name in row.values]))
    yield "unscored_clips", float(sum(bool(row.failures) for row in rows))


def _by_group(losses: EpochLosses) -> Iterator[tuple[str, float]]:
    """Such as ``validation_loss/language.km``."""
    taken: dict[str, set[str]] = defaultdict(set)
    for group, loss in losses.group_losses.items():
        by, _, name = group.partition("/")
        yield f"validation_loss/{by}.{legal_name(name, taken[by])}", loss


def _name(record: TrialRecord) -> str:
    """The number and what the search chose, such as ``07 rank 8, learning_rate 0.0004``."""
    chosen = ", ".join(f"{key} {value}" for key, value in record.point.items())
    return f"{record.order + 1:02d} {chosen or record.id}"[:_LONGEST_NAME]


def _end(
    result: TrialResult | None, epochs: Sequence[_ScoredEpoch], started: float
) -> tuple[Status, int] | None:
    """None for a trial that has not ended, or that went on after it had."""
    if result is None or (not result.final and len(epochs) > result.epochs):
        return None
    ended = result.ended_at
    if ended is None:
        ended = epochs[-1].ended_at if epochs else started
    return _STATUS[result.end], _ms(ended)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
