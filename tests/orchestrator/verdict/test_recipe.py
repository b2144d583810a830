"""Whether the winner's hyperparameters gain with other seeds, case by case."""

from dataclasses import replace

import pytest

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.outcome import Verdict

GOOD = [3.3, 3.4, 3.35, 3.45]
"""A gain of 0.375."""
NAMES = ("r1", "r2", "r3")


@pytest.fixture
def judged(make_verdict, make_protocol, info, speak):
    """The verdict on a good checkpoint whose replicates score so; ``asked`` of them."""

    def make(*scores, asked=3, lost=0):
        clips = [*speak(BASE_VARIANT), *speak("good", p808=GOOD)]
        fresh = []
        for name, of in zip(NAMES, scores, strict=False):
            rows = speak(name, of="c", **of)
            unscored = {"values": {}, "failures": {"p808": "no score"}}
            fresh += [*(replace(row, **unscored) for row in rows[:lost]), *rows[lost:]]
        replicates = [info(name, replicate_of="good") for name in NAMES[: len(scores)]]
        rule = make_protocol(confirm_seeds=asked)
        return make_verdict([info("good")], clips, rule, fresh, replicates)

    return make


def test_a_recipe_whose_every_seed_gains_is_better(judged):
    verdict = judged(*({"p808": [x + more for x in GOOD]} for more in (0.0, 0.02, -0.02)))
    recipe = verdict.recipe
    assert recipe.finding == "better"
    assert recipe.reasons == ()
    assert [each.gain.mean for each in recipe.replicates] == pytest.approx([0.375, 0.395, 0.355])
    assert recipe.gain.mean == pytest.approx(0.375)
    assert recipe.gain.low > 0
    assert recipe.confidence == pytest.approx(0.9)
    assert recipe.seed_sd == pytest.approx(0.02)
    assert 0 < recipe.claim.mean <= recipe.gain.mean
    assert " Its recipe (rank 16, learning rate 1e-4) is better too: " in verdict.sentence
    assert "trained with 3 other seeds it gains" in verdict.sentence
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_a_recipe_that_does_not_gain_leaves_the_checkpoint(judged):
    verdict = judged(*({"p808": [3.0 + more]} for more in (0.0, 0.01, -0.01)))
    assert verdict.recipe.finding == "only the checkpoint"
    assert "Only this checkpoint is better, not its recipe" in verdict.sentence
    assert (verdict.verdict, verdict.variant) == ("PROMOTE-PENDING-LISTENING", "good")


def test_seeds_that_differ_by_more_than_they_gain_decide_nothing(judged):
    verdict = judged(*({"p808": [3.0 + more]} for more in (0.9, 0.0, -0.3)))
    assert verdict.recipe.finding == "undecided"
    assert "not clear of 0" in verdict.recipe.reasons[0]
    assert "Whether its recipe (rank 16, learning rate 1e-4) is better is undecided" in (
        verdict.sentence
    )


def test_a_recipe_that_breaks_a_constraint_is_not_better(judged):
    """The voice is worse by 0.4 with every seed, and the margin is 0.02."""
    scores = [{"p808": [3.4 + x], "speaker_similarity": [0.5 + x]} for x in (0.0, 0.01, -0.01)]
    verdict = judged(*scores)
    (check,) = verdict.recipe.constraints
    assert check.worsening.mean == pytest.approx(0.4)
    assert verdict.recipe.finding == "only the checkpoint"
    assert verdict.recipe.reasons[0].startswith("speaker_similarity 0.5 (base 0.9): worse by 0.4")


def test_a_recipe_whose_clips_fail_is_not_better(judged):
    """Of each seed's 8 clips 2 fail, and 1 may; the rest of them are so good that it gains."""
    scores = [{"p808": [5.0, 5.0, 5.0, 5.0 - x], "tail_silence": [9.0, 0, 0, 0]} for x in (0, 0.1)]
    verdict = judged(*scores, scores[0])
    assert verdict.recipe.gain.mean > 0.1
    assert "2 of 8 clips fail on average, 1 allowed" in verdict.recipe.reasons
    assert verdict.recipe.finding == "undecided"


@pytest.mark.parametrize("heard", [0, 2])
def test_without_all_replicates_nothing_is_found(judged, heard):
    verdict = judged(*[{"p808": GOOD}] * heard)
    assert verdict.recipe.finding == "undecided"
    assert verdict.recipe.reasons == (f"{heard} of 3 replicates have scores of set B",)
    assert (verdict.recipe.gain, verdict.recipe.claim) == (None, None)
    assert f"is undecided: {heard} of 3 replicates" in verdict.sentence


def test_scores_that_are_missing_count_against_whatever_is_claimed(judged):
    """Without them the recipe gains, or does not; with them it may be the other way round."""
    for scores, finding in ((GOOD, "better"), ([3.0], "only the checkpoint")):
        assert judged(*[{"p808": scores}] * 3).recipe.finding == finding
        assert judged(*[{"p808": scores}] * 3, lost=2).recipe.finding == "undecided"


def test_nothing_is_tested_unless_it_is_asked_for(judged):
    verdict = judged(asked=0)
    assert verdict.recipe is None
    assert "whether its hyperparameters gain with another seed was not tested" in verdict.sentence


def test_replicates_change_nothing_of_the_promotion(judged):
    bad = judged(*[{"p808": [1.0]}] * 3)
    none = judged(asked=0)
    assert bad.recipe.finding == "only the checkpoint"
    same = {"recipe": None, "sentence": "", "protocol_hash": ""}
    assert replace(bad, **same) == replace(none, **same)
