"""A checkpoint: an adapter with all that training needs to resume.

Files: the adapter in PEFT's format, ``optimizer.safetensors``, ``state.json`` and, at the end of an
epoch, ``losses.json``. It exists once its directory is committed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cluster.storage.base import Storage, StorageKey
from jobs.training.adapter import SavedAdapter, read_weights, save_tensors
from jobs.training.epochs import EpochLosses, SlotState, StepTaken, write_losses

_MOMENTS = "optimizer.safetensors"
_STATE = "state.json"


@dataclass(frozen=True)
class Snapshot:
    """A slot between two optimiser steps; it can be written while the slot trains on."""

    adapter: SavedAdapter
    moments: Mapping[str, Tensor]
    state: SlotState

    def write(self, directory: Path, losses: EpochLosses | None) -> None:
        """Write the files of a checkpoint.

        ``losses`` are of the epoch that led to it; None in the middle of one.
        """
        self.adapter.write(directory)
        save_tensors(self.moments, directory / _MOMENTS)
        (directory / _STATE).write_text(json.dumps(asdict(self.state)) + "\n")
        if losses is not None:
            write_losses(directory, losses)


class Checkpoint(NamedTuple):
    """What a slot resumes from."""

    weights: Mapping[str, Tensor]
    """By PEFT's key."""
    moments: Mapping[str, Tensor]
    state: SlotState


def read_checkpoint(storage: Storage, key: StorageKey) -> Checkpoint:
    """The checkpoint that is committed at ``key``.

    Raises:
        FileNotFoundError: it was never committed.
        DamagedError: it is not as it was committed, or, where it was committed without digests,
            cannot be read; it was set aside.
    """
    with storage.borrow(key) as directory:
        try:
            return Checkpoint(read_weights(directory), *read_state(directory))
        except (SafetensorError, ValueError, KeyError, TypeError, FileNotFoundError) as error:
            what = f"it cannot be read: {error}"
    raise storage.set_aside(key, what)


def read_state(directory: Path) -> tuple[dict[str, Tensor], SlotState]:
    """The optimiser's moments and the slot's state."""
    state = json.loads((directory / _STATE).read_text())
    taken = tuple(
        StepTaken(loss, targets, rate, tuple(parts))
        for loss, targets, rate, parts in state.pop("taken", ())
    )
    return load_file(directory / _MOMENTS), SlotState(taken=taken, **state)
