"""Only a base clip that is sound is a yardstick; else what its text takes."""

import math

import pytest

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.protocol import Constraint, Prompt
from orchestrator.verdict.table import ScoreTable


@pytest.fixture
def compared(base, info, speak, make_protocol):
    """The base and one variant that say these, on five texts of 10 characters and one of 20."""

    def make(of_base, of_variant, languages=(None,) * 6):
        texts = ["ten chars.x"] * 5 + ["twenty chars long, yes."]
        prompts = tuple(
            Prompt(id=f"p{i}", text=text, language=language)
            for i, (text, language) in enumerate(zip(texts, languages, strict=True))
        )
        protocol = make_protocol(
            prompts=prompts, constraints=(Constraint(metric="duration_ratio", margin=0.5),)
        )
        clips = [*speak(BASE_VARIANT, 6, **of_base), *speak("v", 6, **of_variant)]
        return Comparison(ScoreTable.build([base, info("v")], clips, protocol), protocol)

    return make


def ratios(comparison, variant="v", ratio="duration_ratio"):
    return [round(float(value), 3) for value in comparison.clips(variant, ratio)]


def test_ratios_are_against_the_base_on_the_same_prompt(compared):
    found = compared({}, {"duration": [4, 2, 8, 6, 4, 4], "speaking_rate": [12, 24, 6, 12, 12, 12]})
    assert ratios(found) == [1.0, 0.5, 2.0, 1.5, 1.0, 1.0]
    assert ratios(found, ratio="rate_ratio") == [1.0, 2.0, 0.5, 1.0, 1.0, 1.0]
    assert ratios(found, BASE_VARIANT) == [1.0] * 6


RAN_AWAY = {"end_of_speech_failure": [1, 0, 0, 0, 0, 1], "duration": [30, 4, 4, 4, 4, 30]}


def test_where_the_base_ran_away_the_text_is_the_yardstick(compared):
    found = compared(RAN_AWAY, {"duration": [4, 4, 4, 4, 4, 8]})
    assert ratios(found) == [1.0] * 6
    assert found.failed_clips("v") == ()
    assert [clip.prompt for clip in found.failed_clips(BASE_VARIANT)] == ["p0", "p5"]
    (check,) = found.constraint_checks("v")
    assert (check.worsening.mean, check.violation) == (0, 0)


def test_a_clip_too_long_for_its_text_fails_where_the_base_ran_away(compared):
    found = compared(RAN_AWAY, {"duration": [9, 4, 4, 4, 4, 8]})
    (failed,) = found.failed_clips("v")
    assert failed.reasons == ("9.0 s, 2.25 x the text takes (allowed 0.5 to 2)",)


def test_a_base_that_looks_sound_and_is_far_from_its_text_excuses_both(compared):
    """A text may take longer than its letters, and a base may babble: there is no telling."""
    long = {"duration": [12, 4, 4, 4, 4, 8]}
    for like_base, like_text in ((12, 4), (11, 3)):
        for duration in (like_base, like_text):
            of_variant = {"duration": [duration, 4, 4, 4, 4, 8]}
            assert compared(long, of_variant).failed_clips("v") == ()
    assert len(compared(long, {"duration": [1, 4, 4, 4, 4, 8]}).failed_clips("v")) == 1


def test_a_language_is_measured_by_its_own_texts(compared):
    languages = ("km",) * 3 + ("en",) * 3
    base = {"end_of_speech_failure": [1, 0, 0, 0, 0, 0], "duration": [30, 20, 20, 4, 4, 8]}
    found = compared(base, {"duration": [20, 20, 20, 4, 4, 8]}, languages)
    assert ratios(found) == [1.0] * 6


def test_without_any_sound_clip_of_the_base_a_ratio_says_nothing(compared):
    found = compared({"end_of_speech_failure": [1]}, {"duration": [4, 9, 4, 4, 4, 4]})
    assert ratios(found) == [1.0] * 6


def test_a_part_is_measured_by_the_whole(compared):
    found = compared(RAN_AWAY, {"duration": [4, 4, 4, 4, 4, 8]})
    part = found.only([p for p in found.protocol.prompts if p.id in ("p0", "p5")])
    assert ratios(part) == [1.0, 1.0]


def test_a_ratio_of_what_was_not_scored_is_unknown(compared):
    found = compared({}, {"duration": [4, math.nan, 4, 4, 4, 4]})
    assert found.lacks("v", "duration_ratio").tolist() == [False, True] + [False] * 4
    found = compared({"duration": [4, math.nan, 4, 4, 4, 4]}, {})
    assert found.lacks("v", "duration_ratio").tolist() == [False, True] + [False] * 4
    assert not found.lacks(BASE_VARIANT, "duration_ratio").any()
