"""How recordings are prepared: loudness, sample rate, silence at the end; and the digests of it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.audio.files import RESAMPLER, resample
from jobs.data.clips import TargetClip
from jobs.data.prepared.keys import data_digest
from jobs.families.description import DataRules
from jobs.spec.data import DataSpec

_METER = "pyloudnorm"
_SHORTEST = 0.4
"""Seconds: one block of ITU-R BS.1770-4, without which there is no loudness."""
_CEILING = 10 ** (-1 / 20)
"""Largest sample after a gain, -1 dBFS: EBU R 128's limit, which leaves the resampler room."""

_SCHEMA = 1
"""Of the files that a dataset consists of; another one is another recipe."""
_HOW = {"dtype": "float32", "batching": "one clip at a time"}
"""How every base encodes, whatever precision its model has: an encoder in another precision, or a
neighbour in the batch, gives other codes."""


@dataclass(frozen=True)
class Preprocessing:
    """Loudness first, as recorded; then the resampler; then silence, in samples of the base."""

    rate: int
    """Hz, of what comes out."""
    trailing_silence: float
    """Seconds."""
    loudness: float | None
    """LUFS; None leaves it as it is."""

    @classmethod
    def of(cls, data: DataSpec, rules: DataRules, rate: int) -> "Preprocessing":
        """From ``data``, with the family's ``rules`` as defaults."""
        silence = data.trailing_silence
        filled = rules.trailing_silence if silence is None else silence
        return cls(rate, filled, data.loudness)

    def recipe(self) -> dict[str, Any]:
        """All that :meth:`apply` depends on besides the recording, for a cache's key."""
        meter = None if self.loudness is None else f"{_METER}-{version(_METER)}"
        return {**asdict(self), "resampler": RESAMPLER, "meter": meter}

    def apply(
        self, audio: NDArray[np.float32], rate: int
    ) -> tuple[NDArray[np.float32], float | None]:
        """A recording, shape (samples,) at ``rate`` Hz, as it is encoded; and its LUFS, if set.

        A gain that would bring a sample above -1 dBFS is cut to what does not: the loudness is then
        less than was asked for. Nothing is compressed or limited, which would change the voice.

        Raises:
            ValueError: a loudness is asked of a recording that has none.
        """
        reached = None
        if self.loudness is not None:
            audio, reached = _adjust_loudness(self.loudness, audio, rate)
        resampled = resample(audio, rate, self.rate)
        silence = np.zeros(round(self.trailing_silence * self.rate), dtype=np.float32)
        return np.concatenate([resampled, silence]), reached


def _adjust_loudness(
    loudness: float, audio: NDArray[np.float32], rate: int
) -> tuple[NDArray[np.float32], float]:
    if len(audio) < _SHORTEST * rate:
        raise ValueError(f"loudness is measured over {_SHORTEST} s, it has {len(audio) / rate:.3f}")
    import pyloudnorm  # and scipy.signal, longer than all else here: most datasets do without

    measured = float(pyloudnorm.Meter(rate).integrated_loudness(audio.astype(np.float64)))
    if not np.isfinite(measured):
        raise ValueError("loudness is measured over what is above -70 LUFS, and nothing is")
    wanted = 10 ** ((loudness - measured) / 20)
    gain = min(wanted, _CEILING / float(np.max(np.abs(audio))))
    return audio * np.float32(gain), measured + 20 * float(np.log10(gain))


if TYPE_CHECKING:
    from jobs.families.base import FrozenBase


@dataclass(frozen=True)
class Recipe:
    """How recordings become codes: the same for all clips of a dataset."""

    preprocessing: Preprocessing
    encoder: str
    """The base's ``encoder_digest``."""
    aligns: bool
    """Whether what comes out depends on the text."""

    @classmethod
    def of(cls, base: "FrozenBase", data: DataSpec) -> "Recipe":
        """As ``data`` asks for and ``base`` needs."""
        preprocessing = Preprocessing.of(data, base.rules, base.sample_rate)
        return cls(preprocessing, base.encoder_digest, base.aligns)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over options and versions."""
        steps = self.preprocessing.recipe()
        return _sha256([_SCHEMA, steps, self.encoder, self.aligns, _HOW])

    def clip_key(self, clip: TargetClip) -> str:
        """SHA-256 over all that the clip's codes and word starts follow from."""
        return _sha256([self.digest, clip.pcm, clip.row.text if self.aligns else None])

    def data_digest(
        self,
        clips: Sequence[TargetClip],
        references: Mapping[str | None, str],
        *,
        language_tag: bool,
    ) -> str:
        """Of a dataset: all that training on it depends on, the places of its files not among it.

        ``references`` are the digests of the recordings that speakers are conditioned on.
        """
        rows = [
            [
                self.clip_key(clip),
                clip.row.text,
                clip.row.split,
                clip.row.speaker,
                clip.row.language,
            ]
            for clip in clips
        ]
        speakers = sorted(references.items(), key=repr)
        return data_digest(self.digest, _sha256([rows, speakers, language_tag]))


def _sha256(parts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
