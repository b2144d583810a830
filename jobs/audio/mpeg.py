"""The frames of an MP3 file, counted, since its header need not know how many there are.

libsndfile decodes as many frames as a file's header claims (Xing, Info or VBRI), and without a
header as many as its size and first bit rate suggest. A stream that came through a pipe has no
header, and of several that were joined end to end the first one's header remains.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_RATES = (44_100, 48_000, 32_000)
"""Hz, of MPEG-1; MPEG-2 has half of it, MPEG-2.5 a quarter (ISO/IEC 11172-3, 13818-3)."""
_KBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Kilobits a second by version and layer, and then by the header's index, from 1 on."""
_64_KBITS = {1: 5, 2: 8}
"""The index of 64 kbit/s in layer III, by version: a frame that has room for a file's header."""
_SYNC = re.compile(rb"\xff(?=[\xe2-\xff][\x10-\xef])")
"""What a header begins with, no layer, free and forbidden bit rates left out."""
_HEADER = 4
"""Bytes of a frame's header."""
_SIDE_INFO = {(1, False): 32, (1, True): 17, (2, False): 17, (2, True): 9}
"""Bytes of layer III's side information, by version and whether it is mono."""
_MOST_JUNK = 2**16
"""Bytes before the first frame, tags not counted: a stream may begin within a frame."""
_RUN = 4
"""Frames in a row that cannot be chance."""
_DECODER_DELAY = 529
"""Samples by which a decoder of layer III is late; libsndfile takes them off under a header."""


class _Kind(NamedTuple):
    """What all frames of a stream have in common."""

    layer: int
    rate: int
    """Hz."""
    is_mono: bool

    @property
    def version(self) -> int:
        """1, or 2 for the lower rates, those of MPEG-2.5 among them."""
        return 1 if self.rate >= _RATES[2] else 2

    @property
    def samples(self) -> int:
        """Of a frame, a channel."""
        if self.layer == 1:
            return 384
        return 576 if (self.layer, self.version) == (3, 2) else 1152


@dataclass(frozen=True)
class MpegStream:
    """The sound of an MPEG file."""

    layer: int
    """3 is MP3."""
    rate: int
    """Hz."""
    samples: int
    """A channel, in all its frames."""
    claimed: int | None
    """Samples a channel by the file's header, where that is another number; None without one."""
    rebuilt: bytes | None
    """What libsndfile decodes to the end: a true header, a silent frame, and the file's frames.
    None where the file's own header is true, and for layers 1 and 2, which have none."""
    skipped: int = 0
    """Samples that ``rebuilt`` begins with, and the file does not: of the silent frame, which takes
    the cut for a decoder's delay that libsndfile makes, and of the encoder's delay."""
    kept: int = 0
    """Samples after them, without the encoder's padding."""


def read_mpeg(data: bytes) -> MpegStream | None:
    """Count the frames of an MPEG audio file; None where ``data`` is something else.

    Raises:
        ValueError: parts of the file have different rates or numbers of channels.
    """
    start = _skip_tags(data, 0)
    first, run = _find_frame(data, start, None), None
    if first - start <= _MOST_JUNK:
        run = _run_at(data, first)
    if run is None or (first > start and run[1] < _RUN):
        return None
    kind = run[0]
    frames = list(_frames(data, first, kind))
    size = frames[0][1]
    header = _read_header(data[first : first + size], kind)
    sound = frames[1:] if header else frames
    samples = len(sound) * kind.samples
    claimed = header.frames * kind.samples if header and header.frames else None
    if kind.layer != 3 or claimed == samples:
        return MpegStream(kind.layer, kind.rate, samples, None, None)
    silence = _silent_frame(data[first : first + _HEADER], kind)
    place = _HEADER + _SIDE_INFO[kind.version, kind.is_mono]
    title = b"Info" + (1).to_bytes(4, "big") + (len(sound) + 1).to_bytes(4, "big")
    true_header = silence[:place] + title + silence[place + len(title) :]
    frame_bytes = (data[place : place + length] for place, length in sound)
    delay, padding = header.trimmed if header else (0, 0)
    return MpegStream(
        kind.layer,
        kind.rate,
        samples,
        # Some encoders count the header's own frame.
        None if claimed in {None, samples + kind.samples} else claimed,
        b"".join((true_header, silence, *frame_bytes)),
        kind.samples - _DECODER_DELAY + delay,
        samples - delay - padding,
    )


class _Header(NamedTuple):
    """The frame before the sound that describes it."""

    frames: int | None
    trimmed: tuple[int, int]
    """Samples that do not belong to the sound, at its beginning and at its end."""


def _read_header(frame: bytes, kind: _Kind) -> _Header | None:
    """A Xing, Info or VBRI header; None where ``frame`` is sound."""
    if kind.layer != 3:
        return None
    if frame[36:40] == b"VBRI":  # always there, whatever the side information's size
        return _Header(int.from_bytes(frame[50:54], "big") or None, (0, 0))
    place = _HEADER + _SIDE_INFO[kind.version, kind.is_mono]
    if frame[place : place + 4] not in {b"Xing", b"Info"}:
        return None
    flags = frame[place + 7]
    frames = int.from_bytes(frame[place + 8 : place + 12], "big") if flags & 1 else 0
    end = place + 8 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2
    # LAME's extension: a name of nine bytes; delay and padding are two numbers of twelve bits.
    name, trimmed = frame[end : end + 9], int.from_bytes(frame[end + 21 : end + 24], "big")
    if not name.strip(b"\0"):
        return _Header(frames or None, (0, 0))
    delay, padding = trimmed >> 12, trimmed & 0xFFF
    return _Header(frames or None, (delay + _DECODER_DELAY, max(0, padding - _DECODER_DELAY)))


def _silent_frame(first: bytes, kind: _Kind) -> bytes:
    """A frame of 64 kbit/s without sound, of the kind of that with the header ``first``."""
    start = bytes((0xFF, first[1] | 1, _64_KBITS[kind.version] << 4 | first[2] & 0x0C, first[3]))
    size = _frame_size(start, kind)
    assert size is not None
    return start.ljust(size, b"\0")


def _frames(data: bytes, start: int, kind: _Kind) -> Iterator[tuple[int, int]]:
    """Place and size of every whole frame; what lies between them is passed over."""
    place = start
    while place < len(data):
        found = _frame_at(data, place)
        if found is None or found[0] != kind:
            after_tags = _skip_tags(data, place)
            place = after_tags if after_tags > place else _find_frame(data, place, kind)
            continue
        yield place, found[1]
        place += found[1]


def _find_frame(data: bytes, start: int, kind: _Kind | None) -> int:
    """The first place from ``start`` on where two frames follow each other, or one ends the data.

    Of ``kind``, where it is given. The size of the data without such a place.

    Raises:
        ValueError: frames of another kind follow each other where there should be ``kind``.
    """
    for found in _SYNC.finditer(data, start):
        place = found.start()
        run = _run_at(data, place)
        if run and (kind is None or run[0] == kind) and (run[1] >= 2 or run[2] == len(data)):
            return place
        if run and kind is not None and run[1] >= _RUN:
            raise ValueError(
                f"it is joined from parts that differ: {_shown(kind)}, but {_shown(run[0])} from "
                f"byte {place:,} on"
            )
    return len(data)


def _run_at(data: bytes, place: int) -> tuple[_Kind, int, int] | None:
    """The kind and number, ``_RUN`` at most, of the frames in a row at ``place``; and their end."""
    count, kind = 0, None
    while count < _RUN and (found := _frame_at(data, place)) and kind in {None, found[0]}:
        kind = found[0]
        count, place = count + 1, place + found[1]
    return (kind, count, place) if kind else None


def _frame_at(data: bytes, place: int) -> tuple[_Kind, int] | None:
    """Kind and size of the whole frame at ``place``; None where there is none."""
    header = data[place : place + _HEADER]
    if len(header) < _HEADER or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = (header[1] >> 3) & 3, 4 - ((header[1] >> 1) & 3)
    at = (header[2] >> 2) & 3
    # Version 1 and layer 4 do not exist; of rates there are three.
    if version == 1 or layer == 4 or at == 3:
        return None
    kind = _Kind(layer, _RATES[at] // {3: 1, 2: 2, 0: 4}[version], header[3] >> 6 == 3)
    size = _frame_size(header, kind)
    if size is None or place + size > len(data):
        return None
    return kind, size


def _frame_size(header: bytes, kind: _Kind) -> int | None:
    """Bytes of a frame; None for a bit rate that is none, or that only the encoder knows."""
    index, padding = header[2] >> 4, (header[2] >> 1) & 1
    if index in {0, 15}:
        return None
    bits = 1000 * _KBITS[kind.version, kind.layer][index - 1]
    if kind.layer == 1:
        return 4 * (12 * bits // kind.rate + padding)
    return kind.samples // 8 * bits // kind.rate + padding


def _skip_tags(data: bytes, place: int) -> int:
    """The place after the tags that begin at ``place``: ID3, its first version too, and APE."""
    while True:
        if data[place : place + 3] == b"ID3" and place + 10 <= len(data):
            # Seven bits of each byte; a flag tells of a footer (ID3v2.4, section 3.1).
            size = 0
            for byte in data[place + 6 : place + 10]:
                size = size << 7 | byte & 0x7F
            place += 10 + size + (10 if data[place + 5] & 0x10 else 0)
        elif data[place : place + 3] == b"TAG" and place + 128 <= len(data):
            place += 128
        elif data[place : place + 8] == b"APETAGEX" and place + 32 <= len(data):
            place += 32 + int.from_bytes(data[place + 12 : place + 16], "little")
        else:
            return min(place, len(data))


def _shown(kind: _Kind) -> str:
    return f"{kind.rate:,} Hz {'mono' if kind.is_mono else 'stereo'}"
