"""What MLflow's runs of a sweep hold, read from the ledger alone.

The same ledger gives the same runs, whether the sweep runs or was over long ago: names, values,
steps and times. A run is the sweep's, or one trial's.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from mlflow.entities import Metric
from pydantic import TypeAdapter

from jobs.metrics.base import ClipScores
from jobs.spec.trial import Variant
from jobs.training.epochs import EpochLosses
from orchestrator.ledger import (
    CONFIRMATION,
    DATA_FILE,
    DECODINGS_FILE,
    HOSTING_FILE,
    PLAN_FILE,
    PROTOCOL_FILE,
    REPORT_FILE,
    SPEC_FILE,
    VERDICT_FILE,
    Ledger,
    TrialRecord,
    TrialResult,
)
from orchestrator.records.notes import link, sweep_note, trial_note
from orchestrator.records.params import data_params, legal_name, spec_params, training_params
from orchestrator.report.report_input import Speaker
from orchestrator.scores.from_ledger import ScoredSweep, stored_hosting
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.stored import stored_protocol, stored_verdict
from orchestrator.verdict.equivalence import HOSTING_FIGURES, Hosting
from orchestrator.verdict.outcome import Verdict

SWEEP_TAG = "voxsweep.sweep"
TRIAL_TAG = "voxsweep.trial"
NOTE_TAG = "mlflow.note.content"
DIVERGENCE_TAG = "voxsweep.divergence"
"""Of a sweep: trials with two checkpoints between which the loss fell and the sound got worse."""
"""What MLflow's pages show of a run as its description, in Markdown."""

Status = Literal["FINISHED", "FAILED"]
_LONGEST_NAME = 120
"""Characters; more is cut off in MLflow's tables."""
_FILES = {
    "spec.yaml": SPEC_FILE,
    "plan.json": PLAN_FILE,
    "protocol.json": PROTOCOL_FILE,
    "verdict.json": VERDICT_FILE,
    "report.html": REPORT_FILE,
    "decodings.json": DECODINGS_FILE,
    "hosting.json": HOSTING_FILE,
}
"""Artifacts and the ledger's documents."""
_STATUS: dict[str, Status] = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


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
    epoch_values: Callable[[int], Sequence[Metric]] = field(default=lambda _: ())
    """What an epoch from 1 to ``epochs`` gave."""
    summary: Sequence[Metric] = ()
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
        variants = self._heard(record, number)
        for variant in variants:
            scores = ledger.scores(variant.id)
            if scores is None:
                return None
            rows += scores
        losses = ledger.losses(record.id, number)
        assessments = self._scored.of_epoch(record, losses, rows) if variants else []
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

    def _heard(self, record: TrialRecord, number: int) -> list[Variant]:
        """The variants of an epoch that speak set A: none of a replicate's."""
        return [] if record.replicate_of else self._scored.variants(record.id, number)

    def _values(self, record: TrialRecord, number: int) -> Iterator[Metric]:
        """Of one epoch; by optimiser step what is named so, by epoch the rest, or by the step
        that it ends at where checkpoints are counted in steps."""
        trial = record.id
        before, epoch = [_NO_EPOCH, *self._epochs[trial]][number - 1 : number + 1]
        losses = self._ledger.losses(trial, number)
        time = _ms(losses.finished_at)
        at = number * (record.training.checkpoint_steps or 1)

        def value(name: str, of: float) -> Metric:
            return Metric(name, of, time, at)

        yield value("loss/training", losses.training_loss)
        yield value("loss/validation", losses.validation_loss)
        for name, loss in _by_group(losses):
            yield value(name, loss)
        for name, loss in losses.training_parts.items():
            yield value(f"loss/training.{name}", loss)
        for name, figure in losses.validation_figures.items():
            yield value(f"validation/{name}", figure)
        if epoch.objectives:
            yield value("objective/best_so_far", epoch.best)
        yield value("seconds/epoch", losses.seconds)
        yield value("seconds/so_far", epoch.seconds)
        for variant in self._heard(record, number):
            scale = f"scale_{variant.lora_scale:.2f}"
            yield value(f"objective/{scale}", epoch.objectives[variant.id])
            for name, of in means(self._ledger.scores(variant.id) or []):
                yield value(f"{name}/{scale}", of)
        steps = zip(losses.step_losses, losses.learning_rates, strict=True)
        for step, (loss, rate) in enumerate(steps, start=1 + before.steps):
            yield Metric("by_step/loss", loss, time, step)
            yield Metric("by_step/learning_rate", rate, time, step)

    def _confirmed(self, trial: str, time: int) -> Iterator[Metric]:
        """What its finalists scored on set B."""
        finalists = sorted(self._ledger.scored_variants(CONFIRMATION))
        every = self._ledger.trial(trial).training.checkpoint_steps or 1
        for number in range(1, len(self._epochs[trial]) + 1):
            for variant in self._scored.variants(trial, number):
                for finalist in finalists:
                    if finalist == variant.id or finalist.startswith(f"{variant.id}-"):
                        decoding = finalist.removeprefix(variant.id)  # -d and a digest, or nothing
                        scale = f"confirmation_scale_{variant.lora_scale:.2f}{decoding}"
                        for name, of in means(self._ledger.scores(finalist, CONFIRMATION) or []):
                            yield Metric(f"{name}/{scale}", of, time, number * every)

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
        if record.replicate_of:
            yield "voxsweep.replicate_of", record.replicate_of
        yield "voxsweep.checkpoints", link(ledger, "trials", record.id, "checkpoints")
        best = epochs[-1].best_variant or None if epochs else None
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
    if record.replicate_of:
        return f"replicate, seed {record.training.seed}, {chosen}"[:_LONGEST_NAME]
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


def read_sweep(ledger: Ledger, spec: SweepSpec) -> RunContent:
    """The sweep's own run, as far as the sweep has come."""
    record = ledger.begin()
    verdict = stored_verdict(ledger)
    hosting = stored_hosting(ledger, verdict.variant) if verdict else None
    ended_at = None if verdict is None else _ms(record.ended_at or _last_epoch_end(ledger))
    return RunContent(
        trial=None,
        name=spec.name,
        started_at=_ms(record.started_at),
        params=spec_params(spec) | _data(ledger),
        tags=dict(_sweep_tags(ledger, spec, record.id, verdict)),
        end=None if ended_at is None else ("FINISHED", ended_at),
        summary=list(_figures(verdict, hosting, ended_at)) if verdict and ended_at else (),
        files={
            name: ledger.path(document)
            for name, document in _FILES.items()
            if ledger.storage.exists(ledger.path(document))
        },
    )


def _last_epoch_end(ledger: Ledger) -> float:
    """When the last epoch ended, for sweeps whose ledger does not have when they ended."""
    last = [epochs[-1] for each in ledger.trials() if (epochs := ledger.epochs(each.id))]
    return max((losses.finished_at for losses in last), default=ledger.begin().started_at)


def _data(ledger: Ledger) -> dict[str, str]:
    text = ledger.read_text(DATA_FILE)
    if text is None:
        return {}
    return data_params(TypeAdapter(list[Speaker]).validate_python(json.loads(text)["speakers"]))


def _sweep_tags(
    ledger: Ledger, spec: SweepSpec, sweep_id: str, verdict: Verdict | None
) -> Iterator[tuple[str, str]]:
    yield "voxsweep.sweep_id", sweep_id
    yield SWEEP_TAG, spec.name
    yield "voxsweep.storage", link(ledger)
    yield "voxsweep.clips", link(ledger, "clips")
    protocol = stored_protocol(ledger)
    yield NOTE_TAG, sweep_note(ledger, spec, protocol, verdict)
    if protocol is not None:
        yield "voxsweep.decoding", protocol.decoding.model_dump_json(exclude_none=True)
    if verdict is not None and verdict.loss is not None and verdict.loss.divergences:
        pairs = (f"{each.trial} {each.since}-{each.until}" for each in verdict.loss.divergences)
        yield DIVERGENCE_TAG, ", ".join(pairs)
    if verdict is not None:
        yield "voxsweep.report", link(ledger, *REPORT_FILE.split("/"))
        yield "voxsweep.verdict", verdict.verdict
        yield "voxsweep.variant", verdict.variant or ""
        yield "voxsweep.runner_up", verdict.runner_up or ""
        yield "voxsweep.protocol", verdict.protocol_hash


def _figures(verdict: Verdict, hosting: Hosting | None, time: int) -> Iterator[Metric]:
    """On set B, of the winner or else of the first finalist, and of the base."""
    yield from _listening(verdict, time)
    yield from _hosted(hosting, time)
    finalists = {each.row.id: each.row for each in verdict.confirmed}
    row = finalists.get(verdict.variant or "") or next(iter(finalists.values()), None)
    gain = verdict.effect
    if row is None or gain is None:
        return
    yield Metric("gain/mean", gain.mean, time, 0)
    yield Metric("gain/low", gain.low, time, 0)
    yield Metric("gain/high", gain.high, time, 0)
    yield Metric("gain/prompts", float(gain.n), time, 0)
    who = "winner" if verdict.variant else "first_finalist"
    for metric, mean in row.means.items():
        yield Metric(f"{metric}/{who}", mean, time, 0)
        if metric in row.differences:
            yield Metric(f"{metric}/base", mean - row.differences[metric].mean, time, 0)


def _hosted(hosting: Hosting | None, time: int) -> Iterator[Metric]:
    """What each file of the winner costs, such as ``hosting/q8_0/real_time_factor``."""
    for file in hosting.files if hosting else ():
        figures = asdict(file) | {"passes": file.equivalence.passes}
        for name in (*HOSTING_FIGURES, "passes"):
            yield Metric(f"hosting/{file.type}/{name}", float(figures[name]), time, 0)
        for test in file.equivalence.tests:
            name = f"hosting/{file.type}/{test.metric}_difference"
            yield Metric(name, test.difference.mean, time, 0)


def _listening(verdict: Verdict, time: int) -> Iterator[Metric]:
    """What each panel of listeners found, such as ``listening/language.km/difference``.

    Of several finalists of one panel, the one that decided has the plain name, and the others
    theirs, such as ``listening/9ac3-e2-s1/difference``.
    """
    finalists = [report.variant for report in verdict.listening if report.group is None]
    told = verdict.variant if verdict.variant in finalists else next(iter(finalists), None)
    for report in verdict.listening:
        group = f"/{report.group[0]}.{legal_name(report.group[1], set())}" if report.group else ""
        if not report.group and report.variant != told:
            group = f"/{report.variant}"
        found: dict[str, float] = {"raters": report.raters, "sentences": report.sentences}
        if result := report.result:
            difference, share = result.difference, result.preference
            found |= {
                "difference": difference.mean,
                "difference_low": difference.low,
                "difference_high": difference.high,
                "preferred": share.mean,
            }
            found |= {} if result.alpha is None else {"alpha": result.alpha}
            found |= {each.axis: each.difference for each in result.axes}
        for name, value in found.items():
            yield Metric(f"listening{group}/{name}", float(value), time, 0)
