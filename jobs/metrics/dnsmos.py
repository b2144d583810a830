"""DNSMOS: Microsoft's predictors of perceived speech quality, run straight from their ONNX files.

The files come with the ``speechmos`` package (MIT). Its own code is not imported: it runs one
window at a time on as many threads as it finds. Results equal its ``dnsmos.run`` on the same
16 kHz audio of at least one window, and are close to it on shorter audio. Sources: Reddy et al.,
"DNSMOS" (ICASSP 2021, P.808) and "DNSMOS P.835" (ICASSP 2022).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jobs.metrics.base import Metric, SpokenClip
from jobs.metrics.signal import ACTIVE_LEVEL, RATE, VAD_VERSION, at_16k, normalise_level
from jobs.metrics.weights import fingerprint, package_file

if TYPE_CHECKING:
    import onnxruntime

P808_FILE = "dnsmos_models/model_v8.onnx"
P835_FILE = "dnsmos_models/sig_bak_ovr.onnx"

WINDOW_SECONDS = 9.01
WINDOW = 144_160
"""Samples the models take: ``WINDOW_SECONDS`` at 16 kHz."""
WORST, BEST = 1.0, 5.0
"""Ends of the opinion scale; predictions are cut to it."""

# Fitted by the authors from raw predictions to opinions, highest power first: `get_polyfit_val`
# of speechmos/dnsmos.py, and of DNSMOS/dnsmos_local.py in microsoft/DNS-Challenge.
_TO_OPINION = {
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovrl": (-0.06766283, 1.11546468, 0.04602535),
}
"""In the order of the P.835 model's outputs."""

P808_NAMES = ("dnsmos_p808",)
P835_NAMES = ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak")

_HEARD = {
    "dnsmos_p808": "overall quality as ITU-T P.808 listeners would rate it (DNSMOS P.808)",
    "dnsmos_ovrl": "overall quality (DNSMOS P.835 OVRL)",
    "dnsmos_sig": "quality of the speech itself (DNSMOS P.835 SIG)",
    "dnsmos_bak": "absence of background noise (DNSMOS P.835 BAK)",
}


@cache
def p808_metrics() -> tuple[Metric, ...]:
    """Metadata of :class:`Dnsmos808`; reads the model file once to identify it."""
    made_of = f"{fingerprint('speechmos', P808_FILE)} librosa-{version('librosa')}"
    return tuple(_opinion(name, made_of) for name in P808_NAMES)


@cache
def p835_metrics() -> tuple[Metric, ...]:
    """Metadata of :class:`Dnsmos835`; reads the model file once to identify it."""
    made_of = fingerprint("speechmos", P835_FILE)
    return tuple(_opinion(name, made_of) for name in P835_NAMES)


def _opinion(name: str, made_of: str) -> Metric:
    return Metric(
        name=name,
        unit="MOS",
        direction="higher",
        version=f"1 {made_of} level{ACTIVE_LEVEL:.0f} {VAD_VERSION}",
        low=WORST,
        high=BEST,
        description=f"predicted {_HEARD[name]}, 1 to 5, at a fixed speech level",
    )


class Dnsmos808:
    """Overall quality after P.808; hears the clip's log-mel spectrogram, whatever its level."""

    def __init__(self) -> None:
        self.metrics: Sequence[Metric] = p808_metrics()
        self._session = _session(P808_FILE)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Mean opinion over the clip's windows. Raises MetricError when there is no speech."""
        heard = windows(normalise_level(at_16k(clip)))
        opinions = [_predict(self._session, log_mel(window)) for window in heard]
        return {P808_NAMES[0]: _on_scale(np.concatenate(opinions))}


class Dnsmos835:
    """Quality of speech, of background and overall, after P.835; hears the waveform."""

    def __init__(self) -> None:
        self.metrics: Sequence[Metric] = p835_metrics()
        self._session = _session(P835_FILE)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Mean opinions over the clip's windows. Raises MetricError when there is no speech."""
        heard = windows(normalise_level(at_16k(clip)))
        raw = np.stack([_predict(self._session, window) for window in heard])
        return {
            name: _on_scale(np.polyval(polynomial, raw[:, output]))
            for output, (name, polynomial) in enumerate(_TO_OPINION.items())
        }


def windows(audio: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The pieces of 16 kHz ``audio`` the models hear, each of shape (WINDOW,), a second apart.

    A clip shorter than a window is repeated until it fills one. speechmos doubles it instead and
    then averages up to seven windows over the copies, at seven times the cost: see docs/metrics.md
    for how little that changes. A longer clip is heard as speechmos does: the fraction after the
    last whole second is not heard, and rounding makes windows 7 to 23 one sample short, which
    drops them, so of a clip of 16 to 33 s the first 16 s are heard.
    """
    if len(audio) < WINDOW:
        return [np.resize(audio, WINDOW)]
    count = max(1, len(audio) // RATE - 9)
    pieces = [audio[i * RATE : int((i + WINDOW_SECONDS) * RATE)] for i in range(count)]
    return [piece for piece in pieces if len(piece) == WINDOW]


def log_mel(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Input of the P.808 model, shape (900 frames, 120 mel bands): dB below the window's peak.

    Frame sizes and scaling are those of `audio_melspec` in speechmos/dnsmos.py, its odd
    321-point transform included: the model was trained on it.
    """
    import librosa

    mel = librosa.feature.melspectrogram(
        y=window[:-160], sr=RATE, n_fft=321, hop_length=160, n_mels=120
    )
    decibels: NDArray[np.float32] = librosa.power_to_db(mel, ref=np.max)
    return ((decibels.T + 40.0) / 40.0).astype(np.float32)


def _session(name: str) -> "onnxruntime.InferenceSession":
    import onnxruntime  # here, so that metadata costs no inference runtime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        str(package_file("speechmos", name)), options, providers=["CPUExecutionProvider"]
    )


def _predict(
    session: "onnxruntime.InferenceSession", window: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Raw predictions, shape (outputs,). One window at a time: batches are no faster here."""
    predictions: NDArray[np.float32] = session.run(None, {"input_1": window[np.newaxis]})[0][0]
    return predictions


def _on_scale(opinions: NDArray[np.floating]) -> float:
    return float(np.clip(np.mean(opinions), WORST, BEST))
