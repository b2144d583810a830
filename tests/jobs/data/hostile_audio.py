"""Hostile recordings."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.jobs.data.hostile_case import RATE, Case, file_case, tone

Spoil = Callable[[bytes], bytes]


def encode(
    sound: NDArray[np.float32], kind: str, subtype: str | None = None, rate: int = RATE
) -> bytes:
    held = io.BytesIO()
    soundfile.write(held, sound, rate, format=kind, subtype=subtype)
    return held.getvalue()


def put(
    name: str,
    rule: str | None,
    data: bytes,
    spoil: Spoil = lambda data: data,
    as_name: str = "bad.wav",
) -> Case:
    """``data``, spoilt, as a file."""
    return file_case(name, rule, lambda root: _write(root / as_name, spoil(data)), as_name)


def sparse(name: str, rule: str, header: bytes, size: int) -> Case:
    """A file of ``size`` bytes that takes no room: ``header`` and then zeros."""

    def build(root: Path) -> None:
        with (root / "bad.wav").open("wb") as file:
            file.write(header)
            file.truncate(size)

    return file_case(name, rule, build)


def cut(share: float) -> Spoil:
    return lambda data: data[: int(len(data) * share)]


def patch(offset: int, new: bytes) -> Spoil:
    return lambda data: data[:offset] + new + data[offset + len(new) :]


def after(mark: bytes, offset: int, new: bytes) -> Spoil:
    return lambda data: patch(data.index(mark) + offset, new)(data)


def claim_more(factor: float) -> Spoil:
    """A WAV whose header claims that many times its sound."""

    def spoil(data: bytes) -> bytes:
        place = data.index(b"data") + 4
        size = int.from_bytes(data[place : place + 4], "little")
        return patch(place, int(factor * size).to_bytes(4, "little"))(data)

    return spoil


def damage(data: bytes) -> bytes:
    """200 other bytes in the middle."""
    middle = len(data) // 2
    noise = np.random.default_rng(0).bytes(200)
    return data[:middle] + noise + data[middle + 200 :]


def endless_wav(size: int, rate: int) -> bytes:
    """A mono 8-bit WAV's header that claims the rest of ``size`` bytes."""
    header = encode(np.zeros(0, np.float32), "WAV", "PCM_U8", rate)
    header = header[: header.index(b"data") + 8]
    return header[:-4] + (size - len(header)).to_bytes(4, "little")


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _spoilt(index: int, value: float) -> NDArray[np.float32]:
    sound = tone()
    sound[index] = value
    return sound


WAV = encode(tone(), "WAV", "PCM_16")
FLAC = encode(tone(4), "FLAC")
VORBIS = encode(tone(4), "OGG", "VORBIS")
OPUS = encode(tone(4), "OGG", "OPUS")
MP3 = encode(tone(4), "MP3")
NOTHING = np.zeros(0, np.float32)
RANDOM = np.random.default_rng(1).bytes(4000)

CASES = [
    put("zero-length file", "audio-empty", b""),
    put("no samples", "audio-no-samples", encode(NOTHING, "WAV")),
    put("cut wav", "audio-truncated", WAV, cut(0.5)),
    put("wav that lacks one byte", "audio-truncated", WAV, lambda data: data[:-1]),
    put("wav cut in its header", "audio-truncated", WAV, lambda data: data[:30]),
    put("wav that claims 4 GB", "audio-truncated", WAV, after(b"data", 4, b"\xfe\xff\xff\xff")),
    put("cut aiff", "audio-truncated", encode(tone(), "AIFF"), cut(0.5), "bad.aiff"),
    put("cut flac", "audio-truncated", FLAC, cut(0.5), "bad.flac"),
    put("damaged flac", "audio-truncated", FLAC, damage, "bad.flac"),
    put("cut vorbis", "audio-truncated", VORBIS, cut(0.7), "bad.ogg"),
    put("damaged vorbis", "audio-truncated", VORBIS, damage, "bad.ogg"),
    put("cut opus", "audio-truncated", OPUS, cut(0.5), "bad.opus"),
    put("damaged opus", "audio-truncated", OPUS, damage, "bad.opus"),
    put(
        "opus without its last page",
        "audio-truncated",
        OPUS,
        lambda data: data[: data.rindex(b"OggS")],
        "bad.opus",
    ),
    put("cut mp3", "audio-truncated", MP3, cut(0.5), "bad.mp3"),
    put("nan", "audio-not-finite", encode(_spoilt(100, np.nan), "WAV", "FLOAT")),
    put("infinity", "audio-not-finite", encode(_spoilt(100, np.inf), "WAV", "FLOAT")),
    put(
        "infinities that cancel",
        "audio-not-finite",
        encode(np.stack([_spoilt(9, np.inf), _spoilt(9, -np.inf)], axis=1), "WAV", "FLOAT"),
    ),
    put("1 Hz", "audio-rate", WAV, after(b"fmt ", 12, (1).to_bytes(4, "little"))),
    put("1 MHz", "audio-rate", WAV, after(b"fmt ", 12, (10**6).to_bytes(4, "little"))),
    put("0 Hz", "audio-unreadable", WAV, after(b"fmt ", 12, bytes(4))),
    put("65535 channels", "audio-unreadable", WAV, after(b"fmt ", 10, b"\xff\xff")),
    put("text as wav", "audio-unreadable", b"This is no sound.\n" * 99),
    put("web page as mp3", "audio-unreadable", b"<!doctype html>" * 99, as_name="bad.mp3"),
    put("random bytes", "audio-unreadable", RANDOM),
    put("samples without a header", "audio-unreadable", tone().tobytes(), as_name="bad.raw"),
    put("a video's beginning", "audio-unreadable", b"RIFF\xff\0\0\0AVI LIST" + RANDOM),
    put("aac", "audio-unreadable", b"\0\0\0\x20ftypM4A " + RANDOM, as_name="bad.m4a"),
    put(
        "a format that may be cut unseen", "audio-unreadable", encode(tone(), "AU"), as_name="a.au"
    ),
    put(
        "flac that claims 33 days",
        "audio-too-long",
        FLAC,
        lambda data: patch(21, bytes([data[21] | 0x0F]) + b"\xff" * 4)(data),
        "bad.flac",
    ),
    put(
        "flac of unknown length",
        "audio-too-long",
        FLAC,
        lambda data: patch(21, bytes([data[21] & 0xF0]) + bytes(4))(data),
        "bad.flac",
    ),
    sparse("three hours", "audio-too-long", endless_wav(3 * 3600 * 8000, 8000), 3 * 3600 * 8000),
    sparse("2 GB", "audio-too-large", endless_wav(2**31, 384_000), 2**31),
    put(
        "channels that cancel",
        "audio-antiphase",
        encode(np.stack([tone(), -tone()], axis=1), "WAV", "FLOAT"),
    ),
    put(
        "8 channels at 96 kHz",
        None,
        encode(np.stack([tone(rate=96_000)] * 8, axis=1), "WAV", "PCM_24", 96_000),
    ),
    put("flac named wav", None, FLAC),
    put("wav named mp3", None, WAV, as_name="bad.mp3"),
    put("mp3 without a suffix", None, MP3, as_name="bad"),
    *(
        put(f"wav from a pipe, {size:#x}", None, WAV, after(b"data", 4, size.to_bytes(4, "little")))
        for size in (0, 2_000_000_000, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFF - 36)
    ),
    put("wav that claims twice its size", "audio-truncated", WAV, claim_more(2.0)),
    put("wav that claims 1.9 GB", "audio-truncated", WAV, after(b"data", 4, b"\0\0\0\x71")),
    put(
        "a size of 0, and chunks without sound behind it",
        "audio-no-samples",
        encode(NOTHING, "WAV"),
        lambda data: data + b"LIST\x04\0\0\0INFO",
    ),
    *(
        put(f"{name} joined end to end", "audio-truncated", data, lambda data: data + data, name)
        for name, data in (
            ("a.wav", WAV),
            ("a.aiff", encode(tone(), "AIFF")),
            ("a.flac", FLAC),
            ("a.ogg", VORBIS),
            ("a.opus", OPUS),
        )
    ),
    put("m4a", "audio-unreadable", b"\0\0\0\x20ftypM4A " + bytes(99), as_name="a.m4a"),
    put("ac3", "audio-unreadable", b"\x0b\x77" + bytes(99), as_name="a.ac3"),
    put("mp3 without a header", None, MP3, lambda data: data[data.index(data[:2], 4) :], "a.mp3"),
]
