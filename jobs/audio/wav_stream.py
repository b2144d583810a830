"""A WAV file that is written while its sound is made, to a file or to a pipe."""

import struct
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 0xFFFF_FFFF
"""The size of what has no end yet; players read such a file until it ends."""
_INFO = {"comment": b"ICMT", "copyright": b"ICOP", "software": b"ISFT"}
"""libsndfile's names of strings, with their chunks in a WAV file."""


class WavStream:
    """Mono, 16 bits. The header says unknown sizes until :meth:`finish`, which a pipe never has."""

    def __init__(self, file: BinaryIO, rate: int, tags: Mapping[str, str]) -> None:
        """Write the header; ``tags`` as :func:`jobs.audio.files.write_sound` has them.

        Raises:
            OSError: it cannot be written.
        """
        self._file = file
        self._bytes = 0
        facts = b"".join(_chunk(_INFO[name], text.encode() + b"\0") for name, text in tags.items())
        self._before = b"WAVE" + _chunk(
            b"fmt ", struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
        )
        self._before += _chunk(b"LIST", b"INFO" + facts)
        file.write(b"RIFF" + struct.pack("<I", UNKNOWN) + self._before)
        file.write(b"data" + struct.pack("<I", UNKNOWN))
        file.flush()

    def write(self, audio: NDArray[np.float32]) -> None:
        """Write ``audio`` (samples,) in [-1, 1], so that a reader has it at once."""
        data = _pcm(audio).tobytes()
        self._file.write(data)
        self._file.flush()
        self._bytes += len(data)

    def finish(self) -> None:
        """Write the sizes into the header of a file, which began with it."""
        self._file.seek(4)
        self._file.write(struct.pack("<I", len(self._before) + 8 + self._bytes))
        self._file.seek(8 + len(self._before) + 4)
        self._file.write(struct.pack("<I", self._bytes))
        self._file.flush()


def _pcm(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples of 16 bits, as libsndfile has them: rounded to 32 bits, of which the upper half."""
    wide = np.rint(audio.astype(np.float64) * 2**31)
    return np.clip(np.floor(wide / 2**16), -(2**15), 2**15 - 1).astype("<i2")


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
