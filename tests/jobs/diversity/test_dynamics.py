"""The range of loudness within a clip, of signals whose range is known."""

import numpy as np
import pytest

from jobs.clips import SpokenClip
from jobs.diversity import measure as module
from jobs.diversity.measure import dynamics
from jobs.metrics.base import MetricError
from jobs.metrics.signal import FRAME, RATE, at_16k


@pytest.fixture
def all_speech(monkeypatch):
    """Every frame is speech: what is measured is then known exactly."""
    monkeypatch.setattr(module, "speech_frames", lambda audio: np.ones(len(audio) // FRAME, bool))


def tone(amplitudes, seconds=1.0):
    """1 kHz at each amplitude in turn: a 25 ms window holds whole periods."""
    time = np.arange(int(seconds * RATE)) / RATE
    return np.concatenate([a * np.sin(2 * np.pi * 1000 * time) for a in amplitudes]).astype("f4")


def test_two_halves_20_db_apart(all_speech):
    assert dynamics(tone([0.5, 0.05])) == pytest.approx(20.0, abs=1e-3)


def test_a_steady_tone_has_none(all_speech):
    assert dynamics(tone([0.5])) == pytest.approx(0.0, abs=1e-3)


def test_digital_silence_between_words_has_a_floor(all_speech):
    # From the power of a half-scale sine down to half a 16-bit step.
    expected = 10 * np.log10(0.5**2 / 2) + 20 * np.log10(2**16)
    assert dynamics(tone([0.5, 0.0])) == pytest.approx(expected, abs=1e-2)


def test_gain_does_not_matter(recordings):
    clip = recordings[0]
    quiet = SpokenClip(clip.audio * np.float32(0.25), clip.rate, clip.text, reached_end=True)
    loud = dynamics(at_16k(clip))
    assert dynamics(at_16k(quiet)) == pytest.approx(loud, abs=0.05)


def test_only_speech_counts(monkeypatch):
    """The quiet half is no speech, so that what is left is steady."""
    half = RATE // FRAME
    monkeypatch.setattr(module, "speech_frames", lambda audio: np.arange(2 * half) < half - 1)
    assert dynamics(tone([0.5, 0.005])) == pytest.approx(0.0, abs=1e-3)


def test_a_clip_shorter_than_a_window(all_speech):
    with pytest.raises(MetricError, match=r"no 0\.025 s of audio around any speech"):
        dynamics(tone([0.5], seconds=0.02))
