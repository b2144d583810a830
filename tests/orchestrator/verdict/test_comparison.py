"""Failed clips, constraints and assessments, on tables small enough to count."""

import math

import numpy as np
import pytest

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.comparison import FAILED_CLIPS, Comparison
from orchestrator.verdict.protocol import Constraint, Gates, Prompt
from orchestrator.verdict.table import ScoreTable


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({"end_of_speech_failure": [0, 1, 0, 0]}, "no end of speech before the length limit"),
        ({"duration": [4, 9, 4, 4]}, "9.0 s, 2.25 x the base (allowed 0.5 to 2)"),
        ({"duration": [4, 1, 4, 4]}, "1.0 s, 0.25 x the base (allowed 0.5 to 2)"),
        ({"tail_silence": [0, 2.5, 2.0, 0]}, "2.5 s silence at the end (allowed 2 s)"),
        ({"clipping": [0, 0.02, 0.01, 0]}, "2.0% of samples clipped (allowed 1.0%)"),
        ({"p808": [3, math.nan, 3, 3]}, "no score (p808: no value)"),
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
    assert Comparison(table, protocol).failed_clips("v") == ()
    held = make_protocol(constraints=(Constraint(metric="rate_ratio", margin=0.1),))
    assert len(Comparison(table, held).failed_clips("v")) == 4


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
