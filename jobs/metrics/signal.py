"""Metrics of the waveform: voice activity, level, clipping and noise."""

import math
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.metadata import version

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from jobs.audio.files import RESAMPLER, resample
from jobs.clips import SpokenClip
from jobs.metrics.base import Metric, MetricError

RATE = 16_000
"""Hz. The rate at which speech is detected, and which the perceptual models take."""
FRAME = 160
"""Samples per voice-activity frame: 10 ms at ``RATE``."""
VAD_VERSION = f"{RESAMPLER} webrtcvad-{version('webrtcvad-wheels')}-mode3-10ms"
"""What decides which frames are speech: part of the version of every metric that uses them."""

ACTIVE_LEVEL = -26.0
"""dBFS. The active-speech level of ITU-T P.56 at which speech quality is customarily judged."""
PEAK_LIMIT = 0.99
SILENCE = -60.0
"""dBFS. Below this RMS a clip is silence: without a floor, amplified hiss would pass for speech."""
HALF_STEP = 2.0**-16
"""Half of the step between two 16-bit sample values."""
CLIPPED = 0.999
"""Absolute sample value from which a sample counts as clipped."""

_SPEECH_SHAPE = 0.4
_WADA_RANGE = (-20.0, 60.0)


# Every scorer of a clip begins with one of these three, so that the last clip's are kept. They are
# shared: nobody may write to them.


@lru_cache(maxsize=1)
def at_16k(clip: SpokenClip) -> NDArray[np.float32]:
    """The clip at ``RATE``, shape (samples,); resampling overshoot is cut back to [-1, 1]."""
    return np.clip(resample(clip.audio, clip.rate, RATE), -1.0, 1.0)


@lru_cache(maxsize=1)
def spoken_frames(clip: SpokenClip) -> NDArray[np.bool_]:
    """:func:`speech_frames` of the clip at ``RATE``. Raises MetricError when there are none."""
    return speech_frames(at_16k(clip))


@lru_cache(maxsize=1)
def levelled(clip: SpokenClip) -> NDArray[np.float32]:
    """:func:`normalise_level` of the clip at ``RATE``. Raises MetricError without speech."""
    return normalise_level(at_16k(clip))


def rms_dbfs(audio: NDArray[np.float32]) -> float:
    """Root mean square of all samples, of any shape, in dB relative to a full-scale square wave.

    -inf without any signal.
    """
    power = float(np.sum(np.square(audio, dtype=np.float64))) / max(audio.size, 1)
    return 10.0 * math.log10(power) if power > 0.0 else -math.inf


def speech_frames(audio: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which ``FRAME``-sample frames of ``audio`` at ``RATE`` hold speech, shape (frames,).

    The detector's thresholds are absolute, so it is given the clip at a fixed level:
    a quieter copy has the same frames.

    Raises:
        MetricError: the clip is silence, or no frame is speech.
    """
    loudness = rms_dbfs(audio)
    if not loudness >= SILENCE:  # so that NaN is refused too
        raise MetricError(f"silence: RMS {loudness:.1f} dBFS, speech has {SILENCE:.0f} or more")
    levelled = np.clip(audio * _gain(ACTIVE_LEVEL - loudness), -1.0, 1.0)
    pcm = np.round(levelled * 32767.0).astype("<i2")
    detector = webrtcvad.Vad(3)  # the strictest mode: breaths and hiss are not speech
    whole = pcm[: len(pcm) - len(pcm) % FRAME].reshape(-1, FRAME)
    voiced = np.array([detector.is_speech(frame.tobytes(), RATE) for frame in whole], dtype=bool)
    if not voiced.any():
        raise MetricError(f"no speech found in {len(audio) / RATE:.2f} s of audio")
    return voiced


def active_level(audio: NDArray[np.float32]) -> float:
    """Level in dBFS of the speech in ``audio`` at ``RATE``: the RMS over its speech frames.

    Raises:
        MetricError: there is no speech.
    """
    voiced = speech_frames(audio)
    return rms_dbfs(audio[: len(voiced) * FRAME].reshape(-1, FRAME)[voiced])


def normalise_level(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """``audio`` at ``RATE`` with its speech at ``ACTIVE_LEVEL``, or lower where it would clip.

    Models of perceived quality depend on level (0.6 MOS over 30 dB), and a variant must
    not win by being louder.

    Raises:
        MetricError: there is no speech.
    """
    gain = _gain(ACTIVE_LEVEL - active_level(audio))
    peak = float(np.max(np.abs(audio)))
    return (audio * min(gain, PEAK_LIMIT / peak)).astype(np.float32)


def wada_snr(audio: NDArray[np.float32]) -> float:
    """Signal-to-noise ratio in dB of ``audio`` at ``RATE``, from the shape of its amplitudes.

    WADA-SNR (Kim and Stern, Interspeech 2008): speech amplitudes follow a gamma distribution
    of shape 0.4 and noise a Gaussian, so ln E|x| - E ln|x| tells their ratio. Frames of digital
    silence belong to neither and are left out; elsewhere a zero, which has no logarithm, counts
    as half a 16-bit step. Clipped to [-20, 60] dB: above, the statistic measures the quantiser.

    Raises:
        MetricError: nothing is left but digital silence.
    """
    frames = np.abs(audio[: len(audio) - len(audio) % FRAME].reshape(-1, FRAME))
    sounding = frames[frames.max(axis=1) >= HALF_STEP].astype(np.float64)
    if not sounding.size:
        raise MetricError("silence: every frame is under half a 16-bit step")
    magnitude = np.maximum(sounding, HALF_STEP)
    statistic = math.log(magnitude.mean()) - float(np.log(magnitude).mean())
    snr, expected = _wada_table()
    return float(np.interp(statistic, expected, snr))


@cache
def _wada_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """SNRs in dB, and the statistic ln E|x| - E ln|x| the model expects at each (increasing).

    x = s + n, with n ~ N(0, 1) and |s| ~ gamma(0.4) scaled to the SNR. Given s = a:
    E|a + n| = a erf(a/sqrt 2) + sqrt(2/pi) exp(-a^2/2) (folded normal), and E ln|a + n| starts
    at -(gamma + ln 2)/2 for a = 0 and has derivative sqrt 2 * Dawson(a/sqrt 2).
    """
    from scipy import special  # 0.1 s to import, and only this metric needs it

    log_amplitude = np.linspace(-14.0, 14.0, 5601)
    amplitude = np.exp(log_amplitude)
    slope = amplitude * math.sqrt(2) * special.dawsn(amplitude / math.sqrt(2))
    steps = (slope[1:] + slope[:-1]) / 2 * np.diff(log_amplitude)
    log_given = np.concatenate([[0.0], np.cumsum(steps)]) - (np.euler_gamma + math.log(2)) / 2
    mean_given = amplitude * special.erf(amplitude / math.sqrt(2)) + math.sqrt(
        2 / math.pi
    ) * np.exp(-(amplitude**2) / 2)

    snr = np.arange(_WADA_RANGE[0], _WADA_RANGE[1] + 0.5, 0.5)
    # A gamma of shape k and scale b has power k(k+1)b^2; the noise has power 1.
    scales = np.sqrt(10 ** (snr / 10) / (_SPEECH_SHAPE * (_SPEECH_SHAPE + 1)))
    # E f(s) for s ~ gamma(0.4): with s = u^(1/k), the density s^(k-1) e^-s ds becomes e^-s du / k,
    # and the pole at 0 is gone. s goes up to 43, where e^-s is spent.
    nodes = np.arange(5e-4, 4.5, 1e-3) ** (1 / _SPEECH_SHAPE)
    weights = np.exp(-nodes) / np.exp(-nodes).sum()
    log_nodes = np.log(np.multiply.outer(scales, nodes))
    mean = np.interp(log_nodes, log_amplitude, mean_given) @ weights
    mean_log = np.interp(log_nodes, log_amplitude, log_given) @ weights
    return snr, np.log(mean) - mean_log


def _gain(decibels: float) -> float:
    return float(10.0 ** (decibels / 20.0))


LEVEL = Metric(
    name="level",
    unit="dBFS",
    direction="neither",
    version=f"2 {VAD_VERSION}",
    low=-120.0,
    high=0.0,
    description="RMS over the frames that are speech, as synthesised",
)
CLIPPING = Metric(
    name="clipping",
    unit="share",
    direction="lower",
    version="1",
    low=0.0,
    high=1.0,
    description=f"share of samples whose magnitude is {CLIPPED} or more",
)
WADA_SNR = Metric(
    name="wada_snr",
    unit="dB",
    direction="higher",
    version=f"2 {VAD_VERSION}",
    low=_WADA_RANGE[0],
    high=_WADA_RANGE[1],
    description="signal-to-noise ratio from the amplitude distribution (WADA-SNR)",
)


def level(clip: SpokenClip) -> float:
    """Active-speech level in dBFS of the clip as it came. Raises MetricError without speech."""
    return active_level(at_16k(clip))


def clipping(clip: SpokenClip) -> float:
    """Share of clipped samples, 0 to 1, of the clip as it came, before any resampling."""
    return float(np.mean(np.abs(clip.audio) >= CLIPPED))


class WadaSnr:
    """WADA-SNR between the first and the last speech frame, at a fixed level."""

    metrics = (WADA_SNR,)

    def __init__(self) -> None:
        _wada_table()  # without SciPy there is none, and no clip can be scored

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """dB. Raises MetricError when there is no speech."""
        audio = levelled(clip)
        first, last = np.flatnonzero(speech_frames(audio))[[0, -1]]
        return {WADA_SNR.name: wada_snr(audio[first * FRAME : (last + 1) * FRAME])}
