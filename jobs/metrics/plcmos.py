"""PLCMOS: Microsoft's predictor of quality after packet loss, run from its ONNX file.

The file comes with the ``speechmos`` package (MIT), whose own code is not imported. It asks fifteen
raters drawn at random, afresh for each clip; here they are drawn from a fixed seed, and what does
not depend on them is computed once. With numpy's random state at that seed,
``speechmos.plcmos.run`` gives the same.
Source: Diener et al., "PLCMOS" (Interspeech 2023).
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.metrics.base import Metric, MetricError
from jobs.metrics.dnsmos import opinion_metric
from jobs.metrics.models import fingerprint
from jobs.metrics.onnx import open_part
from jobs.metrics.signal import RATE, levelled

PLCMOS_FILE = "plcmos_models/plcmos_v2.onnx"
PLCMOS_NAMES = ("plcmos",)
RATERS = 15
RATERS_SEED = 0

_WINDOW, _HOP = 512, 256
_FRAMES = 7
"""Fewer leave nothing: each of three 3x3 convolutions takes one away at either end."""
_SPECTRUM, _RATERS = "degraded_audio", "rater_embed"
_STATES = ("onnx::Concat_335", "onnx::Concat_337")
"""Inside the network: the last states of its recurrent layer, before a rater is asked."""
_STATE_SIZE = 32
_OPINIONS = "plcmos"


@cache
def plcmos_metrics() -> tuple[Metric, ...]:
    """Metadata of :class:`Plcmos`; reads the model file once to identify it."""
    made_of = f"{fingerprint('speechmos', PLCMOS_FILE)} raters{RATERS}-seed{RATERS_SEED}"
    predicted = "quality after packet loss (PLCMOS v2)"
    note = "; a flag for drop-outs and clipping, not monotonic in noise"
    return (opinion_metric(PLCMOS_NAMES[0], f"2 {made_of}", predicted, note),)


class Plcmos:
    """Drop-outs, clipping and concealment; white noise it likes, so it ranks nothing."""

    def __init__(self) -> None:
        self.metrics: Sequence[Metric] = plcmos_metrics()
        states = dict.fromkeys(_STATES, (RATERS, _STATE_SIZE))
        self._encoder = open_part("speechmos", PLCMOS_FILE, {_SPECTRUM: (1, 1, "f", 257)}, _STATES)
        self._head = open_part(
            "speechmos", PLCMOS_FILE, {**states, _RATERS: (RATERS, 64)}, [_OPINIONS]
        )
        raters = np.random.RandomState(RATERS_SEED).normal(size=(RATERS, 64))
        self._raters = raters.astype(np.float32)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Mean opinion of the raters. Raises MetricError when there is no speech."""
        return {PLCMOS_NAMES[0]: self.opinion(levelled(clip))}

    def opinion(self, audio: NDArray[np.float32]) -> float:
        """Of 16 kHz ``audio`` (samples,) at whatever level it has.

        Raises:
            MetricError: it is shorter than the network takes, 0.08 s.
        """
        spectrum = log_spectrum(audio)
        if len(spectrum) < _FRAMES:
            raise MetricError(
                f"{len(audio) / RATE:.2f} s of audio are too short: 0.08 s are needed"
            )
        states = self._encoder.run(_STATES, {_SPECTRUM: spectrum[np.newaxis, np.newaxis]})
        by_rater = {
            name: np.broadcast_to(state, (RATERS, _STATE_SIZE))
            for name, state in zip(_STATES, states, strict=True)
        }
        return float(np.mean(self._head.run(None, {**by_rater, _RATERS: self._raters})[0]))


def log_spectrum(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Input of the model, shape (frames, 257): twentieths of the natural log of the power.

    As `stft_transform` of speechmos/plcmos.py: a periodic Hamming window, half overlap, silence
    before and after; an exact zero counts as the clip's least power less 120 dB.
    """
    frames = -(-(len(audio) + _HOP) // _HOP)
    padded = np.zeros((frames + 1) * _HOP, dtype=audio.dtype)
    padded[_HOP : _HOP + len(audio)] = audio
    pieces = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(pieces * np.hamming(_WINDOW + 1)[:-1])) ** 2
    least = np.log(np.min(power, where=power > 0, initial=np.inf)) - 12 * np.log(10)
    logarithm = np.log(power, where=power > 0, out=np.full_like(power, least))
    spectrum: NDArray[np.float32] = (logarithm / 20).astype(np.float32)
    return spectrum
