"""Who counts in a panel, and what the rest decide, with and without any one of them."""

from dataclasses import replace

import numpy as np
import pytest
from _panels import protocol_of

from benchmarks.panels import World
from orchestrator.verdict.listening.panel import PENDING, count_raters, hear
from orchestrator.verdict.listening.ratings import Rating, Ratings
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import Listening

RULE = Listening()
CLEAR = World(gain=0.8, taste=0.0)
GAP = np.nan


@pytest.fixture
def scores():
    """A panel of 8 over 20 that hears a clear gain: shape (raters, sentences, systems, axes)."""
    return CLEAR.scores(np.random.default_rng(3))


def heard(scores, *more):
    return hear(Ratings.build([*World().rows(scores), *more]), "tuned", protocol_of(500))


def excluded(report):
    return {each.rater: (each.rule, each.reason) for each in report.excluded}


def test_a_clean_panel_promotes_a_clear_gain(scores):
    report = heard(scores)
    assert (report.verdict, report.raters, report.sentences) == ("PROMOTE", 8, 20)
    assert (report.excluded, report.turns_on, report.group) == ((), (), None)
    assert list(report.result.without) == [f"r0{i}" for i in range(8)]
    differences = scores.mean(axis=-1)[..., 1] - scores.mean(axis=-1)[..., 0]
    for place, part in enumerate(report.result.without.values()):
        assert part.mean == pytest.approx(np.delete(differences, place, axis=0).mean())
        assert part.n == 140


def test_whoever_misses_a_trap_or_contradicts_themselves_does_not_count(scores):
    trap = Rating("r01", "trap 1", "", "prosody", 3, "trap", 2)
    caught = replace(trap, score=2)
    first = int(scores[2, 0, 0, 0])
    far, near = (5 if first < 3 else 1), min(5, first + 1)
    again = Rating("r02", "b00", "base", "naturalness", far, "repeat")
    alike = Rating("r03", "b00", "base", "naturalness", int(scores[3, 0, 0, 0]), "repeat")
    assert abs(near - first) <= 1 < abs(far - first)
    report = heard(scores, trap, caught, replace(caught, rater="r04"), again, alike)
    assert excluded(report) == {
        "r01": ("traps", "missed 1 of 2 traps, 0 allowed"),
        "r02": (
            "repeats",
            f"repeats are {abs(far - first)} points from the first scores on average, 1.25 allowed",
        ),
    }
    assert (report.verdict, report.raters) == (PENDING, 6)


def test_one_person_under_eight_names_is_one_rater(scores):
    report = heard(scores[:1].repeat(8, axis=0))
    assert (report.verdict, report.result) == (PENDING, None)
    assert report.raters <= 1
    assert excluded(report)["r07"] == ("copy", "is r00 again: of 120 scores 0 differ")


@pytest.mark.parametrize("shift", [0, 1])
def test_a_copy_that_was_retouched_or_shifted_is_found(scores, shift):
    scores = scores.clip(1, 4)
    scores[5] = scores[4] + shift
    scores[5].flat[::10] += np.where(scores[5].flat[::10] > 3, -1, 1)
    assert {name: rule for name, (rule, _) in excluded(heard(scores)).items()} == {"r05": "copy"}


def test_agreement_at_the_ends_of_the_scale_makes_nobody_a_copy(scores):
    scores[:, :, 0] = 1
    assert heard(scores).excluded == ()


def test_raters_who_share_few_sentences_are_not_compared(scores):
    scores[1] = scores[0]
    scores[1, 3:] = GAP
    small = RULE.model_copy(update={"sentences": 3})
    gone, _ = count_raters(Ratings.build(World().rows(scores)), "tuned", small)
    assert gone == (), "18 scores that agree are chance"


def test_one_who_heard_all_and_seven_who_heard_one_are_no_panel(scores):
    scores[1:, 1:] = GAP
    report = heard(scores)
    assert (report.verdict, report.result) == (PENDING, None)
    assert excluded(report)["r01"] == (
        "coverage",
        "rated both systems on 1 of the 20 sentences that at least 1 share; 16 are needed",
    )
    assert "r00" not in excluded(report)


def test_a_sentence_that_few_have_heard_does_not_count(scores):
    scores[2:, 19] = GAP
    report = heard(scores)
    assert (report.raters, report.sentences, report.excluded) == (8, 19, ())
    assert report.result.difference.n == 8 * 19


def test_coverage_is_of_what_was_rated_while_the_test_goes_on(scores):
    report = heard(scores[:3, :5])
    assert (report.verdict, report.raters, report.sentences) == (PENDING, 3, 5)
    assert report.result.difference.n == 15


def test_a_panel_that_turns_on_one_rater_says_so_and_does_not_decide():
    scores = World(gain=0.25, taste=0.0).scores(np.random.default_rng(9))
    scores[3, :, 1] = np.clip(scores[3, :, 1] + 1, 1, 5)
    report = heard(scores)
    assert report.result.difference.low > 0
    assert report.result.difference.mean >= RULE.min_effect
    assert "r03" in report.turns_on
    assert report.verdict == PENDING


def test_nobody_is_named_for_keeping_a_panel_from_deciding():
    scores = World(gain=0.5, taste=0.0).scores(np.random.default_rng(2))
    scores[3, :, 1] = np.clip(scores[3, :, 1] - 3, 1, 5)
    report = heard(scores)
    assert report.result.difference.low < 0 < report.result.without["r03"].low
    assert (report.verdict, report.turns_on) == (PENDING, ())


def test_one_rater_between_worse_and_no_better_leaves_the_weaker_claim():
    scores = World(gain=-0.1, taste=0.0).scores(np.random.default_rng(2))
    scores[3, :, 1] = np.clip(scores[3, :, 1] - 1, 1, 5)
    report = heard(scores)
    assert report.result.difference.high < 0 <= report.result.without["r03"].high
    assert (report.verdict, report.turns_on) == ("DO-NOT-FINE-TUNE", ())


def test_too_few_raters_decide_nothing_however_clear(scores):
    assert heard(scores[:7]).verdict == PENDING


def test_what_is_excluded_survives_verdict_json(scores, make_verdict, info, speak):
    scores[1] = scores[0]
    verdict = make_verdict([info("good")], [*speak("base"), *speak("good")])
    verdict = replace(verdict, listening=(replace(heard(scores), group=("language", "ko")),))
    assert Verdict.from_json(verdict.to_json()) == verdict
