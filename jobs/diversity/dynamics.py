"""The dynamics metric: the range of loudness within a clip's speech."""

import numpy as np
from numpy.typing import NDArray

from jobs.metrics.base import Metric, MetricError
from jobs.metrics.signal import FRAME, HALF_STEP, RATE, VAD_VERSION, speech_frames

WINDOW = 400
"""Samples: 25 ms at ``RATE``."""

DYNAMICS = Metric(
    name="dynamics",
    unit="dB",
    direction="neither",
    version=f"1 {VAD_VERSION}",
    low=0.0,
    high=96.4,  # from half a 16-bit step to full scale
    description="90th less 10th percentile of the log-energy of 25 ms windows of speech",
)


def dynamics(audio: NDArray[np.float32]) -> float:
    """P90 - P10 in dB of the energy of the windows around the speech frames of 16 kHz ``audio``.

    A window is centred on its 10 ms frame; those that would reach beyond the clip are left out.

    Raises:
        MetricError: there is no speech, or none with a whole window around it.
    """
    first = np.flatnonzero(speech_frames(audio)) * FRAME + (FRAME - WINDOW) // 2
    first = first[(first >= 0) & (first + WINDOW <= len(audio))]
    if not first.size:
        raise MetricError(f"no {WINDOW / RATE:g} s of audio around any speech")
    windows = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[first]
    power = np.mean(np.square(windows, dtype=np.float64), axis=1)
    low, high = np.percentile(10 * np.log10(np.maximum(power, HALF_STEP**2)), (10, 90))
    return float(high - low)
