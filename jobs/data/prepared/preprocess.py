"""What is done to a recording before it is encoded: loudness, sample rate, silence at its end."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.audio.files import RESAMPLER, resample
from jobs.families.description import DataRules
from jobs.spec.data import DataSpec

_METER = "pyloudnorm"
_SHORTEST = 0.4
"""Seconds: one block of ITU-R BS.1770-4, without which there is no loudness."""
_CEILING = 10 ** (-1 / 20)
"""Largest sample after a gain, -1 dBFS: EBU R 128's limit, which leaves the resampler room."""


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
        """What ``data`` asks for, with its family's ``rules`` where it does not say."""
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
            audio, reached = _brought_to(self.loudness, audio, rate)
        resampled = resample(audio, rate, self.rate)
        silence = np.zeros(round(self.trailing_silence * self.rate), dtype=np.float32)
        return np.concatenate([resampled, silence]), reached


def _brought_to(
    loudness: float, audio: NDArray[np.float32], rate: int
) -> tuple[NDArray[np.float32], float]:
    if len(audio) < _SHORTEST * rate:
        raise ValueError(f"loudness is measured over {_SHORTEST} s, it has {len(audio) / rate:.3f}")
    import pyloudnorm  # and scipy.signal, longer than all else here: most data sets do without

    measured = float(pyloudnorm.Meter(rate).integrated_loudness(audio.astype(np.float64)))
    if not np.isfinite(measured):
        raise ValueError("loudness is measured over what is above -70 LUFS, and nothing is")
    wanted = 10 ** ((loudness - measured) / 20)
    gain = min(wanted, _CEILING / float(np.max(np.abs(audio))))
    return audio * np.float32(gain), measured + 20 * float(np.log10(gain))
