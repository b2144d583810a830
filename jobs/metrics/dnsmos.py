"""DNSMOS: Microsoft's predictors of perceived speech quality, run straight from their ONNX files.

The files come with the ``speechmos`` package (MIT). Its own code is not imported, and results equal
its ``dnsmos.run`` on the same 16 kHz audio. That scores a clip in overlapping windows, and a short
clip in windows over its copies, each from the beginning; here what windows share is computed once.
Sources: Reddy et al., "DNSMOS" (ICASSP 2021, P.808) and "DNSMOS P.835" (ICASSP 2022).

Notation: w windows, f frames of 10 ms, c cells of 40 ms.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.metrics.base import Metric
from jobs.metrics.models import fingerprint, library
from jobs.metrics.onnx import open_model, open_part
from jobs.metrics.signal import ACTIVE_LEVEL, RATE, VAD_VERSION, levelled

P808_FILE = "dnsmos_models/model_v8.onnx"
P835_FILE = "dnsmos_models/sig_bak_ovr.onnx"

WINDOW_SECONDS = 9.01
WINDOW = 144_160
"""Samples the models take: ``WINDOW_SECONDS`` at 16 kHz."""
HOP = 160
"""Samples from one frame of either model's spectrogram to the next."""
CELL = 4 * HOP
"""Samples from one column to the next of what the P.835 model's second pooling gives."""
CHUNK = 200
"""Cells computed at once, 8 s: memory does not grow with the clip."""
WORST, BEST = 1.0, 5.0
"""Ends of the opinion scale. DNSMOS's predictions are cut to it; PLCMOS's last layer keeps it."""

# Fitted by the authors from raw predictions to opinions, highest power first: `get_polyfit_val`
# of speechmos/dnsmos.py, and of DNSMOS/dnsmos_local.py in microsoft/DNS-Challenge.
_TO_OPINION = {
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovrl": (-0.06766283, 1.11546468, 0.04602535),
}
"""In the order of the P.835 model's outputs."""

# Values inside the P.835 network: its frames, samples 160 f to 160 f + 320 of a window; what its
# second pooling gives; its outputs.
_FRAMES = "mos_estimator_logpow/concat:0"
_MAP = "mos_estimator_logpow/max_pooling2d/MaxPool_1_conv0"
_OPINIONS = "Identity:0"
_EDGE = 2
"""Cells at either end of a piece that depend on its ending there: of the 3x3 convolutions, four
reach 4 frames before the first pooling and one a pair of frames after it, together 1.5 cells."""

P808_NAMES = ("dnsmos_p808",)
P835_NAMES = ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak")

_PREDICTED = {
    "dnsmos_p808": "overall quality as ITU-T P.808 listeners would rate it (DNSMOS P.808)",
    "dnsmos_ovrl": "overall quality (DNSMOS P.835 OVRL)",
    "dnsmos_sig": "quality of the speech itself (DNSMOS P.835 SIG)",
    "dnsmos_bak": "absence of background noise (DNSMOS P.835 BAK)",
}


@cache
def p808_metrics() -> tuple[Metric, ...]:
    """Metadata of :class:`Dnsmos808`; reads the model file once to identify it."""
    made_of = f"{fingerprint('speechmos', P808_FILE)} {library('librosa')}"
    return tuple(opinion_metric(name, f"3 {made_of}", _PREDICTED[name]) for name in P808_NAMES)


@cache
def p835_metrics() -> tuple[Metric, ...]:
    """Metadata of :class:`Dnsmos835`; reads the model file once to identify it."""
    made_of = fingerprint("speechmos", P835_FILE)
    return tuple(opinion_metric(name, f"3 {made_of}", _PREDICTED[name]) for name in P835_NAMES)


def opinion_metric(name: str, version: str, predicted: str, note: str = "") -> Metric:
    """A metric on the opinion scale; ``predicted`` says the opinion of what."""
    return Metric(
        name=name,
        unit="MOS",
        direction="higher",
        version=f"{version} level{ACTIVE_LEVEL:.0f} {VAD_VERSION}",
        low=WORST,
        high=BEST,
        description=f"predicted {predicted}, 1 to 5, at a fixed speech level{note}",
    )


@dataclass(frozen=True)
class Windows:
    """The windows that the models take of a clip of 16 kHz: pieces of the clip repeated for ever.

    As in ``DNSMOS.__call__`` of speechmos/dnsmos.py, a clip shorter than a window is doubled until
    it is not, and windows begin a second apart. The fraction after the last whole second is not
    scored, and rounding makes windows 7 to 23 one sample short, which drops them: of a clip of
    16 to 33 s the first 16 s are scored.
    """

    clip: NDArray[np.float32]
    """Shape (samples,)."""
    weights: Mapping[int, int]
    """First samples of the windows that differ, and how many windows are the same as each."""

    @classmethod
    def of(cls, clip: NDArray[np.float32]) -> Self:
        """Those of ``clip``, which must not be empty."""
        length = len(clip)
        while length < WINDOW:
            length *= 2
        starts = [
            second * RATE
            for second in range(max(1, length // RATE - 9))
            if int((second + WINDOW_SECONDS) * RATE) - second * RATE == WINDOW
        ]
        first: dict[int, int] = {}
        weights: dict[int, int] = {}
        for start in starts:
            same = first.setdefault(start % len(clip), start)
            weights[same] = weights.get(same, 0) + 1
        return cls(clip, weights)

    def piece(self, start: int, samples: int) -> NDArray[np.float32]:
        """``samples`` of the repeated clip from sample ``start`` on."""
        return np.take(self.clip, np.arange(start, start + samples), mode="wrap")

    def columns(self, step: int, width: int, margin: int) -> tuple[int, list[NDArray[np.intp]]]:
        """How many columns of ``step`` samples to compute, and which of them each window takes.

        A window has ``width``. Its ``margin`` outer ones at either end depend on where it ends, and
        are not among them; nor does any window take the ``margin`` outer ones of those computed.
        """
        period = math.lcm(len(self.clip), step) // step
        count = min(max(self.weights) // step + width, period + 2 * margin)
        inner = np.arange(width - 2 * margin)
        return count, [margin + (start // step + inner) % period for start in self.weights]

    def mean(self, opinions: NDArray[np.floating]) -> float:
        """Of one opinion (w,) for each window that differs; on the scale."""
        mean = np.average(opinions, weights=list(self.weights.values()))
        return float(np.clip(mean, WORST, BEST))


class Dnsmos808:
    """Overall quality after P.808, of the clip's log-mel spectrogram."""

    def __init__(self) -> None:
        import librosa.feature  # noqa: F401 (where it is missing, no clip can be scored)

        self.metrics: Sequence[Metric] = p808_metrics()
        self._model = open_model("speechmos", P808_FILE)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Mean opinion over the clip's windows. Raises MetricError when there is no speech."""
        windows = Windows.of(levelled(clip))
        raw = [self._model.run(None, {"input_1": mel[np.newaxis]})[0] for mel in log_mels(windows)]
        return {P808_NAMES[0]: windows.mean(np.concatenate(raw)[:, 0])}


class Dnsmos835:
    """Quality of speech, of background and overall, after P.835, of the waveform."""

    def __init__(self) -> None:
        self.metrics: Sequence[Metric] = p835_metrics()
        # The network is cut after its second pooling: before, where it spends its time, a column
        # depends on few frames around it, and a second is a whole number of columns.
        self._encoder = open_part("speechmos", P835_FILE, {_FRAMES: ("w", "f", 2 * HOP)}, [_MAP])
        self._head = open_part("speechmos", P835_FILE, {_MAP: ("w", 32, "c", 40)}, [_OPINIONS])

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Mean opinions over the clip's windows. Raises MetricError when there is no speech."""
        windows = Windows.of(levelled(clip))
        maps = (features[np.newaxis] for features in self._features(windows))
        raw = np.concatenate([self._head.run(None, {_MAP: each})[0] for each in maps])
        return {
            name: windows.mean(np.polyval(polynomial, raw[:, output]))
            for output, (name, polynomial) in enumerate(_TO_OPINION.items())
        }

    def _features(self, windows: Windows) -> Iterator[NDArray[np.float32]]:
        """The map (32, c, 40) of each window, as the network makes it of the window alone."""
        count, inner = windows.columns(CELL, width=WINDOW // CELL, margin=_EDGE)
        last = count - _EDGE
        shared = [np.zeros((32, _EDGE, 40), dtype=np.float32)]  # its place; no window takes it
        for first in range(_EDGE, last, CHUNK):
            cells = min(CHUNK, last - first) + 2 * _EDGE
            piece = windows.piece((first - _EDGE) * CELL, cells * CELL + HOP)
            shared.append(self._encode(piece[np.newaxis])[0, :, _EDGE:-_EDGE])
        between = np.concatenate(shared, axis=1)
        end = 2 * _EDGE * CELL + HOP
        for start, columns in zip(windows.weights, inner, strict=True):
            ends = [windows.piece(at, end) for at in (start, start + WINDOW - end)]
            left, right = self._encode(np.stack(ends))
            yield np.concatenate([left[:, :_EDGE], between[:, columns], right[:, -_EDGE:]], axis=1)

    def _encode(self, pieces: NDArray[np.float32]) -> NDArray[np.float32]:
        """The map (w, 32, c, 40) of ``pieces`` (w, c * CELL + HOP), each with nothing around it."""
        frames = np.lib.stride_tricks.sliding_window_view(pieces, 2 * HOP, axis=1)[:, ::HOP]
        features: NDArray[np.float32] = self._encoder.run(None, {_FRAMES: frames})[0]
        return features


def log_mels(windows: Windows) -> Iterator[NDArray[np.float32]]:
    """Inputs of the P.808 model, each of shape (900 frames, 120 mel bands): dB below the peak.

    Frame sizes and scaling are those of `audio_melspec` in speechmos/dnsmos.py, its odd
    321-point transform included: the model was trained on it.
    """
    import librosa

    def mel(audio: NDArray[np.float32]) -> NDArray[np.float32]:
        spectrogram = librosa.feature.melspectrogram(
            y=audio, sr=RATE, n_fft=2 * HOP + 1, hop_length=HOP, n_mels=120
        )
        power: NDArray[np.float32] = np.swapaxes(spectrogram, -1, -2)
        return power

    # Frames are centred, so that a window's first and last one reach beyond it, into silence.
    # Its last HOP samples are not used.
    count, inner = windows.columns(HOP, width=900, margin=1)
    shared = mel(windows.piece(0, count * HOP))
    first = mel(np.stack([windows.piece(start, 3 * HOP) for start in windows.weights]))[:, :1]
    tail = WINDOW - 4 * HOP
    last = mel(np.stack([windows.piece(s + tail, 3 * HOP) for s in windows.weights]))[:, -1:]
    for begins, columns, ends in zip(first, inner, last, strict=True):
        power = np.concatenate([begins, shared[columns], ends])
        decibels = librosa.power_to_db(power, ref=np.max)
        yield ((decibels + 40.0) / 40.0).astype(np.float32)
