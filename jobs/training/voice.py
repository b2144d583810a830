"""Who speaks: a slot's adapter at a strength, or the base."""

from typing import NamedTuple


class Voice(NamedTuple):
    """An adapter over the resident base."""

    slot: str | None
    """None is the base."""
    lora_scale: float = 1.0
    """Times alpha / rank."""
