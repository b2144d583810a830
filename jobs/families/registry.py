"""The families by name. Loading one imports its model code; asking for the names does not."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.problems import nearest
from jobs.spec import Precision

if TYPE_CHECKING:
    from jobs.families.base import Base

FAMILIES = {"codec_lm": "jobs.families.codec_lm"}
"""Family name to the module whose ``load`` gives its :class:`~jobs.families.base.Base`."""


def load_base(
    family: str, source: Path, codec: Path, voice: str | None, precision: Precision
) -> "Base":
    """Load the frozen base of ``family`` from ``source``, with its codec.

    Raises:
        ValueError: the family or the voice is not known.
        FileNotFoundError: a directory lacks a file that the family needs.
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be known, got {family!r}. {nearest(family, FAMILIES)}")
    base: Base = import_module(FAMILIES[family]).load(source, codec, voice, precision)
    return base
