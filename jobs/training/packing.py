"""How many slots of a host share one forward and backward pass, and why. No torch in here."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PackingPlan:
    """What a host found out about itself before its first trial."""

    slots: int
    """Adapters it holds at once."""
    widths: Mapping[int, int]
    """By batch size: how many slots share a pass; 1 is one after another."""
    ratios: Mapping[int, Mapping[int, float]]
    """By batch size, then pack size: speed over the same slots one after another."""
    difference: float
    """Largest difference of an adapter's weights trained in a pack and alone; 0 is bit-equal."""
    reason: str
    """One line for people."""


@dataclass(frozen=True)
class Progress:
    """How a host's work moves on, told without waiting for it: slow work and hung work differ."""

    turns: int
    """Pieces of work finished: a training step, a validation, a batch of speech."""
    doing: str
    """The piece in hand; empty when there is none."""
    seconds: float
    """Since the piece in hand was begun."""
