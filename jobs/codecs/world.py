"""The embedded codec: WORLD features, four 10 ms frames to a code, one codebook.

WORLD (Morise, Yokomori and Ozawa 2016) splits speech into a fundamental frequency (F0), a spectral
envelope and an aperiodicity. The last two are kept as mel-warped cepstra. A code is the nearest
centroid to four frames of weighted features; decoding synthesises the centroid.

Notation: t 10 ms frames, n codes (t = 4 n), d features of a frame, k codebook size.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

with warnings.catch_warnings():
    # pyworld 0.3.5 asks pkg_resources for its own version while it is imported.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    import pyworld

SAMPLE_RATE = 16_000  # Hz
FRAME_PERIOD_MS = 10.0
FRAMES_PER_CODE = 4
CEPSTRA = 32
FEATURES = CEPSTRA + 3  # cepstra, band aperiodicity in dB, log F0, voicing
SAMPLES_PER_CODE = int(SAMPLE_RATE * FRAME_PERIOD_MS / 1000) * FRAMES_PER_CODE
_FFT_SIZE = pyworld.get_cheaptrick_fft_size(SAMPLE_RATE)
UNSETTLED = 2 * SAMPLES_PER_CODE
"""Samples at the end of a synthesis that the next codes would change: half of the response to a
pulse, and the frame after the last, which WORLD extrapolates F0 to, are less."""
_LOG_F0, _VOICING = CEPSTRA + 1, CEPSTRA + 2
_SILENT_LOG_F0 = float(np.log(150.0))  # Hz; where nothing is voiced, F0 is inaudible


def analyse(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """WORLD features (t, d) of 16 kHz audio (samples,); log F0 runs on through unvoiced frames."""
    samples = audio.astype(np.float64)
    rough, times = pyworld.dio(samples, SAMPLE_RATE, frame_period=FRAME_PERIOD_MS)
    f0 = pyworld.stonemask(samples, rough, times, SAMPLE_RATE)
    envelope = pyworld.cheaptrick(samples, f0, times, SAMPLE_RATE)
    aperiodicity = pyworld.d4c(samples, f0, times, SAMPLE_RATE)
    cepstra = pyworld.code_spectral_envelope(envelope, SAMPLE_RATE, CEPSTRA)
    bands = pyworld.code_aperiodicity(aperiodicity, SAMPLE_RATE)
    voiced = f0 > 0
    columns = (cepstra, bands, _continuous_log_f0(f0, voiced), voiced)
    features: NDArray[np.float32] = np.column_stack(columns).astype(np.float32)
    return features


def synthesise(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """16 kHz audio (160 t,) of WORLD features (t, d)."""
    frames = features.astype(np.float64)
    f0 = np.where(frames[:, _VOICING] > 0.5, np.exp(frames[:, _LOG_F0]), 0.0)
    cepstra = np.ascontiguousarray(frames[:, :CEPSTRA])
    bands = np.ascontiguousarray(frames[:, CEPSTRA : CEPSTRA + 1])
    envelope = pyworld.decode_spectral_envelope(cepstra, SAMPLE_RATE, _FFT_SIZE)
    aperiodicity = pyworld.decode_aperiodicity(bands, SAMPLE_RATE, _FFT_SIZE)
    audio = pyworld.synthesize(f0, envelope, aperiodicity, SAMPLE_RATE, FRAME_PERIOD_MS)
    length = len(features) * SAMPLES_PER_CODE // FRAMES_PER_CODE
    clipped: NDArray[np.float32] = np.clip(audio[:length], -1.0, 1.0).astype(np.float32)
    return clipped


def stack(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Frames (t, d) as code-sized vectors (n, 4 d); up to three last frames are left over."""
    codes = len(features) // FRAMES_PER_CODE
    return features[: codes * FRAMES_PER_CODE].reshape(codes, -1)


@dataclass(frozen=True, eq=False)
class WorldCodec:
    """One codebook over WORLD features.

    `codebook` (k, 4 d) holds weighted, centred features; `mean` and `weight` (d,) undo that.
    `digest` is the SHA-256 of the files: two codecs of one digest give the same codes for the same
    audio. `frame_rate` is in codes a second. See :class:`jobs.codecs.codec.Codec`.
    """

    codebook: NDArray[np.float32]
    mean: NDArray[np.float32]
    weight: NDArray[np.float32]
    digest: str
    sample_rate: int = SAMPLE_RATE
    speech_rate: int = SAMPLE_RATE
    frame_rate: float = SAMPLE_RATE / SAMPLES_PER_CODE

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read `config.json` and `codec.safetensors`.

        Raises:
            ValueError: the directory holds a codec of another kind or shape.
        """
        described = (directory / "config.json").read_bytes()
        if (kind := json.loads(described).get("codec")) != "world":
            raise ValueError(f"codec must be 'world', got {kind!r} in {directory / 'config.json'}")
        weights = directory / "codec.safetensors"
        tensors = {key: value.astype(np.float32) for key, value in load_file(weights).items()}
        if tensors["codebook"].shape[1:] != (FRAMES_PER_CODE * FEATURES,):
            raise ValueError(
                f"codebook must be (k, {FRAMES_PER_CODE * FEATURES}), "
                f"got {tensors['codebook'].shape} in {weights}; rebuild the codec"
            )
        digest = hashlib.sha256(described + weights.read_bytes()).hexdigest()
        return cls(tensors["codebook"], tensors["mean"], tensors["weight"], digest)

    @property
    def codebook_size(self) -> int:
        """How many different codes there are."""
        return len(self.codebook)

    def centroids(self) -> NDArray[np.float32]:
        """The codebook: weighted features."""
        return self.codebook

    def encode(self, audio: NDArray[np.float32], rate: int) -> NDArray[np.int64]:
        """Codes (n,) of mono audio (samples,) at `rate` Hz.

        Raises:
            ValueError: `rate` is not `sample_rate` (nothing is resampled silently), the audio is
                not one-dimensional, or it is shorter than one code.
        """
        if rate != SAMPLE_RATE:
            raise ValueError(f"audio must be {SAMPLE_RATE} Hz, got {rate} Hz; resample it first")
        if audio.ndim != 1 or len(audio) < SAMPLES_PER_CODE:
            raise ValueError(
                f"audio must be (samples,) with at least {SAMPLES_PER_CODE}, got {audio.shape}"
            )
        return self.quantise(analyse(audio))

    def quantise(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """Nearest codes (n,) of WORLD features (t, d)."""
        vectors = stack((features - self.mean) * self.weight)
        distances = (self.codebook**2).sum(axis=1) - 2 * vectors @ self.codebook.T
        codes: NDArray[np.int64] = distances.argmin(axis=1).astype(np.int64)
        return codes

    def decode(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Mono audio (640 n,) at `sample_rate` of codes (n,).

        Raises:
            ValueError: a code is outside `0 .. codebook_size - 1`, or there is none.
        """
        if len(codes) == 0:
            raise ValueError("cannot decode an empty sequence of codes")
        if codes.min() < 0 or codes.max() >= self.codebook_size:
            raise ValueError(
                f"codes must be in 0..{self.codebook_size - 1}, got {codes.min()}..{codes.max()}"
            )
        frames = self.codebook[codes].reshape(-1, FEATURES)
        return synthesise(frames / self.weight + self.mean)

    def decode_stream(self, chunks: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.float32]]:
        """Pieces that together are what :meth:`decode` gives of all codes, to the last bit.

        The pulses and the noise of WORLD follow from all frames before them, so every piece is cut
        from the synthesis of all codes so far; of that, the last ``UNSETTLED`` samples wait for the
        codes that follow.
        """
        codes = np.zeros(0, dtype=np.int64)
        audio, done = np.zeros(0, dtype=np.float32), 0
        for chunk in chunks:
            codes = np.concatenate((codes, chunk))
            if len(codes):
                audio = self.decode(codes)
            if (settled := len(audio) - UNSETTLED) > done:
                yield audio[done:settled]
                done = settled
        if done < len(audio):
            yield audio[done:]


load = WorldCodec.load


def _continuous_log_f0(f0: NDArray[np.float64], voiced: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not voiced.any():
        return np.full(len(f0), _SILENT_LOG_F0)
    at = np.flatnonzero(voiced)
    return np.interp(np.arange(len(f0)), at, np.log(f0[at]))
