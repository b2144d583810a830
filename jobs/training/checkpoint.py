"""A checkpoint: an adapter with all that training needs to go on from there.

Files: the adapter in PEFT's format, ``optimizer.safetensors``, ``state.json`` (how far training
is) and, at the end of an epoch, ``losses.json`` (what it gave). It exists once its directory is
committed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor

from jobs.training.adapter import SavedAdapter
from jobs.training.epochs import EpochLosses, write_losses

_MOMENTS = "optimizer.safetensors"
_STATE = "state.json"


class StepTaken(NamedTuple):
    """An optimiser step of the epoch under way."""

    loss: float
    """Summed over the targets, nats."""
    targets: int
    learning_rate: float


@dataclass(frozen=True)
class SlotState:
    """Where a slot stands: the data cursor and the position of its random stream.

    Dropout at optimiser step n draws from a generator seeded by (seed, n, rank), so ``seed`` and
    ``steps`` are the whole state of it; the data order is a function of ``seed`` and ``epoch``.
    """

    seed: int
    epoch: int
    """Epochs completed."""
    steps: int
    """Optimiser steps taken, those of the epoch under way among them."""
    taken: tuple[StepTaken, ...] = ()
    """Those of the epoch under way."""
    seconds: float = 0.0
    """Of the host, that they took."""


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
        save_file(dict(self.moments), directory / _MOMENTS)
        (directory / _STATE).write_text(json.dumps(asdict(self.state)) + "\n")
        if losses is not None:
            write_losses(directory, losses)


def read_state(directory: Path) -> tuple[dict[str, Tensor], SlotState]:
    """The optimiser's moments and the slot's position."""
    state = json.loads((directory / _STATE).read_text())
    taken = tuple(StepTaken(*step) for step in state.pop("taken", ()))
    return load_file(directory / _MOMENTS), SlotState(taken=taken, **state)
