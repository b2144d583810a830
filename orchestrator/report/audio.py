"""Sound small enough to travel inside a page."""

import base64
import io
from collections.abc import Mapping

import soundfile

MEDIA_TYPE = "audio/mpeg"

Sounds = Mapping[tuple[str, str], str]
"""Variant id and prompt id to the base64 text of the clip's MP3."""

_COMPRESSION = 0.5
"""libsndfile's scale from 0 (best) to 1 (smallest): about 43 kbit/s for 16 kHz speech."""


def embedded(flac: bytes) -> str:
    """The base64 text of the clip's MP3, as a page plays it.

    Raises:
        soundfile.LibsndfileError: the clip is not audio.
    """
    return base64.b64encode(mp3(flac)).decode("ascii")


def mp3(flac: bytes) -> bytes:
    """The same sound as MP3 of a variable bit rate; the same input gives the same bytes.

    MP3 rather than Ogg Opus or Vorbis: every browser plays it, and libsndfile writes a random
    serial number into Ogg, so that a page would differ from its own second rendering.
    """
    samples, rate = soundfile.read(io.BytesIO(flac), dtype="float32")
    file = io.BytesIO()
    soundfile.write(
        file, samples, rate, format="MP3", bitrate_mode="VARIABLE", compression_level=_COMPRESSION
    )
    return file.getvalue()
