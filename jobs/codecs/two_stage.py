"""A codec in two stages: semantic codes, which a language model writes, to acoustic ones, to sound.

    recording      -> semantic codec -> semantic codes (n,), which the language model learns
    semantic codes -> acoustic stage -> codes (m,) of the vocoder -> waveform

This is how TTS-Llama renders (arXiv 2410.20336): a language model writes what is said and how, an
acoustic model fills in the sound. The directory has ``config.json`` and three folders: ``semantic``
and ``vocoder`` hold a codec each, of which one encodes and the other decodes; ``acoustic`` holds
the stage that ``config.json`` names.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from cluster.plugins import Table
from jobs.codecs.codec import SEMANTIC, VOCODER, Codec, load_codec

_ACOUSTIC = "acoustic"


class AcousticStage(Protocol):
    """Semantic codes to codes of a vocoder. One stage is shipped; others come from plug-ins."""

    @property
    def digest(self) -> str:
        """SHA-256, hex: two stages of one digest render alike."""

    @property
    def semantic_codes(self) -> int:
        """How many different codes it reads."""

    @property
    def acoustic_codes(self) -> int:
        """How many different codes it writes."""

    def render(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Codes (m,) of the vocoder for semantic codes (n,), n > 0, all within its range.

        The same for the same codes: a stage that draws does so from a seed of its own.
        """

    def render_stream(self, chunks: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """The codes of semantic codes that come chunk by chunk, each piece once it is settled.

        Together they are what :meth:`render` gives of all; the stage says it where they are not.
        """


@dataclass(frozen=True)
class StageKind:
    """A kind of acoustic stage, as ``stage`` in the ``config.json`` of a codec names it."""

    module: str
    """Its ``load(directory)`` gives an :class:`AcousticStage`."""


STAGES = Table(
    "voxsweep.acoustic_stages", StageKind, {"table": StageKind("jobs.codecs.table_stage")}
)
"""By name. No weights are loaded to ask for one."""


@dataclass(frozen=True, eq=False)
class TwoStageCodec:
    """See :class:`jobs.codecs.codec.Codec`; ``frame_rate`` is that of semantic codes."""

    semantic: Codec
    acoustic: AcousticStage
    vocoder: Codec
    digest: str

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the three parts.

        Raises:
            FileNotFoundError: a file is missing.
            ImportError: a part needs a package that is not installed.
            ValueError: the stage is not known, or one part does not read what another writes.
            PluginError: the stage's plug-in cannot be used.
        """
        path = directory / "config.json"
        described = path.read_bytes()
        name = json.loads(described).get("stage")
        if name not in STAGES:
            raise ValueError(f"{path}: stage must be one of {', '.join(STAGES)}, got {name!r}")
        semantic, vocoder = (load_codec(directory / part) for part in (SEMANTIC, VOCODER))
        acoustic: AcousticStage = import_module(STAGES[name].module).load(directory / _ACOUSTIC)
        for what, found, of, wanted in (
            ("reads", acoustic.semantic_codes, SEMANTIC, semantic.codebook_size),
            ("writes", acoustic.acoustic_codes, VOCODER, vocoder.codebook_size),
        ):
            if found != wanted:
                raise ValueError(
                    f"{directory / _ACOUSTIC}: the stage {what} {found} different codes, but the "
                    f"codec in {directory / of} has {wanted}; put parts together that fit"
                )
        parts = " ".join((semantic.digest, acoustic.digest, vocoder.digest))
        return cls(semantic, acoustic, vocoder, hashlib.sha256(parts.encode()).hexdigest())

    @property
    def codebook_size(self) -> int:
        """How many different semantic codes there are."""
        return self.semantic.codebook_size

    @property
    def frame_rate(self) -> float:
        """Semantic codes a second."""
        return self.semantic.frame_rate

    @property
    def sample_rate(self) -> int:
        """Of what the semantic codec takes in, Hz."""
        return self.semantic.sample_rate

    @property
    def speech_rate(self) -> int:
        """Of what the vocoder gives back, Hz."""
        return self.vocoder.speech_rate

    def centroids(self) -> NDArray[np.float32]:
        """Those of the semantic codec."""
        return self.semantic.centroids()

    def encode(self, audio: NDArray[np.float32], rate: int) -> NDArray[np.int64]:
        """Semantic codes (n,); raises as :meth:`jobs.codecs.codec.Codec.encode`."""
        return self.semantic.encode(audio, rate)

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Both stages in turn; raises as :meth:`jobs.codecs.codec.Codec.decode`."""
        if len(codes) == 0:
            raise ValueError("cannot decode an empty sequence of codes")
        return self.vocoder.decode(self.acoustic.render(self._checked(codes)))

    def decode_stream(self, chunks: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.float32]]:
        """The vocoder's pieces of what the stage has settled; each says how its pieces differ."""
        return self.vocoder.decode_stream(self.acoustic.render_stream(map(self._checked, chunks)))

    def _checked(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(codes) and (codes.min() < 0 or codes.max() >= self.codebook_size):
            raise ValueError(
                f"codes must be in 0..{self.codebook_size - 1}, got {codes.min()}..{codes.max()}"
            )
        return codes


load = TwoStageCodec.load
