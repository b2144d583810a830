"""The judge of the embedded model hears the words, and knows when it cannot."""

import json

import numpy as np
import pytest
import soundfile
import torch

from jobs.codecs.recogniser import WordRecogniser, mel_filters
from jobs.embedded import RECOGNISER_DIR, VOICE_DIR
from jobs.metrics.words import word_edits

RATE = 16_000


@pytest.fixture(scope="module")
def recogniser() -> WordRecogniser:
    return WordRecogniser.load(RECOGNISER_DIR)


@pytest.fixture(scope="module")
def voice() -> list[tuple[np.ndarray, list[str]]]:
    rows = [json.loads(line) for line in (VOICE_DIR / "manifest.jsonl").read_text().splitlines()]
    return [
        (soundfile.read(VOICE_DIR / row["audio"], dtype="float32")[0], row["text"].split())
        for row in rows
    ]


def test_hears_the_shipped_recordings(recogniser: WordRecogniser, voice: list):
    heard = recogniser.transcribe_batch([audio for audio, _ in voice], RATE)
    edits = sum(word_edits(h, words) for h, (_, words) in zip(heard, voice, strict=True))
    assert edits / sum(len(words) for _, words in voice) < 0.03


def test_does_not_guess_the_text(recogniser: WordRecogniser, voice: list):
    heard = recogniser.transcribe_batch([audio for audio, _ in voice], RATE)
    references = [words for _, words in voice]
    shifted = references[7:] + references[:7]
    edits = sum(word_edits(h, words) for h, words in zip(heard, shifted, strict=True))
    assert edits / sum(len(words) for words in references) > 0.8


def test_hears_the_same_alone_and_in_a_batch(recogniser: WordRecogniser, voice: list):
    audios = [audio for audio, _ in voice[:8]]
    together = recogniser._log_probabilities(audios, RATE)
    for audio, scores in zip(audios, together, strict=True):
        alone = recogniser._log_probabilities([audio], RATE)[0]
        np.testing.assert_allclose(scores, alone, atol=1e-4)


def test_hears_nothing_in_silence_and_in_a_sliver(recogniser: WordRecogniser):
    for samples in (1, RATE):
        assert recogniser.transcribe(np.zeros(samples, dtype=np.float32), RATE) == []


def test_word_starts_rise_from_zero_within_the_clip(recogniser: WordRecogniser, voice: list):
    for audio, words in voice[:16]:
        starts = recogniser.align(audio, RATE, words)
        assert len(starts) == len(words)
        assert starts[0] == 0.0
        assert all(a < b for a, b in zip(starts, [*starts[1:], len(audio) / RATE], strict=True))


def test_starts_of_joined_clips_fall_at_the_seam(recogniser: WordRecogniser, voice: list):
    (first, said), (second, then) = voice[0], voice[1]
    starts = recogniser.align(np.concatenate((first, second)), RATE, [*said, *then])
    assert starts[len(said)] == pytest.approx(len(first) / RATE, abs=0.15)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["three", "fish"], "got fish"), ([], "got none"), (["one"] * 60, "60 words")],
)
def test_words_that_cannot_be_there_are_refused(
    recogniser: WordRecogniser, words: list[str], message: str
):
    with pytest.raises(ValueError, match=message):
        recogniser.align(np.zeros(RATE, dtype=np.float32), RATE, words)


def test_wrong_rate_is_refused(recogniser: WordRecogniser):
    with pytest.raises(ValueError, match="must be 16000 Hz, got 24000 Hz"):
        recogniser.transcribe(np.zeros(24_000, dtype=np.float32), 24_000)


def test_mel_filters_cover_the_spectrum():
    # Every frequency between the first and the last centre is weighed by its two neighbours to 1.
    weights = mel_filters(RATE).sum(dim=0)
    assert torch.allclose(weights[4:240], torch.ones(236), atol=1e-5)
