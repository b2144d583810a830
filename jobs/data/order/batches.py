"""Which clips go into which optimiser step: a pure function of seed, epoch and position."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import TypeVar

import numpy as np

from jobs.data.order.mix import Mix

_Item = TypeVar("_Item")

MicroBatch = tuple[int, ...]
"""Indices into the training clips."""

_WINDOW = 50
"""Micro-batches whose clips are sorted by length together: enough for clips of like length to
meet, few enough that an epoch's order stays a random one. Transformers groups by length so."""
_LEAST_WINDOWS = 4
"""In an epoch, or the same clips of a small dataset would meet every time."""


@dataclass(frozen=True)
class BatchPlan:
    """The data order of one trial."""

    clips: int
    batch_size: int
    accumulation: int
    seed: int
    mix: Mix | None = None
    """How often each clip comes in an epoch; None is once."""
    batch_tokens: int | None = None
    """Of a micro-batch at most: its clips times the longest of them."""
    lengths: Sequence[int] = ()
    """Tokens of each clip; needed with ``batch_tokens``."""

    def epoch(self, epoch: int) -> Iterator[tuple[MicroBatch, ...]]:
        """The micro-batches of each optimiser step of ``epoch`` (1-based).

        The last step may have fewer, and its last one fewer clips. Under ``batch_tokens`` an epoch
        need not have as many steps as the one before it.
        """
        draw = np.random.default_rng([self.seed, epoch])
        seen = np.arange(self.clips)
        if self.mix is not None:
            seen = np.array(self.mix.epoch(self.seed, epoch))
        order: list[int] = seen[draw.permutation(len(seen))].tolist()
        if self.batch_tokens is None:
            batches = [tuple(part) for part in _parts(order, self.batch_size)]
        else:
            sorted_batches = list(self._within(order, self.batch_tokens))
            batches = [sorted_batches[at] for at in draw.permutation(len(sorted_batches))]
        return (tuple(part) for part in _parts(batches, self.accumulation))

    def steps_from(self, first: int, number: int) -> Iterator[tuple[MicroBatch, ...]]:
        """So many optimiser steps from step ``first`` (0-based) on, epoch after epoch."""
        return islice(chain.from_iterable(map(self.epoch, count(1))), first, first + number)

    def steps(self, epochs: int) -> int:
        """Optimiser steps of the first ``epochs`` epochs."""
        if self.batch_tokens is not None:
            return sum(len(list(self.epoch(epoch))) for epoch in range(1, epochs + 1))
        seen = self.clips if self.mix is None else self.mix.size
        return epochs * -(-seen // (self.batch_size * self.accumulation))

    def _within(self, order: Sequence[int], budget: int) -> Iterator[MicroBatch]:
        """Clips of like length together; those of one length stay in the order drawn."""
        fitting = len(order) // (self.batch_size * _LEAST_WINDOWS)
        for window in _parts(order, self.batch_size * max(1, min(_WINDOW, fitting))):
            batch: list[int] = []
            for clip in sorted(window, key=lambda index: self.lengths[index]):
                # Clips come from short to long, so this one is the longest.
                full = len(batch) == self.batch_size
                if full or (len(batch) + 1) * self.lengths[clip] > budget:
                    yield tuple(batch)
                    batch = []
                batch.append(clip)
            yield tuple(batch)


def check_budget(batch_tokens: int, lengths: Sequence[int], clips: Sequence[str]) -> None:
    """Whether every clip, named by ``clips``, fits a micro-batch of its own.

    Raises:
        ValueError: naming the longest of those that do not.
    """
    longest = max(range(len(lengths)), key=lambda index: lengths[index])
    if lengths[longest] > batch_tokens:
        over = sum(length > batch_tokens for length in lengths)
        raise ValueError(
            f"a clip must fit into training.batch_tokens, {batch_tokens}, but {over} of "
            f"{len(lengths)} training clips are longer, clip {clips[longest]!r} the longest with "
            f"{lengths[longest]} tokens: raise batch_tokens to {lengths[longest]}, or leave long "
            "clips out with data.max_seconds"
        )


def _parts(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
