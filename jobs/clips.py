"""A prepared clip, which models learn; a spoken clip and an answer, which a model made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jobs.spec.items import TextItem

Split = Literal["train", "validation"]

Codes = NDArray[np.integer[Any] | np.floating[Any]]
"""What a model learns of a recording: a codec's tokens, shape (frames,) or (frames, codebooks), or
latents, shape (frames, channels) and float32."""


@dataclass(frozen=True, slots=True)
class PreparedClip:
    """One clip of the target, as the model will learn it."""

    id: str
    text: str
    split: Split
    codes: Codes
    """Read-only and in a file where they come from :func:`read_prepared`: copy what is changed."""
    word_starts: tuple[int, ...] | None
    """First frame of each word; None when the layout has no word markers."""
    speaker: str | None = None
    language: str | None = None
    reference: Path | None = None
    """A recording of the speaker, at the base's rate, for families that condition on one."""
    is_reference: bool = False
    """Whether its speaker's other clips are read behind it; see ``data.reference_prefix``."""
    key: str = ""
    """SHA-256 of all that the codes follow from; see :mod:`jobs.data.prepared.recipe`."""
    written: str | None = None
    """The manifest's text, where annotations or broken characters were taken out of it."""
    loudness: float | None = None
    """LUFS that it was brought to, which is less than was asked for where more would have clipped;
    None where none was asked for."""


@dataclass(frozen=True, eq=False)
class SpokenClip:
    """Speech of a variant. ``audio`` is mono float32 in [-1, 1], shape (samples,).

    A clip equals itself alone, so that what follows from it can be looked up.
    """

    audio: NDArray[np.float32]
    rate: int
    """Samples per second."""
    text: str
    """The text to speak."""
    reached_end: bool
    """False when generation hit its cap without an end-of-speech token."""
    language: str | None = None
    """The language tag of ``text``, if its prompt has one; see ``jobs.spec.trial.Language``."""
    speaker: str | None = None
    """The speaker that its prompt names, if it names one."""


@dataclass(frozen=True)
class ItemAnswer:
    """What a variant makes of a text item."""

    item: TextItem
    log_likelihoods: tuple[float, ...]
    """Of each of the item's continuations, given what comes before it; natural logarithms."""
