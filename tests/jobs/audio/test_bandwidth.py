"""Where a spectrum ends is found for what was made narrow, and for nothing else."""

import io
import itertools

import numpy as np
import pytest
import soundfile
import soxr

from jobs.audio.bandwidth import spectral_edge
from jobs.audio.files import read_audio
from jobs.embedded import VOICE_DIR

RATE = 16_000
VOICE = sorted(VOICE_DIR.glob("*.flac"))[::40]


def as_pcm(audio):
    """As a 16-bit file holds it."""
    return (np.clip(audio, -1, 1) * 32767).round().astype(np.float32) / 32768


def resampled(audio, *rates):
    for low, high in itertools.pairwise(rates):
        audio = soxr.resample(audio, low, high)
    return audio


@pytest.fixture(scope="module")
def voice():
    assert len(VOICE) == 12
    return [read_audio(path)[0] for path in VOICE]


def test_the_shipped_voice_has_no_edge(voice):
    assert [spectral_edge(audio, RATE) for audio in voice] == [None] * len(voice)


@pytest.mark.parametrize(
    ("rates", "ends"),
    [((16_000, 8_000, 16_000), 4000), ((16_000, 48_000), 8000), ((16_000, 24_000), 8000)],
)
@pytest.mark.parametrize("write", [as_pcm, lambda audio: audio], ids=["16 bits", "float"])
def test_an_upsampled_voice_ends_where_it_did(voice, rates, ends, write):
    for audio in voice:
        edge = spectral_edge(write(resampled(audio, *rates)), rates[-1])
        assert edge is not None
        assert 0.85 * ends < edge < 1.05 * ends


@pytest.mark.parametrize(("level", "ends"), [(0.9, 16_500), (0.95, 11_300)])
def test_mp3_ends_where_its_encoder_cuts(level, ends):
    """At some 57 and 48 kbit/s; from 80 on it cuts nothing that is missed."""
    noise = np.random.default_rng(0).normal(0, 0.05, 44_100 * 3).astype(np.float32)
    assert spectral_edge(noise, 44_100) is None
    file = io.BytesIO()
    mode = {"compression_level": level, "bitrate_mode": "CONSTANT"}
    soundfile.write(file, noise, 44_100, format="MP3", **mode)
    file.seek(0)
    edge = spectral_edge(*soundfile.read(file, dtype="float32"))
    assert edge == pytest.approx(ends, rel=0.05)


def test_noise_tones_and_silence_have_no_edge():
    time = np.arange(2 * RATE) / RATE
    assert spectral_edge(np.random.default_rng(0).normal(0, 0.1, RATE), RATE) is None
    assert spectral_edge(np.zeros(RATE, np.float32), RATE) is None
    for pitch in (440, 1000, 3000, 6000):
        tone = 0.5 * np.sin(2 * np.pi * pitch * time)
        assert spectral_edge(tone, RATE) is None
        assert spectral_edge(as_pcm(tone), RATE) is None


def test_shorter_than_a_window():
    assert spectral_edge(np.full(7, 0.1, np.float32), RATE) is None
    assert spectral_edge(np.zeros(1, np.float32), 96_000) is None
