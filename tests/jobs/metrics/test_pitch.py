from dataclasses import replace

import numpy as np
import pytest
from scipy import signal

from jobs.clips import SpokenClip
from jobs.metrics.base import MetricError
from jobs.metrics.pitch import Pitch, f0
from jobs.metrics.signal import RATE


def voice(hertz, semitones=0.0, seconds=4.0):
    """A buzz of harmonics under 7 kHz whose F0 swings three times a second."""
    time = np.arange(round(seconds * RATE)) / RATE
    contour = hertz * 2 ** (semitones * np.sin(2 * np.pi * 3 * time) / 12)
    phase = 2 * np.pi * np.cumsum(contour) / RATE
    harmonics = range(1, int(7000 / contour.max()) + 1)
    audio = 0.1 * sum(np.sin(n * phase) / n for n in harmonics)
    return SpokenClip(audio.astype(np.float32), RATE, "ah", reached_end=True), contour


@pytest.mark.parametrize("hertz", [80.0, 120.0, 220.0])
@pytest.mark.parametrize("semitones", [0.0, 2.0])
def test_a_known_melody(hertz, semitones):
    clip, contour = voice(hertz, semitones)
    measured = Pitch().measure(clip)
    assert measured["f0_mean"] == pytest.approx(np.mean(contour), rel=0.003)
    # A sine of amplitude a has a standard deviation of a over the root of 2.
    assert measured["f0_sd"] == pytest.approx(semitones / np.sqrt(2), abs=0.1)
    assert measured["voiced_fraction"] > 0.95


def test_f0_is_in_step_with_the_speech_frames():
    clip, contour = voice(120.0, 2.0)
    found = f0(clip.audio)
    assert len(found) == len(clip.audio) // 160 + 1
    inside = slice(20, 380)
    assert found[inside] == pytest.approx(contour[::160][inside], rel=0.02)


def test_silence_and_rate_and_gain_do_not_matter(clips):
    clip = clips[0]
    alone = Pitch().measure(clip)
    padding = np.zeros(2 * clip.rate, dtype=np.float32)
    padded = replace(clip, audio=np.concatenate([padding, clip.audio, padding]))
    assert Pitch().measure(padded) == pytest.approx(alone, rel=0.05)
    quiet = replace(clip, audio=clip.audio * np.float32(0.03))
    assert Pitch().measure(quiet) == pytest.approx(alone, rel=0.01)


def test_a_voice_played_faster_is_higher_and_moves_as_much(clips):
    usual = Pitch().measure(clips[0])
    child = Pitch().measure(replace(clips[0], rate=round(clips[0].rate * 1.2)))
    assert child["f0_mean"] == pytest.approx(1.2 * usual["f0_mean"], rel=0.05)
    assert child["f0_sd"] == pytest.approx(usual["f0_sd"], abs=0.5)


def test_a_whisper_has_no_voice():
    noise = np.random.default_rng(0).standard_normal(2 * RATE)
    band = signal.butter(4, [1000.0, 4000.0], "bandpass", fs=RATE)
    hiss = (0.1 * signal.lfilter(*band, noise)).astype(np.float32)
    clip = SpokenClip(hiss, RATE, "hush", reached_end=True)
    with pytest.raises(MetricError, match="no fundamental frequency found in"):
        Pitch().measure(clip)


def test_silence_has_no_melody(clips):
    with pytest.raises(MetricError, match="silence"):
        Pitch().measure(replace(clips[0], audio=np.zeros(8000, dtype=np.float32)))
