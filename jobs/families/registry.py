"""The families by name. Loading one imports its model code; asking for the names does not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.embedded import CODEC_DIR
from jobs.families.qwen3_tts.targets import TARGETS
from jobs.families.rules import CODEC_LM, QWEN3_TTS, DataRules
from jobs.families.sources import directory_of
from jobs.families.vendor import QWEN_TTS, QWEN_TTS_VERSION
from jobs.problems import nearest
from jobs.spec import EMBEDDED
from jobs.spec.trial import HostSpec

if TYPE_CHECKING:
    from jobs.families.base import Base
    from jobs.families.text import TextReader


@dataclass(frozen=True)
class Family:
    """One kind of TTS model."""

    module: str
    """Its ``load`` gives a :class:`~jobs.families.base.Base`."""
    rules: DataRules
    text: str
    """Its ``open_text`` gives a :class:`~jobs.families.text.TextReader`, or None where the base is
    not on this machine; its ``sample_rate`` gives that of all audio, Hz. It loads no weights."""
    embedded: bool = False
    """Whether a base of it is shipped."""
    targets: tuple[str, ...] | None = None
    """What ``training.targets`` may name; None is any layer of the base."""
    packages: Mapping[str, str | None] = field(default_factory=dict)
    """What only it needs to be installed, each with its version; None is any."""
    acoustic: bool = False
    """Whether its loss has the parts that ``training.acoustic_...`` are about."""


FAMILIES = {
    "codec_lm": Family(
        "jobs.families.codec_lm", CODEC_LM, text="jobs.families.text", embedded=True
    ),
    "qwen3_tts": Family(
        "jobs.families.qwen3_tts.base",
        QWEN3_TTS,
        text="jobs.families.qwen3_tts.text",
        targets=tuple(TARGETS),
        packages={QWEN_TTS: QWEN_TTS_VERSION, "transformers": "4.57.3", "einops": None},
        acoustic=True,
    ),
}


def open_text(spec: HostSpec) -> "TextReader | None":
    """How the base that ``spec`` names reads texts, without its weights; None if it is elsewhere.

    Raises:
        ValueError: the family is not known, or a file of the base is not what it must be.
        FileNotFoundError: the base lacks a file.
    """
    reader: TextReader | None = import_module(_family(spec.family).text).open_text(spec)
    return reader


def sample_rate(spec: HostSpec) -> int:
    """Hz of all audio that the base takes in, without loading it.

    Raises:
        ValueError: the family is not known.
    """
    rate: int = import_module(_family(spec.family).text).sample_rate(spec)
    return rate


def load_base(spec: HostSpec) -> "Base":
    """Load the frozen base that ``spec`` names, with its codec.

    Raises:
        ValueError: the family or the voice is not known.
        FileNotFoundError: a directory lacks a file that the family needs.
    """
    family = _family(spec.family)
    source = directory_of(spec.source)
    codec = CODEC_DIR if spec.codec == EMBEDDED else Path(spec.codec)
    base: Base = import_module(family.module).load(
        source, codec, spec.voice, spec.precision, spec.language_tag
    )
    return base


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"family must be known, got {name!r}. {nearest(name, FAMILIES)}")
    return FAMILIES[name]
