"""What listeners hear: clips that differ in nothing but the speech."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
import pyloudnorm
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from jobs.audio.files import resample

LOUDNESS = -23.0
"""LUFS that clips are brought to: EBU R 128."""
_CEILING = 10 ** (-1 / 20)
"""Largest sample, -1 dBFS: EBU R 128. All clips are as much quieter as the peakiest needs."""
_BLOCK = 0.4
"""Seconds: one block of ITU-R BS.1770-4, below which there is no loudness to measure."""
_ANCHOR = 3500.0
"""Hz: the cut-off of the low anchor of ITU-R BS.1534-3, section 5.1."""
_TONE, _BEEP, _GAP = 600.0, 0.25, 0.35
"""Hz, and seconds: slow enough to be counted."""

Sound = tuple[NDArray[np.float32], int]
"""Mono samples, shape (samples,), and their rate in Hz."""


def low_anchor(sound: Sound) -> Sound:
    """The same speech without what is above 3.5 kHz, which anybody hears who listens."""
    samples, rate = sound
    if rate <= 2 * _ANCHOR:
        return sound
    filtered = sosfiltfilt(butter(8, _ANCHOR, fs=rate, output="sos"), samples, padtype=None)
    return np.asarray(filtered, np.float32), rate


def beeps(count: int, rate: int) -> Sound:
    """So many tones, to be counted: a trap with a known answer in every language."""
    time = np.arange(round(_BEEP * rate)) / rate
    tone = np.sin(2 * np.pi * _TONE * time) * np.hanning(len(time))
    gap = np.zeros(round(_GAP * rate))
    return np.concatenate([gap, *[tone, gap] * count]).astype(np.float32), rate


def levelled(sounds: Iterable[Sound]) -> list[tuple[bytes, float]]:
    """Each sound as a WAV file of 16 bits, and its seconds.

    All have the same loudness, the highest of their rates, one channel, and a header that tells
    nothing. A sound in which nothing is to be heard stays as it is.
    """
    given = list(sounds)
    rate = max((rate for _, rate in given), default=0)
    same_rate = [resample(samples, of, rate) for samples, of in given]
    gains = [_gain(samples, rate) for samples in same_rate]
    peak = max((float(np.max(np.abs(s), initial=0) * g) for s, g in _pairs(same_rate, gains)))
    quieter = min(1.0, _CEILING / peak) if peak else 1.0
    return [
        (_wav(s * np.float32(g * quieter), rate), len(s) / rate)
        for s, g in _pairs(same_rate, gains)
    ]


def _pairs(
    sounds: Sequence[NDArray[np.float32]], gains: Sequence[float]
) -> Iterable[tuple[NDArray[np.float32], float]]:
    return zip(sounds, gains, strict=True)


def _gain(samples: NDArray[np.float32], rate: int) -> float:
    # Loudness is gated, so silence that fills up a block does not count.
    lacking = max(0, int(np.ceil(_BLOCK * rate)) - len(samples))
    padded = np.pad(samples.astype(np.float64), (0, lacking))
    measured = float(pyloudnorm.Meter(rate).integrated_loudness(padded))
    return 10 ** ((LOUDNESS - measured) / 20) if np.isfinite(measured) else 1.0


def _wav(samples: NDArray[np.float32], rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
