"""Losses of an epoch, the state within one, and the errors that end one. No torch in here.

An epoch of a trial ends at a checkpoint: it is a pass over the training clips, or, with
``training.checkpoint_steps``, so many optimiser steps.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from cluster.storage.base import StorageKey

LOSSES_FILE = "losses.json"


class DivergedError(Exception):
    """The loss of a trial stopped being a finite number; the trial ends, its host goes on."""


class SlotGoneError(Exception):
    """The slot was detached, or never attached; its trial goes on from its last checkpoint."""


class HostBrokenError(Exception):
    """The host's process can serve nobody any more, and another takes its place: the trials in its
    slots go on from their last checkpoints."""


@dataclass(frozen=True)
class EpochLosses:
    """Losses of one epoch of one trial, in nats per target token."""

    epoch: int
    training_loss: float
    """Mean over the epoch's targets, each under the weights of its own step."""
    validation_loss: float
    """Mean over the validation targets, after the epoch."""
    step_losses: tuple[float, ...]
    learning_rates: tuple[float, ...]
    seconds: float
    """Wall time of training and validation."""
    finished_at: float
    """Unix time, seconds."""
    group_losses: Mapping[str, float] = field(default_factory=dict)
    """The mean over the validation targets of each language and each speaker, by names such as
    ``language/km`` and ``speaker/slt``; of neither where the clips name no two."""
    training_parts: Mapping[str, float] = field(default_factory=dict)
    """``training_loss`` by the parts of the family's loss, where it has several."""
    validation_figures: Mapping[str, float] = field(default_factory=dict)
    """What else a validation found; see :meth:`jobs.training.host.Host.end_epoch`."""
    clip_losses: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Of each validation clip the mean over its targets, and the same of the base under the same
    noise; of none where the family's loss has one part."""
    pack_difference: float | None = None
    """:attr:`jobs.training.packing.PackingPlan.difference` of its host, where that packs at the
    trial's batch size; None where the trial had every pass to itself."""


class StepTaken(NamedTuple):
    """An optimiser step of the current epoch."""

    loss: float
    """Summed over the targets, nats."""
    targets: int
    learning_rate: float
    parts: tuple[float, ...] = ()
    """``loss`` by the parts of the family's loss, where it has several."""


@dataclass(frozen=True)
class SlotState:
    """The state of a slot's training: its position in the data and in its random stream.

    Dropout at optimiser step n draws from a generator seeded by (seed, n, rank), so ``seed`` and
    ``steps`` are the whole state of it; the data order is a function of ``seed`` and ``epoch``.
    """

    seed: int
    epoch: int
    """Epochs completed."""
    steps: int
    """Optimiser steps taken, with those of the current epoch."""
    taken: tuple[StepTaken, ...] = ()
    """Those of the current epoch."""
    seconds: float = 0.0
    """Wall time of the host in the current epoch."""


def write_losses(directory: Path, losses: EpochLosses) -> None:
    """Write ``losses`` into a checkpoint's directory."""
    (directory / LOSSES_FILE).write_text(json.dumps(asdict(losses)) + "\n")


def parse_losses(text: bytes) -> EpochLosses:
    """The losses in a :data:`LOSSES_FILE`."""
    row = json.loads(text)
    for key in ("step_losses", "learning_rates"):
        row[key] = tuple(row[key])
    row["clip_losses"] = {clip: tuple(pair) for clip, pair in row.get("clip_losses", {}).items()}
    return EpochLosses(**row)


def pack_difference(epochs: Iterable[EpochLosses]) -> float | None:
    """The largest of these epochs; None where none was trained in packs."""
    found = (losses.pack_difference for losses in epochs)
    return max((each for each in found if each is not None), default=None)


def checkpoint_key(sweep: str, trial: str, epoch: int) -> StorageKey:
    """Where the checkpoint of ``epoch`` is kept."""
    return StorageKey(f"{sweep}/trials/{trial}/checkpoints/epoch-{epoch:03d}")


def partial_key(sweep: str, trial: str, epoch: int) -> str:
    """The prefix of the keys of checkpoints within ``epoch``, which was cut short."""
    return f"{sweep}/trials/{trial}/partial/epoch-{epoch:03d}"
