"""A streamed WAV file has the bytes of one that is written at once, and is read before its end."""

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from jobs.audio.files import write_sound
from jobs.audio.wav_stream import UNKNOWN, WavStream

RATE = 24_000
TAGS = {"comment": "Synthetic speech.", "copyright": "Ours", "software": "voxsweep 1"}


@pytest.fixture
def sound():
    ends = np.array([-1, 1, 0, 1e-9, -1e-9, 2**-15, 0.99998], dtype=np.float32)
    noise = np.random.default_rng(0).uniform(-1, 1, 5001).astype(np.float32)
    return np.concatenate([ends, noise])


def test_it_is_what_libsndfile_writes(sound, tmp_path):
    write_sound(tmp_path / "whole.wav", sound, RATE, "WAV", TAGS)
    with (tmp_path / "stream.wav").open("wb") as file:
        stream = WavStream(file, RATE, TAGS)
        for piece in np.array_split(sound, 7):
            stream.write(piece)
        stream.finish()
    whole, streamed = (soundfile.SoundFile(tmp_path / f"{n}.wav") for n in ("whole", "stream"))
    with whole, streamed:
        assert (streamed.samplerate, streamed.channels, streamed.subtype) == (RATE, 1, "PCM_16")
        assert (streamed.comment, streamed.copyright) == (whole.comment, whole.copyright)
        assert streamed.software == TAGS["software"]  # libsndfile adds itself
        assert np.array_equal(whole.read(dtype="int16"), streamed.read(dtype="int16"))


def test_what_was_written_is_there_before_the_end(sound):
    file = io.BytesIO()
    stream = WavStream(file, RATE, {})
    stream.write(sound[:100])
    data = file.getvalue()
    assert struct.unpack("<I", data[4:8]) == (UNKNOWN,)
    assert len(data) - data.index(b"data") == 8 + 200


def test_a_pipe_keeps_the_unknown_size(sound):
    read, write = os.pipe()
    with os.fdopen(write, "wb") as file:
        WavStream(file, RATE, TAGS).write(sound)
    with os.fdopen(read, "rb") as file:
        data = file.read()
    at = data.index(b"data")
    assert struct.unpack("<I", data[at + 4 : at + 8]) == (UNKNOWN,)
    written = io.BytesIO()
    write_sound(written, sound, RATE, "WAV", {})
    assert data[at + 8 :] == written.getvalue().partition(b"data")[2][4:]
