"""Silence, offset and noise, on the shipped voice as it is and spoilt in each way."""

import json

import numpy as np
import pytest

from jobs.audio.files import read_audio
from jobs.data.checks.sound import SoundFacts, SoundsOfClips, sound_facts, told_by_distribution
from jobs.embedded import VOICE_DIR


@pytest.fixture(scope="module")
def recordings():
    lines = (VOICE_DIR / "manifest.jsonl").read_text().splitlines()[::5]
    return [read_audio(VOICE_DIR / json.loads(line)["audio"]) for line in lines]


def told(recordings, spoil):
    """The findings, by rule, about the recordings once ``spoil`` changed each."""
    noise = np.random.default_rng(0)
    sounds = SoundsOfClips()
    for line, (audio, rate) in enumerate(recordings, start=1):
        sounds.add(f"m:{line}", sound_facts(spoil(audio, rate, noise).astype("float32"), rate))
    return {each.rule: each for each in told_by_distribution(sounds, "m")}


def with_noise(decibels):
    def spoil(audio, rate, noise):
        level = np.sqrt(np.mean(audio**2)) * 10 ** (-decibels / 20)
        return audio + level * noise.standard_normal(len(audio))

    return spoil


def hum(samples, rate):
    return np.sin(2 * np.pi * 50 * np.arange(samples) / rate)


def silence(seconds, *, first, level=0.0):
    def spoil(audio, rate, noise):
        quiet = level * noise.standard_normal(int(seconds * rate))
        return np.concatenate([quiet, audio] if first else [audio, quiet])

    return spoil


SPOILT = {
    "silence after": (silence(5, first=False), "silence-trailing"),
    "room noise after": (silence(5, first=False, level=1e-3), "silence-trailing"),
    "silence before": (silence(2, first=True), "silence-leading"),
    "offset": (lambda audio, rate, noise: audio + 0.01, "dc-offset"),
    "5 dB": (with_noise(5), "noisy"),
    "10 dB": (with_noise(10), "noisy"),
    "hum": (lambda audio, rate, noise: audio + 0.1 * hum(len(audio), rate), "noisy"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_was_done_to_all_clips_is_told_once_with_the_worst_ten(recordings, name):
    spoil, rule = SPOILT[name]
    (finding,) = told(recordings, spoil).values()
    assert (finding.rule, finding.severity, finding.problem.where) == (rule, "warning", "m")
    count = len(recordings)
    assert f"{count} of {count} clips differ" in finding.problem.what
    assert finding.problem.what.count("line ") == 10


@pytest.mark.parametrize(
    "innocent",
    [
        lambda audio, rate, noise: audio,
        silence(0.7, first=False),
        silence(0.7, first=True),
        lambda audio, rate, noise: audio * 0.03,
        lambda audio, rate, noise: np.round(audio * 2**15) / 2**15,
        with_noise(25),
    ],
)
def test_whole_recordings_are_not_spoken_of(recordings, innocent):
    assert told(recordings, innocent) == {}


def test_one_clip_is_enough_and_is_the_only_one_named():
    good = SoundFacts(leading=0.1, trailing=0.1, offset=0.0, contrast=40.0)
    bad = SoundFacts(leading=2.5, trailing=0.1, offset=0.0, contrast=40.0)
    sounds = SoundsOfClips()
    for line in range(1, 10):
        sounds.add(f"m:{line}", bad if line == 1 else good)
    assert not list(told_by_distribution(sounds, "m"))
    for line in range(10, 21):
        sounds.add(f"m:{line}", good)
    (finding,) = told_by_distribution(sounds, "m")
    assert "1 of 20 clips differ (10th percentile 0.10 s, median 0.10 s" in finding.problem.what
    assert finding.problem.what.endswith("the worst: line 1 (2.50 s)")


@pytest.mark.parametrize("samples", [1, 100, 239])
def test_the_shortest_clips_have_facts(samples):
    facts = sound_facts(np.full(samples, 0.5, dtype=np.float32), 24_000)
    assert facts == SoundFacts(leading=0.0, trailing=0.0, offset=0.5, contrast=0.0)
