"""Where the spectrum of a recording ends, which shows upsampling and MP3.

A spectrum that ends has an edge: a filled stretch, a steep fall, and then nothing but rounding up
to the Nyquist frequency. A voice without sibilants falls too, but less steeply, and goes on falling
afterwards, where rounding noise is flat.
"""

import math

import numpy as np
from numpy.typing import NDArray

_WINDOW_SECONDS = 0.032
_KAISER_BETA = 14.0
"""Side lobes under -100 dB, so that a loud low band does not leak into an empty high one."""
_MOST_WINDOWS = 1500
"""Spread over the clip; more say nothing new of a long one."""
_BAND = 125.0
"""Hz over which power is averaged."""
_FILLED = 1000.0
"""Hz under the edge that must hold signal: a pure tone's spectrum has no edge."""
_LOWEST = 1500.0
"""Hz. No recorder in use cuts lower."""
_GAP = 0.08
"""Width of the fall, as a share of the edge: the transition of a resampler's filter."""
_FALL = 30.0
"""dB. 84 clips of the shipped voice fall by 35 at least once they went from 8 to 16 or from 16 to
48 kHz at 16 bits, and by 22 at most as they are. Of 35 clips of seven synthetic voices as they are,
two of one voice, all vowels and nasals, fell by 30 and 34 and were taken for upsampled."""
_FLAT = 6.0
"""dB by which the loudest band of rounding noise may exceed the median one."""
_ROUNDING = -98.0
"""dB for each sample's variance: rounding to 16 bits makes -101, from 1/12 of a squared step."""
_HIGHEST = 0.8
"""Of the Nyquist frequency: above, an edge is that of a usual anti-aliasing filter."""


def spectral_edge(audio: NDArray[np.float32], rate: int) -> float | None:
    """Hz where the spectrum of ``audio``, shape (samples,), ends; None where it does not.

    Edges above 0.8 of the Nyquist frequency are not reported.
    """
    bands, width = _band_levels(audio, rate)
    best, edge = _FALL, None
    filled = round(_FILLED / width)
    for at in range(math.ceil(_LOWEST / width), int(_HIGHEST * len(bands)) + 1):
        above = bands[at + max(2, math.ceil(_GAP * at)) :]
        if len(above) < 4:
            break
        fall = float(np.median(bands[max(0, at - filled) : at]) - above.max())
        # Nothing but rounding may follow.
        if fall > best and above.max() <= max(_ROUNDING, float(np.median(above)) + _FLAT):
            best, edge = fall, at * width
    return edge


def _band_levels(audio: NDArray[np.float32], rate: int) -> tuple[NDArray[np.float64], float]:
    """Mean power in dB of each band from 0 Hz up, shape (bands,), and their width in Hz."""
    size = 1 << max(4, round(math.log2(rate * _WINDOW_SECONDS)))
    if len(audio) < size:
        audio = np.pad(audio, (0, size - len(audio)))
    count = min(_MOST_WINDOWS, 1 + (len(audio) - size) // (size // 2))
    starts = np.linspace(0, len(audio) - size, count).astype(int)
    window = np.kaiser(size, _KAISER_BETA)
    power = np.zeros(size // 2 + 1)
    for first in range(0, count, 100):  # so that a long clip takes little memory
        frames = audio[starts[first : first + 100, None] + np.arange(size)] * window
        power += np.square(np.abs(np.fft.rfft(frames, axis=1))).sum(axis=0)
    power /= count * np.square(window).sum()
    bins = max(1, round(_BAND * size / rate))
    whole = power[: len(power) - len(power) % bins].reshape(-1, bins).mean(axis=1)
    return 10.0 * np.log10(np.maximum(whole, 1e-20)), bins * rate / size
