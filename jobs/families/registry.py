"""The families by name. Loading one imports its model code; asking for the names does not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.embedded import CODEC_DIR
from jobs.families.qwen3_tts.targets import TARGETS
from jobs.families.rules import DataRules
from jobs.families.sources import directory_of
from jobs.families.vendor import QWEN_TTS, QWEN_TTS_VERSION
from jobs.problems import nearest
from jobs.spec import HostSpec
from jobs.strict import EMBEDDED

if TYPE_CHECKING:
    from jobs.families.base import Base


@dataclass(frozen=True)
class Family:
    """One kind of TTS model."""

    module: str
    """Its ``load`` gives a :class:`~jobs.families.base.Base`."""
    rules: DataRules
    embedded: bool = False
    """Whether a base of it is shipped."""
    targets: tuple[str, ...] | None = None
    """What ``training.targets`` may name; None is any layer of the base."""
    packages: Mapping[str, str | None] = field(default_factory=dict)
    """What only it needs to be installed, each with its version; None is any."""
    acoustic: bool = False
    """Whether its loss has the parts that ``training.acoustic_...`` are about."""


FAMILIES = {
    "codec_lm": Family("jobs.families.codec_lm", DataRules(), embedded=True),
    "qwen3_tts": Family(
        "jobs.families.qwen3_tts.base",
        # Its users found that a second of silence after each clip makes speech end cleanly.
        DataRules(trailing_silence=1.0),
        targets=tuple(TARGETS),
        packages={QWEN_TTS: QWEN_TTS_VERSION, "transformers": "4.57.3", "einops": None},
        acoustic=True,
    ),
}


def load_base(spec: HostSpec) -> "Base":
    """Load the frozen base that ``spec`` names, with its codec.

    Raises:
        ValueError: the family or the voice is not known.
        FileNotFoundError: a directory lacks a file that the family needs.
    """
    if spec.family not in FAMILIES:
        advice = nearest(spec.family, FAMILIES)
        raise ValueError(f"family must be known, got {spec.family!r}. {advice}")
    source = directory_of(spec.source)
    codec = CODEC_DIR if spec.codec == EMBEDDED else Path(spec.codec)
    base: Base = import_module(FAMILIES[spec.family].module).load(
        source, codec, spec.voice, spec.precision
    )
    return base
