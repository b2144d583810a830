"""The rule for choosing, case by case."""

import math

import pytest

from jobs.metrics.base import ClipScores
from orchestrator.verdict.judge import judge, objective
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import Constraint, MetricVersion
from orchestrator.verdict.table import BASE, ScoreTable

GOOD = {"p808": [3.3, 3.4, 3.3, 3.4]}
"""A gain of 0.35."""
OTHER_VOICE = {"p808": [4.0] * 4, "speaker_similarity": [0.5] * 4}
RUNAWAY = {"p808": [4.0] * 4, "tail_silence": [9.0] * 4}


def test_a_clear_gain_is_promoted_pending_listening(make_table, make_protocol):
    protocol = make_protocol()
    verdict = judge(make_table(protocol, good=GOOD, same={}), protocol)
    assert verdict.verdict == "PROMOTE-PENDING-LISTENING"
    assert verdict.variant == "good"
    assert verdict.runner_up == "same"
    assert verdict.effect.mean == pytest.approx(0.35)
    assert verdict.protocol_hash == protocol.digest()
    assert verdict.row("good").standing == "winner"
    assert verdict.row(BASE).standing == "base"


def test_variants_identical_to_the_base_mean_do_not_fine_tune(make_table, make_protocol):
    protocol = make_protocol()
    verdict = judge(make_table(protocol, a={}, b={}, c={}), protocol)
    assert (verdict.verdict, verdict.variant) == ("DO-NOT-FINE-TUNE", None)
    assert "+0 is below the smallest that counts, 0.1" in verdict.sentence
    assert all(row.objective == 0 for row in verdict.rows)


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (
            OTHER_VOICE,
            "speaker_similarity 0.5 (base 0.9): worse by 0.4, 0.02 allowed",
        ),
        (RUNAWAY, "4 of 4 clips failed, 1 allowed"),
    ],
)
def test_a_better_primary_does_not_buy_a_broken_rule(make_table, make_protocol, scores, reason):
    protocol = make_protocol()
    verdict = judge(make_table(protocol, better=scores), protocol)
    assert verdict.verdict == "DO-NOT-FINE-TUNE"
    assert verdict.row("better").standing == "rejected"
    assert verdict.row("better").reasons[0] == reason
    assert reason in verdict.sentence


def test_a_gain_below_the_minimum_or_not_clear_of_zero_does_not_pass(make_table, make_protocol):
    protocol = make_protocol()
    table = make_table(protocol, small={"p808": [3.05] * 4}, noisy={"p808": [4.5, 2.5, 4.5, 2.5]})
    verdict = judge(table, protocol)
    assert verdict.verdict == "DO-NOT-FINE-TUNE"
    assert verdict.row("small").reasons == ("gain +0.05 is below the smallest that counts, 0.1",)
    assert "not clear of 0" in verdict.row("noisy").reasons[0]
    assert verdict.runner_up == "noisy"


def test_of_variants_that_cannot_be_told_apart_the_smallest_change_wins(
    base, info, speak, make_protocol
):
    protocol = make_protocol()
    best = info("best", rank=64, epoch=1)
    tied = {"p808": [3.4, 3.3, 3.4, 3.3]}
    variants = [
        best,
        info("late", rank=8, lora_scale=1.0, epoch=3),
        info("scaled", rank=8, lora_scale=0.5, epoch=1),
        info("chosen", rank=8, lora_scale=1.0, epoch=2),
    ]
    clips = speak(BASE) + speak("best", p808=[3.5, 3.3, 3.3, 3.4])
    for variant in variants[1:]:
        clips += speak(variant.id, **tied)
    table = ScoreTable.build([base, *variants], clips, protocol)
    verdict = judge(table, protocol)
    assert verdict.variant == "chosen"
    assert "not told apart from the winner" in verdict.row("best").reasons[0]
    assert verdict.row("late").standing == "passed"


def test_a_smaller_rank_that_is_clearly_worse_does_not_win(base, info, speak, make_protocol):
    protocol = make_protocol()
    clips = speak(BASE) + speak("large", p808=[4.0] * 4) + speak("small", p808=[3.5] * 4)
    table = ScoreTable.build([base, info("large", rank=64), info("small", rank=4)], clips, protocol)
    verdict = judge(table, protocol)
    assert (verdict.variant, verdict.runner_up) == ("large", "small")


def test_the_runner_up_is_of_another_trial_where_there_is_one(base, info, speak, make_protocol):
    protocol = make_protocol()
    twin, other = info("twin", trial="good"), info("other")
    clips = speak(BASE) + speak("good", p808=[4.0] * 4)
    clips += speak("twin", p808=[3.9] * 4) + speak("other", p808=[3.2] * 4)
    table = ScoreTable.build([base, info("good"), twin, other], clips, protocol)
    assert judge(table, protocol).runner_up == "other"
    alone = ScoreTable.build(
        [base, info("good"), twin], [c for c in clips if c.variant != "other"], protocol
    )
    assert judge(alone, protocol).runner_up == "twin"


def test_failed_clips_count_as_the_worst_score(make_table, make_protocol):
    protocol = make_protocol(constraints=())
    table = make_table(protocol, v={"p808": [4, 4, 4, 4], "clipping": [0.5, 0, 0, 0]})
    # Three clips gain 1, the clipped one falls from 3 to the bound of 1; one failure is allowed.
    assert objective(table, "v", protocol) == pytest.approx((3 * 1 - 2) / 4)
    assert judge(table, protocol).row("v").failed_clips[0].prompt == "p0"


def test_every_feasible_variant_ranks_above_every_infeasible_one(make_table, make_protocol):
    protocol = make_protocol()
    table = make_table(
        protocol,
        good=GOOD,
        terrible={"p808": [1.0] * 4},
        slightly_off={"p808": [5.0] * 4, "speaker_similarity": [0.87] * 4},
        other_voice=OTHER_VOICE,
        silent={"p808": [math.nan] * 4},
    )
    ranked = ["good", "terrible", "slightly_off", "other_voice", "silent"]
    values = [objective(table, name, protocol) for name in ranked]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
    assert all(math.isfinite(value) for value in values)
    assert objective(table, BASE, protocol) == 0
    assert values == [judge(table, protocol).row(name).objective for name in ranked]


def test_a_lower_is_better_primary_gains_by_falling(make_table, make_protocol):
    protocol = make_protocol(primary="tail_silence", constraints=())
    table = make_table(protocol, calm={"tail_silence": [0.0] * 4}, long={"tail_silence": [1.0] * 4})
    verdict = judge(table, protocol)
    assert verdict.variant == "calm"
    assert verdict.effect.mean == pytest.approx(0.2)
    assert verdict.row("calm").differences["tail_silence"].mean == pytest.approx(-0.2)
    assert objective(table, "long", protocol) == pytest.approx(-0.8)


def test_no_scores_at_all_is_no_verdict(base, info, speak, make_protocol):
    protocol = make_protocol()
    for clips in (
        speak(BASE),
        [*speak(BASE), *(ClipScores("v", c.prompt, 0, {}, {"p808": "x"}) for c in speak("v"))],
        [*(ClipScores(BASE, c.prompt, 0, {}) for c in speak(BASE)), *speak("v", **GOOD)],
    ):
        verdict = judge(ScoreTable.build([base, info("v")], clips, protocol), protocol)
        assert (verdict.verdict, verdict.variant, verdict.effect) == ("NO-VERDICT", None, None)
        assert verdict.row("v").standing == "rejected"
        assert verdict.row("v").reasons


def test_a_truncated_set_is_rejected_for_its_missing_clips(base, info, speak, make_protocol):
    protocol = make_protocol()
    clips = speak(BASE) + speak("half", prompts=2, p808=[5.0, 5.0])
    verdict = judge(ScoreTable.build([base, info("half")], clips, protocol), protocol)
    assert verdict.verdict == "DO-NOT-FINE-TUNE"
    assert verdict.row("half").reasons[0] == "2 of 4 clips failed, 1 allowed"


@pytest.fixture
def finalists(base, info, speak, make_protocol):
    """Two good variants, of which one also got the finalists' metric."""
    word_error = MetricVersion(
        name="word_error", version="1", unit="share", direction="lower", low=0, high=1
    )
    protocol = make_protocol(
        metrics=(*make_protocol().metrics, word_error),
        finalist_metrics=("word_error",),
        constraints=(Constraint(metric="word_error", margin=0.1),),
    )
    clips = speak(BASE, word_error=[0.1] * 4) + speak("other", p808=[5.0] * 4)
    clips += speak("finalist", word_error=[0.1] * 4, **GOOD)
    return ScoreTable.build([base, info("finalist"), info("other")], clips, protocol), protocol


def test_only_a_finalist_can_win(finalists):
    verdict = judge(*finalists)
    assert verdict.variant == "finalist"
    assert verdict.row("other").reasons == ("not a finalist: word_error was not measured",)


def test_the_objective_leaves_out_what_only_finalists_have(finalists):
    table, protocol = finalists
    assert objective(table, "other", protocol) == pytest.approx(2.0)


def test_loss_is_compared_with_the_primary_as_trained(base, info, speak, make_protocol):
    protocol = make_protocol()
    scores = {"a": (1.0, 3.1), "b": (2.0, 3.2), "c": (3.0, 3.3)}
    variants, clips = [base], speak(BASE)
    for name, (loss, p808) in scores.items():
        for scale in (0.5, 1.0):
            variants.append(
                info(f"{name}{scale}", trial=name, lora_scale=scale, validation_loss=loss)
            )
            clips += speak(f"{name}{scale}", p808=[p808 * scale] * 4)
    loss = judge(ScoreTable.build(variants, clips, protocol), protocol).loss
    assert (loss.spearman, loss.checkpoints) == (pytest.approx(1.0), 3)
    assert (loss.lowest, loss.lowest_rank, loss.variants) == ("a1.0", 3, 6)


def test_a_diverged_loss_is_left_out(base, info, speak, make_protocol):
    protocol = make_protocol()
    clips = speak(BASE) + speak("v")
    table = ScoreTable.build([base, info("v", validation_loss=math.nan)], clips, protocol)
    assert judge(table, protocol).loss is None


def test_the_same_table_gives_the_same_verdict_and_reads_back(make_table, make_protocol):
    protocol = make_protocol()
    first, again = (
        judge(make_table(protocol, good=GOOD, other_voice=OTHER_VOICE, runaway=RUNAWAY), protocol)
        for _ in range(2)
    )
    assert first == again
    assert Verdict.from_json(first.to_json()) == first
