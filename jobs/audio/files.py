"""Audio files decoded, checked, resampled and written; sample rates are explicit."""

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from cluster.sources.reading import SourceError, is_plain, open_binary
from jobs.audio.containers import fill_in_size, find_damage
from jobs.audio.foreign import (
    MPEG_BEFORE_3,
    ForeignFormat,
    decode_foreign,
    foreign_format,
    has_ffmpeg,
)
from jobs.audio.mpeg import read_mpeg

MIN_RATE, MAX_RATE = 4_000, 384_000
"""Hz: below the narrowest telephone speech, above the fastest recorders."""
MAX_SECONDS = 7_200
"""Of a recording: what is longer was not cut into clips."""
MAX_BYTES = 2**30
"""Of a file: two hours of 16 bits at 48 kHz are 0.7 GB."""
FORMATS = frozenset({"AIFF", "FLAC", "MP3", "OGG", "WAV", "WAVEX"})
"""By libsndfile's names: the formats that can be checked for truncation."""

_MAX_FRAMES = MAX_SECONDS * 48_000
"""1.4 GB as mono floats."""
_BLOCK = 2**22
"""Samples of all channels that are decoded at a time."""
_CANCELLED = 1e-4
"""Of the channels' power: 40 dB below; independent channels lose 10 lg(channels), 30 dB of 1024."""
_SILENCE = 1e-6
"""Mean square, -60 dBFS: in what is quieter, nothing can cancel."""

_CONVERT = "Convert it to WAV or FLAC, or leave it out."
_RECORD_AGAIN = "Copy or export it again, or leave it out."

RESAMPLER = f"soxr-{soxr.__version__}-HQ"
"""What :func:`resample` is: part of every cache key and metric version that depends on it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Sound that was decoded to its end and found sane."""

    samples: NDArray[np.float32]
    """Mono, shape (samples,): the mean of the channels. Full scale is 1; floats may exceed it."""
    rate: int
    """Hz."""
    channels: int
    """Of the file."""
    claimed: int | None = None
    """Samples a channel that the file's header claims, where it has more."""


class AudioError(SourceError):
    """A file that is no usable recording, and the rule that it breaks."""


def decode(location: str) -> Recording:
    """The whole of a recording that somebody handed in; docs/data.md lists the rules.

    ``location`` is a path without links, or a URL under ``s3://``. Its kind goes by its content.
    What it claims to be is judged before it is decoded, so that a small file cannot take much
    memory.

    Raises:
        AudioError: it is missing, no sound, cut short, damaged, not finite, or out of bounds.
    """
    try:
        file = open_binary(location, MAX_BYTES)
    except SourceError as error:
        raise AudioError(f"audio-{error.rule}", f"audio {error.what}", error.next_step) from None
    with file:
        if not file.read(1):
            raise AudioError("audio-empty", "audio must have bytes, but has none", _RECORD_AGAIN)
        if damage := find_damage(file):
            raise AudioError("audio-truncated", f"audio must be whole: {damage}", _RECORD_AGAIN)
        file.seek(0)
        start = file.read(16)
        file.seek(0)
        if kind := foreign_format(start):
            return _decode_stream(_decoded_by_ffmpeg(file, kind))
        if start[:4] == b"RIFF":
            return _decode_stream(fill_in_size(file))
        if start[:4] in _WITH_TRUE_LENGTH:
            return _decode_stream(file)
        return _decode_mpeg(file)


_WITH_TRUE_LENGTH = frozenset({b"FORM", b"OggS", b"fLaC"})
"""How the files begin whose length libsndfile knows, once they are found whole."""


def _decode_stream(stream: BinaryIO) -> Recording:
    stream.seek(0)
    try:
        sound = soundfile.SoundFile(stream)
    except soundfile.LibsndfileError as error:
        raise _unreadable(error.error_string.rstrip(".")) from None
    with stream, sound:
        _check_claims(sound)
        return _decode_all(sound)


def _decode_mpeg(file: BinaryIO) -> Recording:
    """An MP3 file, whatever its header claims; or any other that libsndfile may know."""
    try:
        mpeg = read_mpeg(file.read())
    except ValueError as error:
        raise _unreadable(str(error)) from None
    if mpeg is not None and mpeg.layer != 3:
        # libsndfile would guess their length.
        return _decode_stream(_decoded_by_ffmpeg(file, MPEG_BEFORE_3))
    if mpeg is None or mpeg.rebuilt is None:
        return _decode_stream(file)
    if mpeg.claimed is not None and mpeg.claimed > mpeg.samples:
        there, claimed = mpeg.samples / mpeg.rate, mpeg.claimed / mpeg.rate
        what = f"audio must have the {claimed:.2f} s that it claims, but has {there:.2f} s"
        raise AudioError("audio-truncated", what, _RECORD_AGAIN)
    if mpeg.kept <= 0:
        raise _no_samples()
    recording = _decode_stream(io.BytesIO(mpeg.rebuilt))
    samples = recording.samples[mpeg.skipped : mpeg.skipped + mpeg.kept]
    return replace(recording, samples=samples, claimed=mpeg.claimed)


def _decoded_by_ffmpeg(file: BinaryIO, kind: ForeignFormat) -> BinaryIO:
    if not has_ffmpeg():
        what = f"{kind.name} is read through ffmpeg, which is not installed"
        advice = "Install it, or convert the files to WAV or FLAC elsewhere."
        raise AudioError("audio-unreadable", f"audio must be readable here: {what}", advice)
    try:
        return decode_foreign(file, kind, MAX_SECONDS + 1).open("rb")
    except (ValueError, OSError) as error:
        what = f"audio must be decoded to its end, but: {error}"
        raise AudioError("audio-unreadable", what, _CONVERT) from None


def pcm_digest(recording: Recording) -> str:
    """SHA-256 over the rate and the mono samples: the same for the same sound in whatever file."""
    digest = hashlib.sha256(recording.rate.to_bytes(8, "little"))
    digest.update(np.ascontiguousarray(recording.samples, dtype="<f4").data)
    return digest.hexdigest()


def read_audio(location: Path | str) -> tuple[NDArray[np.float32], int]:
    """Mono samples in [-1, 1], shape (samples,), and their rate in Hz, of a file that is trusted.

    Several channels are averaged.

    Raises:
        soundfile.SoundFileError: a local file is missing or is not audio.
        SourceError: an object of S3, or a table's cell, cannot be read.
    """
    name = str(location)
    file = name if is_plain(name) else open_binary(name, MAX_BYTES)
    frames, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return np.mean(frames, axis=1, dtype=np.float32), rate


def resample(audio: NDArray[np.float32], rate: int, to: int) -> NDArray[np.float32]:
    """``audio``, shape (samples,), from ``rate`` Hz to ``to`` Hz; itself when they are equal."""
    if rate == to:
        return audio
    resampled: NDArray[np.float32] = soxr.resample(audio, rate, to, quality="HQ")
    return resampled


def write_flac(
    path: Path, audio: NDArray[np.float32], rate: int, tags: Mapping[str, str] | None = None
) -> None:
    """Write mono ``audio``, shape (samples,), as 16-bit FLAC; ``path`` is never half written.

    ``tags`` are strings such as ``comment`` that the file tells of itself.

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
        write_sound(partial, audio, rate, "FLAC", tags or {})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_sound(
    file: Path | BinaryIO,
    audio: NDArray[np.float32],
    rate: int,
    kind: str,
    tags: Mapping[str, str],
) -> None:
    """Write mono ``audio`` in [-1, 1], shape (samples,), at ``rate`` Hz, with 16 bits.

    ``kind`` is ``FLAC`` or ``WAV``; ``tags`` have libsndfile's names, such as ``copyright``.

    Raises:
        OSError: it cannot be written.
    """
    try:
        with soundfile.SoundFile(
            file, "w", samplerate=rate, channels=1, format=kind, subtype="PCM_16"
        ) as sound:
            for name, value in tags.items():  # FLAC keeps only what comes before the samples
                setattr(sound, name, value)
            sound.write(audio)
    except soundfile.LibsndfileError as error:
        raise OSError(f"{file} cannot be written: {error.error_string}") from None


def _check_claims(sound: soundfile.SoundFile) -> None:
    """Check the header before anything is decoded."""
    if sound.format not in FORMATS:
        raise _unreadable(f"it is {sound.format_info}")
    if not MIN_RATE <= sound.samplerate <= MAX_RATE:
        what = f"audio must have {MIN_RATE:,} to {MAX_RATE:,} Hz, got {sound.samplerate:,}"
        raise AudioError("audio-rate", what, _CONVERT)
    if sound.frames <= 0:
        raise _no_samples()
    if sound.frames > min(MAX_SECONDS * sound.samplerate, _MAX_FRAMES):
        what = (
            f"audio must have at most {MAX_SECONDS:,} s and {_MAX_FRAMES:,} samples a channel, "
            f"but claims {sound.frames:,} at {sound.samplerate:,} Hz"
        )
        # A FLAC that was written to a pipe claims more than any file can have.
        raise AudioError("audio-too-long", what, "Cut it into clips; or convert it to WAV.")


def _decode_all(sound: soundfile.SoundFile) -> Recording:
    samples = np.empty(sound.frames, dtype=np.float32)
    done = 0
    power = kept = 0.0
    try:
        while len(block := sound.read(_BLOCK // sound.channels, "float32", always_2d=True)):
            if not np.isfinite(block).all():
                what = "audio must be finite, but has samples that are NaN or infinite"
                raise AudioError("audio-not-finite", what, _RECORD_AGAIN)
            mono: NDArray[np.float32] = np.mean(block, axis=1, dtype=np.float32)
            samples[done : done + len(mono)] = mono
            done += len(mono)
            power += float(np.mean(np.square(block, dtype=np.float64), axis=1).sum())
            kept += float(np.square(mono, dtype=np.float64).sum())
    except soundfile.LibsndfileError:
        raise _cut(sound, f"is damaged after {done:,}") from None
    if done < sound.frames:
        raise _cut(sound, f"ends after {done:,}")
    if power > _SILENCE * done and kept < _CANCELLED * power:
        what = f"audio must be heard in mono, but its {sound.channels} channels cancel each other"
        raise AudioError("audio-antiphase", what, "Keep one channel.")
    return Recording(samples, sound.samplerate, sound.channels)


def _no_samples() -> AudioError:
    return AudioError("audio-no-samples", "audio must have samples, but has none", _RECORD_AGAIN)


def _unreadable(reason: str) -> AudioError:
    what = f"audio must be WAV, FLAC, Ogg, MP3 or AIFF, but: {reason}"
    return AudioError("audio-unreadable", what, _CONVERT)


def _cut(sound: soundfile.SoundFile, how: str) -> AudioError:
    what = f"audio must have the {sound.frames:,} samples that it claims, but {how}"
    return AudioError("audio-truncated", what, _RECORD_AGAIN)
