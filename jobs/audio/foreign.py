"""Recordings of formats that libsndfile cannot read: decoded once by ffmpeg, and kept as FLAC."""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cluster.storage.local_copies import cache_folder, filling

FOREIGN_SUFFIXES = frozenset({".aac", ".ac3", ".eac3", ".m4a", ".mka", ".mp4", ".webm", ".wma"})
"""What the names of such files end in; that they are goes by their content."""

_FOLDER = "audio"
_TIMEOUT = 900.0
"""Seconds: two hours of AAC take some ten on one CPU."""
_CHUNK = 2**20
"""Bytes."""


@dataclass(frozen=True)
class ForeignFormat:
    """A format that only ffmpeg reads."""

    name: str
    """In words."""
    demuxer: str
    """By ffmpeg's name. No other is tried: some would open further files."""


MPEG_BEFORE_3 = ForeignFormat("MPEG audio of layer I or II (MP2)", "mp3")
"""Of ffmpeg's demuxers, the one for all three layers."""
_AAC = ForeignFormat("AAC", "aac")
_FORMATS = (
    (4, b"ftyp", ForeignFormat("MP4 (m4a, AAC)", "mov")),
    (0, bytes.fromhex("3026b2758e66cf11"), ForeignFormat("Windows Media (WMA)", "asf")),
    (0, bytes.fromhex("1a45dfa3"), ForeignFormat("WebM or Matroska", "matroska")),
    *((0, bytes((0xFF, mark)), _AAC) for mark in (0xF0, 0xF1, 0xF8, 0xF9)),
)
"""Where in a file its mark stands, the mark, and the format."""
_AC3 = b"\x0b\x77"
_EAC3_VERSION = 10
"""Of the bit stream, from above which on AC-3 is E-AC-3 (ETSI TS 102 366, annex E)."""


def foreign_format(start: bytes) -> ForeignFormat | None:
    """The format of a file that begins with ``start``, 16 bytes, if only ffmpeg reads it."""
    for place, mark, known in _FORMATS:
        if start[place : place + len(mark)] == mark:
            return known
    if start[:2] == _AC3 and len(start) > 5:
        is_later = start[5] >> 3 > _EAC3_VERSION
        return ForeignFormat("E-AC-3", "eac3") if is_later else ForeignFormat("AC-3", "ac3")
    return None


def has_ffmpeg() -> bool:
    """Whether ffmpeg is installed here."""
    return shutil.which("ffmpeg") is not None


def ffmpeg_version() -> str | None:
    """That of the ffmpeg here, as it tells it; None where there is none that runs."""
    try:
        told = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.removeprefix("ffmpeg version ").partition(" ")[0]


def decode_foreign(file: BinaryIO, kind: ForeignFormat, max_seconds: float) -> Path:
    """The sound of ``file`` as FLAC in the cache, where it is decoded the first time.

    24 bits, all channels, at its own rate, ``max_seconds`` of it at most. The copy is named by the
    digest of the file's bytes, so a file that changes is decoded anew.

    Raises:
        ValueError: ffmpeg cannot decode it to its end; with ffmpeg's last line.
        OSError: the cache cannot be written.
    """
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    folder = cache_folder() / _FOLDER
    copy = folder / f"{digest.hexdigest()}.flac"
    if copy.is_file():
        return copy
    with filling(folder / "filling") as place:
        source, made = place / "source", place / "sound.flac"
        file.seek(0)
        with source.open("wb") as written:
            shutil.copyfileobj(file, written)
        _run_ffmpeg(source, kind.demuxer, made, max_seconds)
        made.replace(copy)
    return copy


def _run_ffmpeg(source: Path, demuxer: str, made: Path, max_seconds: float) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-xerror", "-protocol_whitelist", "file"]
    command += ["-f", demuxer, "-i", str(source), "-map", "0:a:0", "-t", str(max_seconds)]
    command += ["-c:a", "flac", "-sample_fmt", "s32", "-f", "flac", str(made)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"ffmpeg took more than {_TIMEOUT:.0f} s") from None
    except OSError as error:
        raise ValueError(f"ffmpeg cannot be run: {error}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").replace(str(source), "it").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it gave no reason")
        raise ValueError(f"ffmpeg: {last}")
