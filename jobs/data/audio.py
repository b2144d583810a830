"""Audio in and out of files, and from one sample rate to another: always told, never assumed."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RESAMPLER = f"soxr-{soxr.__version__}-HQ"
"""What :func:`resample` is: part of every cache key and metric version that depends on it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Sound that was decoded to its end."""

    samples: NDArray[np.float32]
    """Mono, shape (samples,): the mean of the channels."""
    rate: int
    """Hz."""
    channels: int
    """Of the file."""


class AudioError(Exception):
    """A file that is no usable recording, and the rule that it breaks."""

    def __init__(self, rule: str, what: str, next_step: str) -> None:
        super().__init__(rule, what, next_step)
        self.rule = rule
        self.what = what
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what}. {self.next_step}"


def decode(location: str) -> Recording:
    """The whole of a recording.

    Raises:
        AudioError: it is missing or is not audio.
    """
    try:
        samples, rate = read_audio(location)
    except soundfile.SoundFileError as error:
        what = f"audio must be readable, but {location} is not: {error}"
        raise AudioError("audio-unreadable", what, "Correct the path, or convert it.") from None
    return Recording(samples, rate, soundfile.info(location).channels)


def pcm_digest(recording: Recording) -> str:
    """SHA-256 over the rate and the mono samples: the same for the same sound in whatever file."""
    digest = hashlib.sha256(recording.rate.to_bytes(8, "little"))
    digest.update(np.ascontiguousarray(recording.samples, dtype="<f4").data)
    return digest.hexdigest()


def read_audio(path: Path | str) -> tuple[NDArray[np.float32], int]:
    """Mono samples in [-1, 1], shape (samples,), and their rate in Hz.

    Several channels are averaged.

    Raises:
        soundfile.SoundFileError: the file is missing or is not audio.
    """
    frames, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.mean(frames, axis=1, dtype=np.float32), rate


def resample(audio: NDArray[np.float32], rate: int, to: int) -> NDArray[np.float32]:
    """``audio``, shape (samples,), from ``rate`` Hz to ``to`` Hz; itself when they are equal."""
    if rate == to:
        return audio
    resampled: NDArray[np.float32] = soxr.resample(audio, rate, to, quality="HQ")
    return resampled


def write_flac(path: Path, audio: NDArray[np.float32], rate: int) -> None:
    """Write mono ``audio``, shape (samples,), as 16-bit FLAC; ``path`` is never half written.

    Raises:
        ValueError: samples outside [-1, 1] or not finite, which FLAC would silently clip.
    """
    if audio.size and not np.max(np.abs(audio)) <= 1.0:
        raise ValueError(
            f"audio for {path} must lie in [-1, 1], its peak is {np.max(np.abs(audio))}; "
            "scale it or drop the clip"
        )
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        soundfile.write(partial, audio, rate, format="FLAC", subtype="PCM_16")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
