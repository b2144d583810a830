"""Detects truncated audio files that libsndfile reads without an error.

Of a WAV or AIFF file whose sound is longer by its header than the file is, libsndfile reads what is
there and says nothing; of an Ogg file it takes the last page that is there for the end.
"""

import os
import zlib
from typing import BinaryIO, Literal

UNKNOWN_LENGTH = 0xFFFFFFFF
"""What ffmpeg writes as the size of a WAV's sound when it writes to a pipe."""

_MAX_CHUNKS = 10_000
"""Before the sound; recorders write some ten."""
_PAGE_HEADER = 27
"""Bytes of an Ogg page before its table of segments (RFC 3533, section 6)."""
_END_OF_STREAM = 0x04
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def find_damage(file: BinaryIO) -> str | None:
    """Why a file is not whole; None where it is, or is of a kind that libsndfile checks."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        return _find_missing_sound(file, size, b"data", "little")
    if start[:4] == b"FORM" and start[8:] in {b"AIFF", b"AIFC"}:
        return _find_missing_sound(file, size, b"SSND", "big")
    if start[:4] == b"OggS":
        return _find_bad_page(file, size)
    return None


def _find_missing_sound(
    file: BinaryIO, size: int, name: bytes, order: Literal["little", "big"]
) -> str | None:
    """Walk the chunks of a RIFF or IFF file to the one that holds the sound."""
    place = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(place)
        header = file.read(8)
        if len(header) < 8:
            return "it ends before its sound begins"
        claimed = int.from_bytes(header[4:], order)
        if header[:4] == name:
            present = size - place - 8
            if claimed <= present or (claimed == UNKNOWN_LENGTH and order == "little"):
                return None
            return f"its sound claims {claimed:,} bytes, but {present:,} are there"
        place += 8 + claimed + claimed % 2
    return f"no sound is in its first {_MAX_CHUNKS:,} chunks"


def _find_bad_page(file: BinaryIO, size: int) -> str | None:
    """Check every page of an Ogg file, and that the last one says that it is."""
    flags = place = 0
    file.seek(0)
    while header := file.read(_PAGE_HEADER):
        table = file.read(header[-1] if len(header) == _PAGE_HEADER else 0)
        page = header.ljust(_PAGE_HEADER, b"\0") + table + file.read(sum(table))
        if page[:4] != b"OggS" or _checksum(page) != int.from_bytes(page[22:26], "little"):
            return f"the page at byte {place:,} of {size:,} is damaged"
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
