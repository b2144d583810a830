"""The dry run: what a sweep would do, and what of it is done. Touches nothing."""

from dataclasses import asdict, dataclass
from typing import Any

from cluster.storage import Storage
from jobs.data.batches import BatchPlan
from jobs.data.manifest import ManifestRow
from jobs.spec import PromptSpec
from orchestrator.ledger import Ledger, TrialResult
from orchestrator.spec import SweepSpec

_CLIP_BYTES_A_SECOND = 22_000
"""16 kHz 16-bit FLAC of speech, measured on the shipped voice."""
_SECONDS_A_PROMPT = 2.0


@dataclass(frozen=True)
class Plan:
    """Counts before anything runs; ``most`` where the scheduler may stop trials early."""

    sweep: str
    trials: int
    most_epochs: int
    most_optimiser_steps: int
    most_variants: int
    """The base included."""
    most_clips: int
    most_clip_megabytes: float
    prompts: int
    training_clips: int
    validation_clips: int
    trials_at_once: int
    ranks: int
    gpus: float
    """Taken at once, when all hosts are up."""
    most_gpu_hours: float | None
    """From the epochs already trained; None before the first, or without GPUs."""
    trials_done: int
    epochs_done: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return asdict(self)


def plan(
    spec: SweepSpec, rows: list[ManifestRow], prompts: list[PromptSpec], storage: Storage
) -> Plan:
    """Count what ``spec`` would run on these clips and prompts."""
    ledger = Ledger(storage, spec.name)
    done = {record.id: ledger.epochs(record.id) for record in ledger.trials()}
    seconds = [losses.seconds for epochs in done.values() for losses in epochs]
    clips = sum(row.split == "train" for row in rows)
    epochs = _most_epochs(spec)
    variants = 1 + epochs * len(spec.variants.adapted_scales)
    gpus = spec.resources.gpus_per_rank * spec.engine.ranks
    return Plan(
        sweep=spec.name,
        trials=spec.search.trial_count,
        most_epochs=epochs,
        most_optimiser_steps=_most_steps(spec, clips),
        most_variants=variants,
        most_clips=variants * len(prompts),
        most_clip_megabytes=round(
            variants * len(prompts) * _SECONDS_A_PROMPT * _CLIP_BYTES_A_SECOND / 1e6, 1
        ),
        prompts=len(prompts),
        training_clips=clips,
        validation_clips=len(rows) - clips,
        trials_at_once=spec.resources.trials_at_once,
        ranks=spec.engine.ranks,
        gpus=gpus * spec.resources.trials_at_once,
        most_gpu_hours=(
            epochs * gpus * sum(seconds) / len(seconds) / 3600 if seconds and gpus else None
        ),
        trials_done=sum(_is_done(ledger.result(trial)) for trial in done),
        epochs_done=sum(map(len, done.values())),
    )


def _is_done(result: TrialResult | None) -> bool:
    return result is not None and result.final


def _most_epochs(spec: SweepSpec) -> int:
    """Epochs if no trial is stopped."""
    if spec.search.sampler == "grid":
        return sum(spec.training_for(point).epochs for point in spec.search.grid())
    return spec.search.trials * _largest(spec, "epochs")


def _most_steps(spec: SweepSpec, clips: int) -> int:
    """Optimiser steps if no trial is stopped and the search picks the smallest batches."""
    batch, accumulation = _smallest(spec, "batch_size"), _smallest(spec, "accumulation")
    return BatchPlan(clips, batch, accumulation, seed=0).steps_per_epoch * _most_epochs(spec)


def _largest(spec: SweepSpec, key: str) -> int:
    return max(_values(spec, key))


def _smallest(spec: SweepSpec, key: str) -> int:
    return min(_values(spec, key))


def _values(spec: SweepSpec, key: str) -> tuple[int, ...]:
    searched = spec.search.space.get(key)
    return searched.whole_corners if searched else (getattr(spec.training, key),)
