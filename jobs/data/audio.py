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


@dataclass(frozen=True)
class Recording:
    """What a file holds, mixed down to one channel."""

    samples: NDArray[np.float32]
    """In [-1, 1] or a little over, shape (samples,); finite."""
    rate: int
    """Hz."""
    channels: int
    """Before they were averaged."""


class AudioError(Exception):
    """A file is missing, or is not audio that can be used."""

    def __init__(self, rule: str, what: str, next_step: str) -> None:
        self.rule, self.what, self.next_step = rule, what, next_step
        super().__init__(rule, what, next_step)


def decode(location: str) -> Recording:
    """The whole of an audio file.

    Raises:
        AudioError: there is none, it is not audio, or its samples are not finite.
    """
    if not Path(location).is_file():
        what = f"audio must exist, but there is no {location}"
        raise AudioError("audio-missing", what, "Correct the path.")
    try:
        frames, rate = soundfile.read(location, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        what = f"audio must be readable, but {location} is not: {error}"
        raise AudioError("audio-unreadable", what, "Convert or drop it.") from None
    samples: NDArray[np.float32] = np.mean(frames, axis=1, dtype=np.float32)
    if not samples.size or not np.isfinite(samples).all():
        what = f"audio must have finite samples, but {location} has none or others"
        raise AudioError("audio-unreadable", what, "Convert or drop it.")
    return Recording(samples, rate, frames.shape[1])


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
