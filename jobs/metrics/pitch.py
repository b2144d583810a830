"""Metrics of pitch: fundamental frequency (F0) over the frames that are speech.

F0 is tracked by DIO and refined by StoneMask (Morise et al., of the WORLD vocoder) in pyworld.
"""

import warnings
from collections.abc import Mapping
from importlib.metadata import version
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.metrics.base import Metric, MetricError
from jobs.metrics.signal import FRAME, RATE, VAD_VERSION, at_16k, spoken_frames

LOWEST, HIGHEST = 71.0, 800.0
"""Hz. Where DIO looks, which are pyworld's own defaults."""
_REFINED = 0.2
"""StoneMask moves an F0 by at most this share, and otherwise leaves it."""
_LEAST, _MOST = LOWEST * (1 - _REFINED), HIGHEST * (1 + _REFINED)

_VERSION = f"1 pyworld-{version('pyworld')}-dio-stonemask-10ms {VAD_VERSION}"

F0_MEAN = Metric(
    name="f0_mean",
    unit="Hz",
    direction="neither",
    version=_VERSION,
    low=_LEAST,
    high=_MOST,
    description="mean fundamental frequency of the voiced speech frames",
)
F0_SD = Metric(
    name="f0_sd",
    unit="semitones",
    direction="neither",
    version=_VERSION,
    low=0.0,
    # A standard deviation is at most half of the range.
    high=float(6 * np.log2(_MOST / _LEAST)),
    description="standard deviation of the fundamental frequency of the voiced speech frames",
)
VOICED_FRACTION = Metric(
    name="voiced_fraction",
    unit="share",
    direction="neither",
    version=_VERSION,
    low=0.0,
    high=1.0,
    description="share of the speech frames in which a fundamental frequency is found",
)


class Pitch:
    """How high the voice is, how much it moves, and how much of the speech is voiced."""

    metrics = (F0_MEAN, F0_SD, VOICED_FRACTION)

    def __init__(self) -> None:
        _pyworld()  # where it is missing, no clip can be scored

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Hz, semitones and share. Raises MetricError without speech, or without a voice in it."""
        audio = at_16k(clip)
        speech = spoken_frames(clip)
        spoken = f0(audio)[: len(speech)][speech]
        voiced = spoken[spoken > 0]
        if not voiced.size:
            raise MetricError(
                f"no fundamental frequency found in {len(spoken) * FRAME / RATE:.2f} s of speech"
            )
        return {
            F0_MEAN.name: float(np.mean(voiced)),
            F0_SD.name: float(12 * np.std(np.log2(voiced))),
            VOICED_FRACTION.name: len(voiced) / len(spoken),
        }


def f0(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """F0 in Hz every 10 ms of 16 kHz ``audio`` (samples,), 0 where unvoiced.

    Shape (frames,), one more than there are whole frames of audio.
    """
    pyworld = _pyworld()
    samples = audio.astype(np.float64)
    rough, times = pyworld.dio(
        samples, RATE, f0_floor=LOWEST, f0_ceil=HIGHEST, frame_period=1e3 * FRAME / RATE
    )
    refined: NDArray[np.float64] = pyworld.stonemask(samples, rough, times, RATE)
    return refined


def _pyworld() -> ModuleType:
    with warnings.catch_warnings():
        # pyworld 0.3.5 asks pkg_resources for its own version while it is imported.
        warnings.filterwarnings(
            "ignore", message="pkg_resources is deprecated", category=UserWarning
        )
        import pyworld
    module: ModuleType = pyworld
    return module
