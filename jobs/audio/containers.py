"""Audio files of which libsndfile reads a part without an error.

Of a WAV or AIFF file whose sound is longer by its header than the file is, libsndfile reads what is
there and says nothing; of an Ogg file it takes the last page that is there for the end. Of files
joined end to end it reads the first.
"""

import io
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Literal

_UNKNOWN = 0xFFFFFFFF
"""What ffmpeg writes as the size of a WAV's sound when it writes to a pipe."""
_PLACEHOLDERS = frozenset(
    claimed - header
    # espeak-ng and sox; ElevenLabs; pocket-tts (10^9 samples of two bytes); ffmpeg.
    for claimed in (0x7FFFF000, 0x7FFFFFFF, 2_000_000_000, _UNKNOWN)
    # Where the number is the whole file's, the sound's is without the header or two.
    for header in (0, 36, 44)
) | {0}
"""What is written as the size of a WAV's sound by who does not know it yet; 0 by most."""

_MAX_CHUNKS = 10_000
"""Before the sound, or behind it; recorders write some ten."""
_PAGE_HEADER = 27
"""Bytes of an Ogg page before its table of segments (RFC 3533, section 6)."""
_BEGINNING, _END_OF_STREAM = 0x02, 0x04
_FLAC = b"fLaC\x00\x00\x00\x22"
"""A FLAC file's first bytes, its own description of 34 bytes after them (RFC 9639, section 8)."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def find_damage(file: BinaryIO) -> str | None:
    """Why a file is not whole; None where it is, or is of a kind that libsndfile checks.

    A WAV file with a placeholder for the size of its sound has sound to its end.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        return _find_missing_sound(file, size, b"data", "little")
    if start[:4] == b"FORM" and start[8:] in {b"AIFF", b"AIFC"}:
        return _find_missing_sound(file, size, b"SSND", "big")
    if start[:4] == b"OggS":
        return _find_bad_page(file, size)
    if start[:4] == b"fLaC":
        file.seek(0)
        second = file.read().find(_FLAC, len(_FLAC))
        return f"another FLAC file is joined to it at byte {second:,}" if second > 0 else None
    return None


def fill_in_size(file: BinaryIO) -> BinaryIO:
    """A WAV file whose sound has size 0, with the size that it has; any other file as it is.

    libsndfile takes 0 at its word, and reads to the end for every other placeholder.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        return file
    place, claimed = _find_sound(file, b"data", "little")
    if place is None or claimed or _are_chunks(file, place + 8, size):
        return file
    file.seek(0)
    data = bytearray(file.read())
    data[place + 4 : place + 8] = _UNKNOWN.to_bytes(4, "little")
    return io.BytesIO(data)


def _find_missing_sound(
    file: BinaryIO, size: int, name: bytes, order: Literal["little", "big"]
) -> str | None:
    """Whether a RIFF or IFF file has the sound that it claims, and no second file behind it."""
    place, claimed = _find_sound(file, name, order)
    if place is None:
        return "it ends before its sound begins"
    present = size - place - 8
    if order == "little" and claimed in _PLACEHOLDERS:
        return None
    if claimed > present:
        return f"its sound claims {claimed:,} bytes, but {present:,} are there"
    file.seek(0)
    again, after = file.read(4), place + 8 + claimed + claimed % 2
    for place, header in _chunks(file, after, order):
        if header[:4] == again:
            return f"its header claims {claimed:,} bytes of sound, but at {place:,} a file follows"
    return None


def _find_sound(
    file: BinaryIO, name: bytes, order: Literal["little", "big"]
) -> tuple[int | None, int]:
    """Place of the chunk that holds the sound, None without one, and the bytes that it claims."""
    for place, header in _chunks(file, 12, order):
        if header[:4] == name:
            return place, int.from_bytes(header[4:], order)
    return None, 0


def _chunks(
    file: BinaryIO, place: int, order: Literal["little", "big"]
) -> Iterator[tuple[int, bytes]]:
    """Place and header of each chunk of a RIFF or IFF file from ``place`` on."""
    for _ in range(_MAX_CHUNKS):
        file.seek(place)
        header = file.read(8)
        if len(header) < 8:
            return
        yield place, header
        claimed = int.from_bytes(header[4:], order)
        place += 8 + claimed + claimed % 2


def _are_chunks(file: BinaryIO, place: int, size: int) -> bool:
    """Whether a WAV file from ``place`` to its end, at ``size``, is chunks alone, or nothing."""
    end = place
    for at, header in _chunks(file, place, "little"):
        if not header[:4].isascii() or not header[:4].decode().isprintable():
            return False
        end = at + 8 + int.from_bytes(header[4:], "little")
    return end in {size, size - 1}


def _find_bad_page(file: BinaryIO, size: int) -> str | None:
    """Check every page of an Ogg file, that the last one says that it is, and no stream follows."""
    flags = place = 0
    file.seek(0)
    while header := file.read(_PAGE_HEADER):
        table = file.read(header[-1] if len(header) == _PAGE_HEADER else 0)
        page = header.ljust(_PAGE_HEADER, b"\0") + table + file.read(sum(table))
        if page[:4] != b"OggS" or _checksum(page) != int.from_bytes(page[22:26], "little"):
            return f"the page at byte {place:,} of {size:,} is damaged"
        if page[5] & _BEGINNING and not (flags & _BEGINNING or place == 0):
            return f"another stream is joined to it at byte {place:,} of {size:,}"
        flags, place = page[5], file.tell()
    if not flags & _END_OF_STREAM:
        return "its last page does not end the stream"
    return None


def _checksum(page: bytes) -> int:
    """CRC-32 of a page as Ogg has it: as zlib's, but from each byte's other end, with no inversion.

    Its own field counts as zero (RFC 3533, section 6).
    """
    blank = page[:22] + bytes(4) + page[26:]
    turned = zlib.crc32(blank.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{turned:032b}"[::-1], 2)
