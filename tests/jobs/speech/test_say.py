"""A long text becomes one sound, and a part that is not all there is told."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.clips import SpokenClip
from jobs.problems import InputError
from jobs.speech.say import CAPPED, PAUSE, SILENT, StreamedText, joined, say
from jobs.speech.voice import LoadedVoice
from jobs.speech.voice_files import VoiceFiles

RATE = 1_000
TONE = np.full(100, 0.5, dtype=np.float32)
NOTHING = np.zeros(0, dtype=np.float32)


def clip(audio=TONE, reached_end=True) -> SpokenClip:
    return SpokenClip(audio, RATE, "one", reached_end)


def test_chunks_are_joined_with_a_pause():
    said = joined([clip(), clip(2 * TONE), clip(4 * TONE)], RATE, "v")
    pause = np.zeros(round(PAUSE * RATE), dtype=np.float32)
    np.testing.assert_array_equal(
        said.audio, np.concatenate([TONE, pause, 2 * TONE, pause, 2 * TONE])
    )
    assert said.problem == ""
    assert said.seconds == pytest.approx(0.3 + 2 * PAUSE)


@pytest.mark.parametrize(
    ("bad", "why", "seconds"),
    [
        (clip(reached_end=False), CAPPED, 0.1),
        (clip(NOTHING), SILENT, 0.0),
        (clip(np.full(5, np.nan, dtype=np.float32)), SILENT, 0.0),
    ],
)
def test_a_part_that_is_not_all_there_is_told(bad: SpokenClip, why: str, seconds: float):
    said = joined([clip(), bad, clip()], RATE, "v")
    assert said.problem == f"chunk 2 of 3, 'one': {why}"
    assert said.chunks[1].seconds == seconds
    assert np.isfinite(said.audio).all()
    assert said.audio.size >= 2 * TONE.size


def test_nothing_at_all_is_an_empty_sound():
    assert joined([clip(NOTHING)], RATE, "v").audio.size == 0


def test_a_long_text_is_said_and_said_again(embedded_voice: VoiceFiles):
    voice = LoadedVoice(embedded_voice)
    text = "one two. three four five six seven eight nine"
    first = say(voice, text)
    assert [each.text for each in first.chunks] == [
        "one two",
        "three four five six seven eight",
        "nine",
    ]
    assert first.audio.size > 0
    np.testing.assert_array_equal(first.audio, say(voice, text).audio)
    with pytest.raises(InputError, match="hello"):
        say(voice, "one hello")


def test_a_cap_of_the_decoding_is_told(embedded_voice: VoiceFiles):
    capped = embedded_voice.facts.decoding.model_copy(update={"max_tokens": 5})
    facts = embedded_voice.facts.model_copy(update={"decoding": capped})
    said = say(LoadedVoice(replace(embedded_voice, facts=facts)), "one two")
    assert said.problem == f"chunk 1 of 1, 'one two': {CAPPED}"


def test_a_stream_is_the_same_sound(embedded_voice: VoiceFiles):
    """And its first piece is there while most of the text is still to be said."""
    voice = LoadedVoice(embedded_voice)
    text = "one two. three four five six seven eight nine"
    whole, stream = say(voice, text), StreamedText(voice, text)
    pieces, at = [], []
    for piece in stream:
        pieces.append(piece)
        at.append(stream.samples)
    assert np.array_equal(np.concatenate(pieces), whole.audio)
    assert stream.to_dict() == whole.to_dict()
    assert at[0] < len(whole.audio) / 4
    assert len(pieces) > 2 * len(whole.chunks)


class PiecewiseVoice:
    """Says a chunk in the pieces that it is given."""

    def __init__(self, facts, *chunks):
        self.facts = facts
        self.chunks = iter(chunks)

    def speak_stream(self, prompt):
        return iter(next(self.chunks))


def test_a_streamed_part_that_is_not_all_there_is_told(embedded_voice: VoiceFiles):
    facts = embedded_voice.facts
    rate, bad = facts.sample_rate, np.full(3, np.nan, dtype=np.float32)
    pieces = [
        [clip(2 * TONE, reached_end=False), clip(NOTHING)],
        [clip(bad, reached_end=False), clip(NOTHING)],
        [clip(reached_end=False), clip(NOTHING, reached_end=False)],
    ]
    stream = StreamedText(PiecewiseVoice(facts, *pieces), "one. two. three")
    sound = np.concatenate([*stream])
    pause = np.zeros(round(PAUSE * rate), dtype=np.float32)
    np.testing.assert_array_equal(sound, np.concatenate([2 * TONE, pause, TONE]))
    assert stream.problem == f"chunk 2 of 3, 'two': {SILENT}; chunk 3 of 3, 'three': {CAPPED}"
