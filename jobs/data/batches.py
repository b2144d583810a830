"""Which clips go into which optimiser step: a pure function of seed, epoch and position."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MicroBatch = tuple[int, ...]
"""Indices into the training clips."""


@dataclass(frozen=True)
class BatchPlan:
    """The data order of one trial."""

    clips: int
    batch_size: int
    accumulation: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps; the last one of an epoch may see fewer clips."""
        return -(-self.clips // (self.batch_size * self.accumulation))

    def epoch(self, epoch: int) -> Iterator[tuple[MicroBatch, ...]]:
        """The micro-batches of each optimiser step of ``epoch`` (1-based), every clip once."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.clips)
        per_step = self.batch_size * self.accumulation
        for start in range(0, self.clips, per_step):
            step = order[start : start + per_step].tolist()
            yield tuple(
                tuple(step[at : at + self.batch_size])
                for at in range(0, len(step), self.batch_size)
            )
