"""Whether a file sounds as its voice: shown within the margins, or not claimed."""

import numpy as np
import pytest

from benchmarks.verdicts import SAMENESS, claims_of_sameness
from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.equivalence import Hosting, judge_equivalence, two_one_sided
from orchestrator.verdict.protocol import Constraint
from orchestrator.verdict.table import ScoreTable

MARGINS = (Constraint(metric="speaker_similarity", margin=0.02),)
FILES = ("f16", "q8_0", "q4_0")


def test_the_test_rejects_just_where_the_interval_lies_within_the_margin():
    rng = np.random.default_rng(1)
    decided = set()
    for shift in np.linspace(-0.03, 0.03, 25):
        p, interval = two_one_sided(rng.normal(shift, 0.05, 60), 0.02, 0.05)
        is_within = interval.low > -0.02 and interval.high < 0.02
        assert (p < 0.05) is is_within
        decided.add(is_within)
    assert decided == {True, False}


def test_it_is_the_larger_of_two_tests_of_student():
    from scipy.stats import ttest_1samp

    differences = np.random.default_rng(2).normal(0.004, 0.05, 40)
    p, interval = two_one_sided(differences, 0.02, 0.05)
    sides = [
        ttest_1samp(differences, 0.02, alternative="less").pvalue,
        ttest_1samp(differences, -0.02, alternative="greater").pvalue,
    ]
    assert p == pytest.approx(max(sides))
    wanted = ttest_1samp(differences, 0).confidence_interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((wanted.low, wanted.high))


@pytest.mark.parametrize(("shift", "p"), [(0.0, 0.0), (0.02, 1.0), (-0.03, 1.0)])
def test_without_any_spread_what_was_seen_decides(shift, p):
    assert two_one_sided(np.full(9, shift), 0.02, 0.05)[0] == p


@pytest.fixture
def hear(make_protocol, base, info, speak):
    """Files of a voice on 24 prompts; each with the similarities given."""

    def judged(**files):
        rule = make_protocol(length=12).confirming()
        rows = [*speak(BASE_VARIANT, 24, of="c"), *speak("voice", 24, of="c")]
        rows += [row for name, scores in files.items() for row in speak(name, 24, of="c", **scores)]
        infos = [base, info("voice"), *(info(name) for name in files)]
        fresh = Comparison(ScoreTable.build(infos, rows, rule), rule)
        return judge_equivalence(fresh, "voice", [*files], MARGINS)

    return judged


SAME = {"speaker_similarity": [0.9, 0.901, 0.899]}
OFF = {"speaker_similarity": [0.8, 0.81, 0.79]}
UNSURE = {"speaker_similarity": [0.99, 0.8, 0.9]}


def test_each_file_is_tested_while_all_before_it_pass(hear):
    found = hear(f16=SAME, q8_0=SAME, q4_0=OFF)
    assert [each.finding for each in found] == ["equivalent", "equivalent", "different"]
    assert [each.passes for each in found] == [True, True, False]
    assert "margin 0.02" in found[2].reasons[0]


def test_behind_a_file_that_does_not_pass_none_does(hear):
    first, second = hear(q8_0=UNSURE, q4_0=SAME)
    assert (first.finding, first.passes) == ("undecided", False)
    assert (second.finding, second.passes) == ("equivalent", False)
    assert second.reasons == ("a larger file is not equivalent",)


def test_a_file_with_failed_clips_is_not_the_voice(hear):
    failing = {**SAME, "tail_silence": [0.2] * 8 + [9.0, 0.2, 0.2, 9.0]}
    (found,) = hear(q4_0=failing)
    assert (found.failed, found.allowed, found.passes) == (4, 1, False)
    assert "4 of 24 clips fail, 1 are allowed" in found.reasons[-1]


def test_better_by_more_than_the_margin_is_not_the_same(hear):
    (found,) = hear(q8_0={"speaker_similarity": [0.95, 0.96, 0.94]})
    assert found.finding == "different"


@pytest.mark.parametrize("world", [world for world in SAMENESS if world.is_common])
def test_at_the_margin_five_in_a_hundred_are_called_the_same(world):
    assert claims_of_sameness(world, 96, runs=2000, seed=3) <= 0.06


def test_what_is_written_is_read_again(hear):
    from orchestrator.verdict.equivalence import HostedFile

    found = hear(q8_0=SAME)
    file = HostedFile("q8_0", 9, 1.0, 0.1, 0.2, 0.3, 4, found[0])
    hosting = Hosting("voice", "a machine", (file,), "q8_0")
    assert Hosting.from_json(hosting.to_json()) == hosting
