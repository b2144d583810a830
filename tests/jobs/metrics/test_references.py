"""With whose recordings a clip is compared."""

from collections.abc import Mapping

import numpy as np
import pytest

from jobs.clips import SpokenClip
from jobs.metrics.base import MetricError
from jobs.metrics.references import (
    MIN_REFERENCES,
    NoReferenceSpeakerError,
    SpeakerCentroids,
    reference_problems,
    reference_speaker,
)
from jobs.spec.trial import PromptSpec

BOTH = {"ann", "bob"}


def hold_out(speaker: str | None) -> str:
    return "mark more"


@pytest.mark.parametrize(
    ("speaker", "recorded", "whose"),
    [
        ("ann", BOTH, "ann"),
        (None, {"ann"}, "ann"),
        (None, {None}, None),
        ("ann", {"ann", None}, "ann"),
    ],
)
def test_the_prompt_says_it_or_there_is_only_one(speaker, recorded, whose):
    assert reference_speaker(speaker, recorded) == whose


@pytest.mark.parametrize(
    ("speaker", "recorded", "words"),
    [
        (None, BOTH, "held-out clips of 'ann', 'bob': name data.target, or the speaker"),
        (None, {"ann", None}, "clips of 'ann', one without a name: name data.target"),
        (None, set(), "there are held-out clips of nobody"),
        ("cat", BOTH, "none of 'cat', only of 'ann', 'bob': correct the name, or hold out"),
        ("ann", {None}, "none of 'ann', only of one without a name"),
    ],
)
def test_who_is_not_known_is_not_guessed(speaker, recorded, words):
    with pytest.raises(NoReferenceSpeakerError, match=words):
        reference_speaker(speaker, recorded)


def prompts(*speakers: str | None) -> list[PromptSpec]:
    return [PromptSpec(id=f"p{i}", text="one", speaker=who) for i, who in enumerate(speakers)]


HELD_OUT: Mapping[str | None, int] = {"ann": MIN_REFERENCES, "bob": MIN_REFERENCES - 1}


@pytest.mark.parametrize(
    ("said_by", "found"),
    [
        (["ann", "ann"], []),
        # Of bob there are too few, which matters once somebody is compared with him.
        (["bob", "ann"], ["similarity needs 10 validation clips of 'bob', but there are 9"]),
        (
            [None, "cat", None],
            [
                "similarity: a clip is compared with one speaker, but there are held-out clips of "
                "'ann', 'bob'",
                "similarity: a clip is compared with held-out clips of its speaker, but there are "
                "none of 'cat', only of 'ann', 'bob'",
            ],
        ),
    ],
)
def test_all_that_keeps_prompts_from_being_compared_is_told_at_once(said_by, found):
    problems = [*reference_problems("similarity", prompts(*said_by), HELD_OUT, hold_out)]
    assert [what for what, _ in problems] == found
    assert all(next_step for _, next_step in problems)


@pytest.mark.parametrize("recorded", [{}, {None: 3}])
def test_without_names_there_must_be_enough_all_the_same(recorded):
    ((what, _),) = reference_problems("similarity", prompts(None), recorded, hold_out)
    assert "of nobody" in what or "10 validation clips, but there are 3" in what


def heading(audio, rate: int = 8_000) -> np.ndarray:
    return np.array(audio, dtype=np.float32), rate


def embed(clip: SpokenClip) -> np.ndarray:
    """The samples are the voice."""
    if not clip.audio.any():
        raise MetricError("silence")
    return clip.audio / np.linalg.norm(clip.audio)


def said(audio, speaker: str | None = None) -> SpokenClip:
    return SpokenClip(*heading(audio), "one", reached_end=True, speaker=speaker)


ANN, BOB = [heading([1, 0])] * MIN_REFERENCES, [heading([0, 1]), heading([0, 2])] * 5


def test_a_clip_is_compared_with_its_own_speaker():
    voices = SpeakerCentroids("similarity", {"ann": ANN, "bob": BOB}, embed)
    assert voices.similarity(said([1, 0], "ann")) == 1.0
    assert voices.similarity(said([1, 0], "bob")) == 0.0
    assert voices.similarity(said([3, 4], "bob")) == pytest.approx(0.8)
    with pytest.raises(MetricError, match="none of 'cat'"):
        voices.similarity(said([1, 0], "cat"))


@pytest.mark.parametrize("speaker", [None, "ann"])
def test_one_speaker_has_the_values_of_before(speaker):
    """The centroid of all recordings, whether they have a name or not."""
    generator = np.random.default_rng(3)
    recordings = [heading(generator.normal(size=16) + 1) for _ in range(MIN_REFERENCES)]
    clip = said(generator.normal(size=16) + 1)
    centre = np.mean([embed(said(audio)) for audio, _ in recordings], axis=0)
    expected = float(embed(clip) @ (centre / np.linalg.norm(centre)))
    assert SpeakerCentroids("similarity", {speaker: recordings}, embed).similarity(clip) == expected


def test_there_must_be_enough_of_each():
    SpeakerCentroids("similarity", {"ann": ANN, None: BOB}, embed)
    with pytest.raises(
        ValueError, match=r"similarity needs at least 10 .* of speaker 'ann', got 9"
    ):
        SpeakerCentroids("similarity", {None: BOB, "ann": ANN[1:]}, embed)
    with pytest.raises(ValueError, match="of the target speaker, got 0"):
        SpeakerCentroids("similarity", {}, embed)


def test_a_silent_reference_is_named():
    with pytest.raises(ValueError, match="clip 2 of 11: silence; remove it"):
        SpeakerCentroids("similarity", {"ann": [ANN[0], heading([0, 0]), *ANN[1:]]}, embed)
