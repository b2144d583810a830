from dataclasses import replace

import librosa
import numpy as np
import pytest

from jobs.metrics.base import MetricError
from jobs.metrics.timing import (
    FASTEST,
    duration,
    end_of_speech_failure,
    speaking_rate,
    tail_silence,
)


@pytest.mark.parametrize("tempo", [0.75, 1.2, 1.5])
def test_tempo_changes_speaking_rate_by_its_factor(recordings, tempo):
    factors = [
        speaking_rate(replace(clip, audio=librosa.effects.time_stretch(clip.audio, rate=tempo)))
        / speaking_rate(clip)
        for clip in recordings[10:20]
    ]
    assert np.median(factors) == pytest.approx(tempo, rel=0.1)


def test_silence_around_speech_does_not_slow_it(clips):
    padding = np.zeros(3 * clips[0].rate, dtype=np.float32)
    padded = replace(clips[0], audio=np.concatenate([padding, clips[0].audio, padding]))
    assert speaking_rate(padded) == pytest.approx(speaking_rate(clips[0]), rel=0.03)


def test_truncation_reads_as_speed_and_shortens(clips):
    cut = replace(clips[0], audio=clips[0].audio[: len(clips[0].audio) * 6 // 10])
    assert speaking_rate(cut) > 1.3 * speaking_rate(clips[0])
    assert duration(cut) == pytest.approx(0.6 * duration(clips[0]), rel=1e-3)


def test_spaces_are_not_characters(clips):
    spaced = replace(clips[0], text="  " + clips[0].text.replace(" ", " \n "))
    assert speaking_rate(spaced) == speaking_rate(clips[0])


def test_speaking_rate_is_capped(clips):
    assert speaking_rate(replace(clips[0], text="x" * 100_000)) == FASTEST


def test_no_text_has_no_rate(clips):
    with pytest.raises(MetricError, match="text is empty"):
        speaking_rate(replace(clips[0], text=" \n"))


@pytest.mark.parametrize("seconds", [1.0, 5.5])
@pytest.mark.parametrize("hiss", [0.0, 1e-3])
def test_tail_silence_is_what_was_added(clips, seconds, hiss):
    clip = clips[0]
    tail = np.random.default_rng(0).standard_normal(int(seconds * clip.rate)) * hiss
    runaway = replace(clip, audio=np.concatenate([clip.audio, tail.astype(np.float32)]))
    before = tail_silence(clip)
    assert before < 0.3
    assert tail_silence(runaway) == pytest.approx(before + seconds, abs=0.15)


@pytest.mark.parametrize(("reached_end", "failed"), [(True, 0.0), (False, 1.0)])
def test_end_of_speech_failure_is_what_the_generator_said(clips, reached_end, failed):
    clip = replace(clips[0], reached_end=reached_end)
    assert end_of_speech_failure(clip) == failed
