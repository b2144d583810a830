"""A checkpoint: an adapter at an epoch, with all that training needs to go on from there.

Files: the adapter in PEFT's format, ``optimizer.safetensors``, ``state.json`` (how far training
is) and ``losses.json`` (what the epoch gave). It exists once its directory is committed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from jobs.training.adapter import SavedAdapter
from jobs.training.epochs import EpochLosses, write_losses

_MOMENTS = "optimizer.safetensors"
_STATE = "state.json"


@dataclass(frozen=True)
class SlotState:
    """Where a slot stands: the data cursor and the position of its random stream.

    Dropout at optimiser step n draws from a generator seeded by (seed, n, rank), so ``seed`` and
    ``steps`` are the whole state of it; the data order is a function of ``seed`` and ``epoch``.
    """

    seed: int
    epoch: int
    steps: int
    """Optimiser steps taken."""


@dataclass(frozen=True)
class Snapshot:
    """A slot between two epochs; it can be written while the slot trains on."""

    adapter: SavedAdapter
    moments: Mapping[str, Tensor]
    state: SlotState

    def write(self, directory: Path, losses: EpochLosses) -> None:
        """Write the files of a checkpoint; ``losses`` are of the epoch that led to it."""
        self.adapter.write(directory)
        save_file(dict(self.moments), directory / _MOMENTS)
        (directory / _STATE).write_text(json.dumps(asdict(self.state)) + "\n")
        write_losses(directory, losses)


def read_state(directory: Path) -> tuple[dict[str, Tensor], SlotState]:
    """The optimiser's moments and the slot's position."""
    state = json.loads((directory / _STATE).read_text())
    return load_file(directory / _MOMENTS), SlotState(**state)
