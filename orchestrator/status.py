"""How far a sweep has come, read from its storage: no cluster need answer, nothing is touched."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from jobs.problems import InputError, Problem
from jobs.spec.trial import BASE_VARIANT, Variant
from jobs.training.epochs import EpochLosses
from orchestrator.ledger import PLAN_FILE, PROTOCOL_FILE, SPEC_FILE, VERDICT_FILE, Ledger
from orchestrator.scores.from_ledger import base_info, variant_info
from orchestrator.spec.model import SweepSpec
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.screen import objective
from orchestrator.verdict.table import ScoreTable


@dataclass(frozen=True)
class TrialStatus:
    """A trial, by what it has committed."""

    trial: str
    rank: int
    learning_rate: float
    epoch: int
    """Committed ones."""
    epochs: int
    """Asked for."""
    validation_loss: float | None
    objective: float | None
    """Of the best variant so far; None while none was scored."""
    best_variant: str | None
    status: str
    """``open``, or how it ended."""
    reason: str
    seconds: float
    """Wall time of its epochs. One that it shared with other trials counts whole for each."""


@dataclass(frozen=True)
class RungStatus:
    """A rung, by how many trials came to it and how many it stopped."""

    epoch: int
    reached: int
    stopped: int


@dataclass(frozen=True)
class SweepStatus:
    """A sweep, by what its storage holds."""

    sweep: str
    storage: str
    trials: tuple[TrialStatus, ...]
    asked: int
    """Trials that the search may start."""
    epochs: int
    """Committed ones."""
    most_epochs: int
    rungs: tuple[RungStatus, ...]
    training_hours: float
    most_gpu_hours: float
    """As if no two trials had shared a GPU."""
    verdict: str | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def sweep_status(ledger: Ledger) -> SweepStatus:
    """Read how far a sweep has come.

    Raises:
        InputError: the storage has no sweep of this name.
    """
    text, plan = ledger.read_text(SPEC_FILE), ledger.read_text(PLAN_FILE)
    if text is None or plan is None:
        what = f"there must be a sweep of this name, but there is no {ledger.sweep!r}"
        raise InputError([Problem(ledger.storage.url, what, "Correct the name or --storage.")])
    spec = SweepSpec.model_validate(yaml.safe_load(text))
    trials = tuple(_trials(ledger, spec))
    hours = sum(each.seconds for each in trials) / 3600
    verdict = ledger.read_text(VERDICT_FILE)
    counted = json.loads(plan)
    return SweepStatus(
        sweep=ledger.sweep,
        storage=ledger.storage.url,
        trials=trials,
        asked=counted["trials"],
        epochs=sum(each.epoch for each in trials),
        most_epochs=counted["most_epochs"],
        rungs=tuple(_rungs(spec, trials)),
        training_hours=hours,
        most_gpu_hours=hours * spec.resources.gpus_per_rank * spec.engine.ranks,
        verdict=json.loads(verdict)["verdict"] if verdict else None,
    )


def _trials(ledger: Ledger, spec: SweepSpec) -> Iterator[TrialStatus]:
    text = ledger.read_text(PROTOCOL_FILE)
    protocol = Protocol.model_validate_json(text).screening() if text else None
    for record in ledger.trials():
        epochs, result = ledger.epochs(record.id), ledger.result(record.id)
        best = protocol and _best(ledger, spec, record.id, epochs, protocol)
        yield TrialStatus(
            trial=record.id,
            rank=record.training.rank,
            learning_rate=record.training.learning_rate,
            epoch=len(epochs),
            epochs=record.training.epochs,
            validation_loss=epochs[-1].validation_loss if epochs else None,
            objective=best[0] if best else None,
            best_variant=best[1] if best else None,
            status=result.end if result and result.final else "open",
            reason=result.reason if result else "",
            seconds=sum(losses.seconds for losses in epochs),
        )


def _best(
    ledger: Ledger, spec: SweepSpec, trial: str, epochs: list[EpochLosses], protocol: Protocol
) -> tuple[float, str] | None:
    """The best of a trial's variants that were scored, as the search heard of it."""
    rows, infos = list(ledger.scores(BASE_VARIANT) or ()), [base_info()]
    record = ledger.trial(trial)
    for losses in epochs:
        for scale in spec.variants.adapted_scales:
            variant = Variant(trial=trial, epoch=losses.epoch, lora_scale=scale)
            if scored := ledger.scores(variant.id):
                rows += scored
                infos.append(variant_info(variant, record, losses))
    if len(infos) == 1:
        return None
    table = ScoreTable.build(infos, rows, protocol)
    return max((objective(table, info.id, protocol), info.id) for info in infos[1:])


def _rungs(spec: SweepSpec, trials: tuple[TrialStatus, ...]) -> Iterator[RungStatus]:
    """The epochs at which ASHA compares: grace_epochs, and each time ``reduction`` times more."""
    epoch = float(spec.rungs.grace_epochs)
    while spec.rungs.scheduler == "asha" and epoch < spec.longest_training:
        at = [each for each in trials if each.epoch >= int(epoch)]
        stopped = sum(each.status == "stopped" and each.epoch == int(epoch) for each in at)
        yield RungStatus(int(epoch), len(at), stopped)
        epoch *= spec.rungs.reduction
