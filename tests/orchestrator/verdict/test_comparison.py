"""Failed clips, constraints and assessments, on tables small enough to count."""

import math
from dataclasses import replace

import numpy as np
import pytest

from jobs.metrics.base import BROKEN_AUDIO, ClipScores
from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict import sentences
from orchestrator.verdict.comparison import FAILED_CLIPS, Comparison
from orchestrator.verdict.protocol import Constraint, Gates, Prompt
from orchestrator.verdict.table import ScoreTable
from tests.orchestrator.verdict.conftest import HEALTHY


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({"end_of_speech_failure": [0, 1, 0, 0]}, "no end of speech before the length limit"),
        ({"duration": [4, 9, 4, 4]}, "9.0 s, 2.25 x the base (allowed 0.5 to 2)"),
        ({"duration": [4, 1, 4, 4]}, "1.0 s, 0.25 x the base (allowed 0.5 to 2)"),
        ({"tail_silence": [0, 2.5, 2.0, 0]}, "2.5 s silence at the end (allowed 2 s)"),
        ({"clipping": [0, 0.02, 0.01, 0]}, "2.0% of samples clipped (allowed 1.0%)"),
        ({"duration": [4, 2, 4, 4], "tail_silence": [0, 2, 0, 0]}, "no speech in 2.0 s"),
    ],
)
def test_each_gate_fails_the_clip_beyond_its_bound_and_no_other(
    make_table, make_protocol, scores, reason
):
    (failed,) = Comparison(make_table(v=scores), make_protocol()).failed_clips("v")
    assert (failed.prompt, failed.reasons) == ("p1", (reason,))


def test_a_clip_fails_once_with_all_its_reasons(make_table, make_protocol):
    table = make_table(v={"duration": [4, 9, 4, 4], "tail_silence": [0, 5, 0, 0]})
    (failed,) = Comparison(table, make_protocol()).failed_clips("v")
    assert len(failed.reasons) == 2


def test_one_failed_clip_more_than_the_base_is_allowed_two_are_not(make_table, make_protocol):
    silence = {"one": [9, 0, 0, 0], "two": [9, 9, 0, 0]}
    table = make_table(**{name: {"tail_silence": values} for name, values in silence.items()})
    assert Comparison(table, make_protocol()).failure_gate("one").violation == 0
    gate = Comparison(table, make_protocol()).failure_gate("two")
    assert (gate.failed, gate.allowed, gate.clips, gate.violation) == (2, 1, 4, 0.25)


def test_the_share_of_excess_failures_counts_on_long_sets(make_table, make_protocol):
    protocol = make_protocol(100, gates=Gates(excess_failures=0.29))
    table = make_table(protocol, v={"clipping": [0.5] * 29 + [0.0] * 71})
    assert Comparison(table, protocol).failure_gate("v").allowed == 29


def test_the_bases_own_failures_are_allowed_for(base, info, speak, make_protocol):
    clips = speak(BASE_VARIANT, tail_silence=[9, 9, 0, 0]) + speak("v", tail_silence=[0, 9, 9, 9])
    table = ScoreTable.build([base, info("v")], clips, make_protocol())
    assert Comparison(table, make_protocol()).failure_gate("v").allowed == 3


def test_twenty_copies_of_a_text_weigh_as_one(make_table, make_protocol):
    """Whatever the copies score, it is their mean beside that of each other text."""
    copies = [Prompt(id=f"p{i}", text=f"Wash the dishes, twice if need be: {i}") for i in range(20)]
    others = [Prompt(id=f"p{i}", text=f"Text {i}.") for i in range(20, 24)]
    protocol = make_protocol(24, prompts=(*copies, *others))
    scores = [3 + i / 10 for i in range(20)] + [3.2, 3.4, 3.1, 3.5]
    comparison = Comparison(make_table(protocol, v={"p808": scores}), protocol)
    assert comparison.gains("v").tolist() == pytest.approx([0.95, 0.2, 0.4, 0.1, 0.5])
    gain = comparison.row("v").gain
    assert (gain.n, gain.mean) == (5, pytest.approx(0.43))
    assert comparison.failure_gate("v").clips == 24
    part = comparison.only([*copies[:3], *others])
    assert part.gains("v").tolist() == pytest.approx([0.1, 0.2, 0.4, 0.1, 0.5])


def test_a_clip_that_fails_a_gate_loses_its_score_where_scores_decide(make_table, make_protocol):
    protocol = make_protocol()
    table = make_table(protocol, v={"p808": [4, 4, 4, 4], "tail_silence": [0, 9, 0, 0]})
    comparison = Comparison(table, protocol)
    assert comparison.scores("v", "p808").tolist() == [4.0, 1.0, 4.0, 4.0]
    assert comparison.scores("v", "speaker_similarity").tolist() == [0.9, -1.0, 0.9, 0.9]
    assert comparison.scores("v", "tail_silence").tolist() == [0.0, 9.0, 0.0, 0.0]


def check(table, protocol):
    (found,) = Comparison(table, protocol).constraint_checks("v")
    return found


def test_a_constraint_compares_the_bound_of_the_paired_difference_with_the_margin(
    make_table, make_protocol
):
    protocol = make_protocol()
    worse = check(make_table(v={"speaker_similarity": [0.8, 0.8, 0.9, 0.9]}), protocol)
    assert worse.worsening.mean == pytest.approx(0.05)
    assert (worse.base, worse.variant) == (pytest.approx(0.9), pytest.approx(0.85))
    # Four prompts: the worst resampled mean is 0.1, and the widened tail reaches it.
    assert worse.bound == pytest.approx(0.1)
    assert worse.violation == pytest.approx((0.1 - 0.02) / 2)
    better = check(make_table(v={"speaker_similarity": [1, 1, 1, 1]}), protocol)
    assert better.worsening.mean == pytest.approx(-0.1)
    assert better.violation == 0


def test_exactly_at_the_margin_is_allowed(make_table, make_protocol):
    assert check(make_table(v={"speaker_similarity": [0.88] * 4}), make_protocol()).violation == 0


@pytest.mark.parametrize("rate", [[10.0] * 4, [14.0] * 4])
def test_a_metric_without_a_better_direction_is_held_both_ways(make_table, make_protocol, rate):
    protocol = make_protocol(constraints=(Constraint(metric="rate_ratio", margin=0.1),))
    broken = check(make_table(protocol, v={"speaking_rate": rate}), protocol)
    assert broken.worsening.mean == pytest.approx(2 / 12)
    assert broken.violation == pytest.approx((2 / 12 - 0.1) / 2)


def test_a_lower_is_better_constraint_worsens_upwards(make_table, make_protocol):
    protocol = make_protocol(constraints=(Constraint(metric="tail_silence", margin=0.5),))
    worse = check(make_table(protocol, v={"tail_silence": [1.2] * 4}), protocol)
    assert worse.worsening.mean == pytest.approx(1.0)
    assert np.isclose(worse.violation, 0.5 / 30)


def test_a_missing_metric_that_decides_nothing_fails_no_clip(make_table, make_protocol):
    protocol = make_protocol()
    table = make_table(protocol, v={"speaking_rate": [math.nan] * 4})
    assert Comparison(table, protocol).unscored_clips("v") == {}
    held = make_protocol(constraints=(Constraint(metric="rate_ratio", margin=0.1),))
    assert len(Comparison(table, held).unscored_clips("v")) == 4


def lost(clips, *prompts, metric="p808", reason="no value"):
    """The same clips, these prompts without a score in a metric."""
    return [
        replace(
            clip,
            values={name: value for name, value in clip.values.items() if name != metric},
            failures={metric: reason} if reason else {},
        )
        if clip.prompt in prompts
        else clip
        for clip in clips
    ]


def test_what_was_not_scored_has_not_failed_and_says_why(base, info, speak, make_protocol):
    clips = [*speak(BASE_VARIANT), *lost(speak("v"), "p1", reason="crashed")]
    comparison = Comparison(
        ScoreTable.build([base, info("v")], clips, make_protocol()), make_protocol()
    )
    assert comparison.failed_clips("v") == ()
    assert comparison.unscored_clips("v") == {("p1", 0): "no score (p808: crashed)"}


@pytest.mark.parametrize(
    ("whose", "against", "in_favour"), [("v", 1.0 - 3.0, 5.0 - 3.0), ("base", 3.0 - 5.0, 3.0 - 1.0)]
)
def test_what_was_not_scored_counts_against_the_variants_or_in_the_lenient_view_for_them(
    base, info, speak, make_protocol, whose, against, in_favour
):
    clips = {name: speak(name) for name in (BASE_VARIANT, "v")}
    clips[whose] = lost(clips[whose], "p1")
    table = ScoreTable.build(
        [base, info("v")], [*clips[BASE_VARIANT], *clips["v"]], make_protocol()
    )
    comparison = Comparison(table, make_protocol())
    assert comparison.gains("v").tolist() == [0, against, 0, 0]
    assert comparison.lenient.gains("v").tolist() == [0, in_favour, 0, 0]
    assert comparison.lenient.lenient is comparison.lenient
    # It may have failed, if it is the variant's, and the base's may have kept the gates.
    gate, lenient = comparison.failure_gate("v"), comparison.lenient.failure_gate("v")
    assert (gate.failed, gate.allowed) == ((1, 1) if whose == "v" else (0, 1))
    assert (lenient.failed, lenient.allowed) == ((0, 1) if whose == "v" else (0, 2))


def test_a_metric_without_a_better_side_counts_what_was_not_scored_on_either_side(
    base, info, speak, make_protocol
):
    protocol = make_protocol(constraints=(Constraint(metric="speaking_rate", margin=1.0),))
    clips = [*speak(BASE_VARIANT), *lost(speak("v"), "p1", metric="speaking_rate")]
    comparison = Comparison(ScoreTable.build([base, info("v")], clips, protocol), protocol)
    # 12 characters a second may have been 40 or none.
    assert check(comparison.table, protocol).worsening.mean == pytest.approx((40 - 12) / 4)
    assert not comparison.is_harmful("v")


def test_a_lead_is_the_least_that_it_may_be(base, info, speak, make_protocol):
    clips = [*lost(speak(BASE_VARIANT), "p0"), *lost(speak("v"), "p1"), *lost(speak("w"), "p2")]
    comparison = Comparison(
        ScoreTable.build([base, info("v"), info("w")], clips, make_protocol()), make_protocol()
    )
    # The base's own clip does not matter between two others.
    assert comparison.lead("v", "w").tolist() == [0, 1.0 - 3.0, 3.0 - 5.0, 0]


def test_without_anything_missing_both_views_are_one(make_table, make_protocol):
    comparison = Comparison(make_table(v={}), make_protocol())
    assert comparison.lenient is comparison


def test_broken_audio_was_spoken_and_has_failed(base, info, speak, make_protocol):
    broken = ClipScores("v", "p1", 0, {}, dict.fromkeys(HEALTHY, f"{BROKEN_AUDIO}empty audio"))
    clips = [*speak(BASE_VARIANT), *(c for c in speak("v") if c.prompt != "p1"), broken]
    comparison = Comparison(
        ScoreTable.build([base, info("v")], clips, make_protocol()), make_protocol()
    )
    (failed,) = comparison.failed_clips("v")
    assert failed.reasons == ("broken audio: empty audio",)
    assert comparison.unscored_clips("v") == {}
    assert comparison.lenient is comparison


def test_harm_is_shown_by_the_whole_interval_and_kept_rules_by_the_bound(make_table, make_protocol):
    protocol = make_protocol(8)
    worse = {"all": [0.8], "some": [0.84, 0.9], "hardly": [0.86, 0.9], "none": [0.9]}
    table = make_table(protocol, **{n: {"speaker_similarity": of} for n, of in worse.items()})
    comparison = Comparison(table, protocol)
    assert [n for n in worse if comparison.is_harmful(n)] == ["all"]
    assert [n for n in worse if comparison.is_plausible(n)] == ["hardly", "none"]
    assert [n for n in worse if comparison.violation(n) == 0] == ["none"]


def test_more_failures_than_allowed_are_harm_where_they_are_no_chance(make_table, make_protocol):
    protocol = make_protocol(16)
    failing = {name: [9.0] * n + [0.0] * (16 - n) for name, n in (("two", 2), ("eight", 8))}
    table = make_table(protocol, **{n: {"tail_silence": of} for n, of in failing.items()})
    comparison = Comparison(table, protocol)
    assert all(comparison.failure_gate(name).violation for name in failing)
    assert [name for name in failing if comparison.is_harmful(name)] == ["eight"]


@pytest.fixture
def assessed(make_table, make_protocol):
    protocol = make_protocol()
    table = make_table(
        protocol,
        good={"p808": [3.3, 3.4]},
        terrible={"p808": [1.0]},
        slightly_off={"p808": [5.0], "speaker_similarity": [0.87]},
        endless={"p808": [5.0], "end_of_speech_failure": [1.0]},
    )
    comparison = Comparison(table, protocol)
    names = ("good", "terrible", "slightly_off", "endless")
    found = {name: comparison.assess(name) for name in names}
    assert all(found[name].objective == comparison.row(name).objective for name in names)
    return found


def test_what_keeps_everything_promises_its_gain(assessed):
    for name in ("good", "terrible"):
        assert assessed[name].promise == assessed[name].objective
        assert all(value <= 0 for value in assessed[name].constraints.values())


def test_what_breaks_little_for_much_promises_more_than_what_breaks_nothing(assessed):
    """Which an objective never grants."""
    assert assessed["slightly_off"].objective < assessed["terrible"].objective
    assert assessed["slightly_off"].promise > assessed["good"].promise
    assert assessed["slightly_off"].constraints["speaker_similarity"] == pytest.approx(0.01)
    assert assessed["slightly_off"].measured["speaker_similarity"] == pytest.approx(0.87)


def test_clips_that_fail_are_counted_and_cost_the_promise(assessed):
    assert assessed["endless"].constraints[FAILED_CLIPS] > 0
    assert assessed["endless"].promise < assessed["terrible"].promise


def test_gates_are_no_measurement(assessed):
    assert "end_of_speech_failure" not in assessed["good"].measured
    assert assessed["good"].measured["p808"] == pytest.approx(3.35)


def test_an_adapter_whose_every_score_is_the_bases_does_nothing(make_table, make_protocol):
    protocol = make_protocol()
    row = Comparison(make_table(protocol, v={}), protocol).row("v")
    assert row.does_nothing
    assert sentences.no_gain_reason(row, protocol) == sentences.DOES_NOTHING
    other = Comparison(make_table(protocol, v={"duration": [4, 4, 4, 4.1]}), protocol).row("v")
    assert not other.does_nothing
    assert "is below the smallest that counts" in sentences.no_gain_reason(other, protocol)
