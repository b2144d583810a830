"""How many slots of a host share one forward and backward pass, and why. No torch in here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator


@dataclass(frozen=True)
class AdapterUse:
    """The adapter that rows of a batch go through, its strength and its dropout."""

    slot: str | None
    """None is the base alone."""
    lora_scale: float = 1.0
    """Times alpha / rank."""
    dropout: "Generator | None" = None
    """The generator that dropout draws from; None is no dropout, as in speech."""


@dataclass(frozen=True)
class PackingPlan:
    """What a host measured of itself before its first trial."""

    slots: int
    """Adapters it holds at once."""
    widths: Mapping[int, int]
    """By batch size: how many slots share a pass; 1 is one after another."""
    ratios: Mapping[int, Mapping[int, float]]
    """By batch size, then pack size: speed over the same slots one after another."""
    difference: float
    """Largest difference of an adapter's weights, or of its optimiser's moments, trained in a pack
    and alone; 0 is bit-equal."""
    reason: str
    """One line for the user."""

    def width(self, batch_size: int) -> int:
        """The pack size at a batch size. One that was not measured packs as the next larger one
        does, because packs gain less the larger the batches; one above all as the largest."""
        larger = [measured for measured in self.widths if measured >= batch_size]
        return self.widths[min(larger) if larger else max(self.widths)]


@dataclass(frozen=True)
class HostProgress:
    """How far a host's work is; tells slow work from hung work."""

    finished: int
    """Pieces of work: a training step, a validation, a batch of speech."""
    doing: str
    """The piece in hand; empty when there is none."""
    seconds: float
    """Since the piece in hand was begun."""


LEAST_GAIN = 1.05
"""Below it packs are not used: measured times of equal work differ by a few per cent."""


def best_width(ratios: Mapping[int, float]) -> int:
    """The pack size that gains most, by the speed of each over one after another; 1 if none does.

    >>> best_width({2: 1.3, 4: 1.6}), best_width({2: 0.9, 4: 1.04})
    (4, 1)
    """
    size = max(ratios, key=lambda n: ratios[n], default=1)
    return size if size in ratios and ratios[size] >= LEAST_GAIN else 1


def slots_that_fit(free: int, adapter: int, activations: int) -> int:
    """How many slots ``free`` bytes of memory hold when all train in one pass.

    Args:
        free: with the base loaded and no slot attached.
        adapter: of one slot's weights and optimiser state.
        activations: of one slot's part of a pass, at their largest.

    >>> slots_that_fit(free=10_000, adapter=500, activations=1_500)
    4
    """
    return max(1, int(free * _USABLE) // (adapter + activations))


_USABLE = 0.9
"""The rest is left to speech and to fragmentation."""


def reason(
    widths: Mapping[int, int],
    ratios: Mapping[int, Mapping[int, float]],
    difference: float,
    uneven_rows: str = "",
) -> str:
    """Why the slots are packed as they are, and how far a pack is from alone.

    ``uneven_rows`` says what in the base's widths keeps a pack from being equal.
    """
    parts = []
    for batch_size, width in widths.items():
        if width > 1:
            gain = f"{ratios[batch_size][width]:.2f}x one after another"
            parts.append(f"packs of {width} at batch size {batch_size} ({gain})")
        else:
            tried = ", ".join(f"{n} are {ratio:.2f}x" for n, ratio in ratios[batch_size].items())
            parts.append(f"one after another at batch size {batch_size} (packs of {tried})")
    if max(widths.values()) > 1:
        parts.append(_equality(difference, uneven_rows))
    return "; ".join(parts)


def equality(difference: float) -> str:
    """How far a pack is from alone, by :attr:`PackingPlan.difference`.

    >>> equality(0.0)
    'a pack trains to the same bits as alone'
    """
    if difference == 0.0:
        return "a pack trains to the same bits as alone"
    return f"a pack differs from alone by up to {difference:.1e} in weights and optimiser state"


def _equality(difference: float, uneven_rows: str) -> str:
    if difference == 0.0 and uneven_rows:
        return f"a pack may differ from alone, though it did not when measured: {uneven_rows}"
    if difference == 0.0:
        return equality(difference)
    cause = uneven_rows or "matrix products here depend on how many rows they have"
    return f"{equality(difference)}: {cause}"
