"""The families by name. Loading one imports its model code; asking for the names does not."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.embedded import BASE_DIR, CODEC_DIR
from jobs.problems import nearest
from jobs.spec import EMBEDDED, HostSpec

if TYPE_CHECKING:
    from jobs.families.base import Base

FAMILIES = {"codec_lm": "jobs.families.codec_lm"}
"""Family name to the module whose ``load`` gives its :class:`~jobs.families.base.Base`."""


def load_base(spec: HostSpec) -> "Base":
    """Load the frozen base that ``spec`` names, with its codec.

    Raises:
        ValueError: the family or the voice is not known.
        FileNotFoundError: a directory lacks a file that the family needs.
    """
    if spec.family not in FAMILIES:
        advice = nearest(spec.family, FAMILIES)
        raise ValueError(f"family must be known, got {spec.family!r}. {advice}")
    source = BASE_DIR if spec.source == EMBEDDED else Path(spec.source)
    codec = CODEC_DIR if spec.codec == EMBEDDED else Path(spec.codec)
    base: Base = import_module(FAMILIES[spec.family]).load(
        source, codec, spec.voice, spec.precision
    )
    return base
