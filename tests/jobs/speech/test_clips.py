"""Clips on disk: what sounds has a file, what does not still counts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from jobs.clips import ItemAnswer, SpokenClip
from jobs.spec.items import ChoiceItem, PassageItem
from jobs.spec.trial import PromptSpec
from jobs.speech.clips import Origin, clip_name, read_answers, read_clips, write_clips

RATE = 16_000
ORIGIN = Origin("t0123456789ab-e03-s0.70", "codec_lm", "consent: records/ann.pdf")
STEP = 2**-15
"""Of 16 bits."""
TONE = (0.4 * np.sin(np.arange(800) / 9)).astype(np.float32)


def through_disk(directory: Path, audio: NDArray[np.float32], reached_end: bool) -> SpokenClip:
    prompt = PromptSpec(id="p", text="one two")
    write_clips(directory, [prompt], [SpokenClip(audio, RATE, prompt.text, reached_end)], ORIGIN)
    return read_clips(directory)["p"]


@pytest.mark.parametrize("reached_end", [True, False])
def test_a_clip_comes_back(tmp_path: Path, reached_end: bool):
    clip = through_disk(tmp_path, TONE, reached_end)
    np.testing.assert_allclose(clip.audio, TONE, atol=STEP)
    assert clip.audio.dtype == np.float32
    assert (clip.rate, clip.text, clip.reached_end) == (RATE, "one two", reached_end)


@pytest.mark.parametrize("language", ["km", None])
def test_a_clip_has_the_language_of_its_prompt(tmp_path: Path, language: str | None):
    prompt = PromptSpec(id="p", text="one", language=language)
    write_clips(tmp_path, [prompt], [SpokenClip(TONE, RATE, prompt.text, reached_end=True)], ORIGIN)
    assert read_clips(tmp_path)["p"].language == language


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_sound(tmp_path: Path, bad: float):
    audio = TONE.copy()
    audio[7] = bad
    clip = through_disk(tmp_path, audio, reached_end=True)
    assert clip.audio.shape == (0,)
    assert clip.reached_end
    assert not (tmp_path / clip_name("p")).exists()


def test_nothing_generated_is_no_sound(tmp_path: Path):
    clip = through_disk(tmp_path, np.zeros(0, dtype=np.float32), reached_end=False)
    assert clip.audio.shape == (0,)
    assert not (tmp_path / clip_name("p")).exists()


def test_silence_is_a_sound(tmp_path: Path):
    clip = through_disk(tmp_path, np.zeros(100, dtype=np.float32), reached_end=True)
    assert clip.audio.shape == (100,)


def test_beyond_full_scale_is_clipped(tmp_path: Path):
    clip = through_disk(tmp_path, 4 * TONE, reached_end=True)
    np.testing.assert_allclose(clip.audio, np.clip(4 * TONE, -1, 1), atol=STEP)
    assert np.abs(4 * TONE).max() > 1


def test_clips_keep_the_order_of_their_prompts(tmp_path: Path):
    prompts = [PromptSpec(id=name, text=name) for name in ("z", "a", "m")]
    audios = [TONE, np.zeros(0, dtype=np.float32), -TONE]
    write_clips(tmp_path, prompts, [SpokenClip(a, RATE, "", True) for a in audios], ORIGIN)
    clips = read_clips(tmp_path)
    assert list(clips) == ["z", "a", "m"]
    assert [clip.text for clip in clips.values()] == ["z", "a", "m"]
    np.testing.assert_allclose(clips["m"].audio, -TONE, atol=STEP)


def test_a_clip_short_of_its_prompt_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="zip"):
        write_clips(tmp_path, [PromptSpec(id="p", text="one")], [], ORIGIN)


def test_a_clip_says_that_it_is_synthetic_and_by_what_right(tmp_path: Path):
    through_disk(tmp_path, TONE, reached_end=True)
    with soundfile.SoundFile(tmp_path / clip_name("p")) as sound:
        told = sound.copy_metadata()
    assert told["comment"] == (
        "Synthetic speech, not a recording: variant t0123456789ab-e03-s0.70 of codec_lm."
    )
    assert told["copyright"] == "Provenance of the voice: consent: records/ann.pdf"
    assert told["software"].startswith("voxsweep ")
    row = json.loads((tmp_path / "clips.json").read_text())["p"]
    assert (row["synthetic"], row["variant"]) == (True, ORIGIN.variant)
    assert row["provenance"] == "consent: records/ann.pdf"


def test_answers_come_back_as_they_were_written(tmp_path):
    question = ChoiceItem(id="q", question="Which?", choices=("a", "b"), answer=1, subject="x")
    answers = [
        ItemAnswer(question, (-1.5, -0.1)),
        ItemAnswer(PassageItem(id="t", text="A\u2028text."), (-math.inf,)),
    ]
    write_clips(tmp_path, [], [], ORIGIN, answers)
    assert read_answers(tmp_path) == answers


def test_a_variant_that_was_asked_nothing_has_no_answers(tmp_path):
    write_clips(tmp_path, [], [], ORIGIN)
    assert read_answers(tmp_path) == []
