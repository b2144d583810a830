"""What a codec of ``codec_lm`` is, and which there are."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cluster.plugins import Table
from jobs.vendor import NEUCODEC


class Codec(Protocol):
    """A waveform as one stream of discrete codes, and back."""

    @property
    def digest(self) -> str:
        """SHA-256, hex: two codecs of one digest give the same codes for the same audio."""

    @property
    def codebook_size(self) -> int:
        """How many different codes there are."""

    @property
    def frame_rate(self) -> float:
        """Codes a second."""

    @property
    def sample_rate(self) -> int:
        """Hz of the audio that is encoded."""

    @property
    def speech_rate(self) -> int:
        """Hz of the audio that is decoded."""

    def centroids(self) -> NDArray[np.float32]:
        """A point of each code, (codebook_size, c): near to those that sound like it."""

    def encode(self, audio: NDArray[np.float32], rate: int) -> NDArray[np.int64]:
        """Codes (n,) of mono audio (samples,) at ``rate`` Hz.

        Raises:
            ValueError: ``rate`` is not ``sample_rate`` (nothing is resampled silently), the audio
                is not one-dimensional, or it is shorter than one code.
        """

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Mono audio in [-1, 1] at ``speech_rate`` of codes (n,).

        Raises:
            ValueError: a code is outside ``0 .. codebook_size - 1``, or there is none.
        """

    def decode_stream(self, chunks: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.float32]]:
        """The audio of codes that come chunk by chunk, each piece as soon as it is settled.

        What is settled, and how the pieces together differ from :meth:`decode`, the codec says.
        """


@dataclass(frozen=True)
class CodecKind:
    """A kind of codec, as ``codec`` in the ``config.json`` of its directory names it."""

    module: str
    """Its ``load(directory)`` gives a :class:`Codec`."""
    sample_rate: int
    speech_rate: int
    frame_rate: float
    """Codes a second."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """What only it needs to be installed, each with its version."""
    note: str = ""
    """Why these are installed with ``--no-deps``."""


TWO_STAGE = "two_stage"
"""The codec that is put together of others; see :mod:`jobs.codecs.two_stage`."""
SEMANTIC, VOCODER = "semantic", "vocoder"
"""Its folders with a codec."""

_KINDS = {
    "world": CodecKind("jobs.codecs.world", 16_000, 16_000, 25.0),
    "neucodec": CodecKind(
        "jobs.codecs.neucodec",
        16_000,
        24_000,
        50.0,
        NEUCODEC,
        "neucodec asks for torchtune, which does not import beside torchao 0.18, and for "
        "torchaudio, which does not import beside a torch for the CPU; it is run without both",
    ),
}
CODECS = Table("voxsweep.codecs", CodecKind, _KINDS)
"""By name. No weights and no network is loaded to ask for one."""


def codec_kind(directory: Path) -> CodecKind:
    """The kind of the codec in ``directory``.

    Raises:
        FileNotFoundError: there is no ``config.json``.
        ValueError: it names no codec that there is, or its plug-in cannot be used.
    """
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be JSON: {error}") from error
    name = config.get("codec") if isinstance(config, dict) else None
    if name == TWO_STAGE:
        semantic, vocoder = (codec_kind(directory / part) for part in (SEMANTIC, VOCODER))
        rates = semantic.sample_rate, vocoder.speech_rate, semantic.frame_rate
        return CodecKind("jobs.codecs.two_stage", *rates, {**semantic.packages, **vocoder.packages})
    if not isinstance(name, str) or name not in CODECS:
        known = ", ".join((*CODECS, TWO_STAGE))
        raise ValueError(f"{path}: codec must be one of {known}, got {name!r}")
    if problem := CODECS.problem(name):
        raise ValueError(f"{path}: {problem}")
    return CODECS[name]


def load_codec(directory: Path) -> Codec:
    """The codec in ``directory``.

    Raises:
        FileNotFoundError: a file is missing.
        ImportError: a package that this kind needs is missing, with the command that installs it.
        ValueError: the directory holds no codec, or a malformed one.
    """
    codec: Codec = import_module(codec_kind(directory).module).load(directory)
    return codec
