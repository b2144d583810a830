"""A speaker's clips in numbers that can be worked out by hand."""

import math

import numpy as np
import pytest

from jobs.diversity.clips import judge_clips
from jobs.diversity.summary import Distribution, effective_rank, sd_excess, summarise

FLOOR = 0.1


def test_a_distribution():
    found = Distribution.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found == Distribution(
        clips=5, median=3.0, p5=1.2, p10=1.4, iqr=2.0, mean=3.0, sd=pytest.approx(math.sqrt(2.5))
    )
    assert Distribution.of([2.0]).sd is None


def test_the_floor_is_taken_out_of_variances():
    assert sd_excess(0.5, 0.3) == pytest.approx(0.4)
    assert sd_excess(0.2, 0.3) == 0.0


def test_effective_rank_of_known_matrices():
    columns = np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, 1, -1, -1] * 2, [1, -1] * 4]).T
    assert effective_rank(columns.astype(float)) == pytest.approx(3.0)
    same = columns[:, [0, 0, 0]] * np.array([1.0, -5.0, 0.1])
    assert effective_rank(same) == pytest.approx(1.0)
    # Correlation r: eigenvalues 1 + r and 1 - r.
    half = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [-1, -1], [-1, -1], [-1, 1.0]])
    r = 1 / 3
    entropy = -sum(x / 2 * math.log(x / 2) for x in (1 + r, 1 - r))
    assert effective_rank(half) == pytest.approx(math.exp(entropy))


def test_effective_rank_leaves_out_what_never_differs():
    table = np.array([[1.0, 3.0], [2.0, 3.0], [4.0, 3.0]])
    assert effective_rank(table) == pytest.approx(1.0)
    assert effective_rank(table[:2]) is None
    assert effective_rank(table[:, 1:]) is None


def test_a_speaker_by_hand(typical):
    clips = [
        typical("red", dnsmos_ovrl=3.0),
        typical("Red!", dnsmos_ovrl=3.4, duration=12.0),
        typical("blue", dnsmos_ovrl=2.0, duration=30.0),
        typical("green", failures={"f0_sd": "no voice", "log2_f0": "no voice"}, duration=12.0),
    ]
    (summary,) = summarise(judge_clips(clips), ["red", "bread"], FLOOR)
    assert (summary.speaker, summary.clips, summary.unmeasured) == ("ada", 4, 1)
    assert summary.minutes == 1.0
    assert summary.clean_minutes == pytest.approx(0.3)
    assert summary.bad_share == 0.5
    assert summary.repeated_share == 0.25
    # Of "red": ^r re ed d$; of "bread" also: ^b br ea ad. Heard are the first four and ^b.
    assert summary.bigram_coverage == 5 / 8
    quality = summary.features["dnsmos_ovrl"]
    assert quality.sd == pytest.approx(np.std([3.0, 3.4, 2.0, 3.2], ddof=1))
    assert summary.quality_excess == pytest.approx(math.sqrt(quality.sd**2 - FLOOR**2))
    assert summary.features["f0_sd"].clips == 3
    assert summary.voice_ceiling == 0.7


def test_speakers_come_by_their_minutes(typical, varied):
    clips = [typical(speaker="bea"), *varied(5, "ada"), typical(speaker="<b>", duration=90.0)]
    found = summarise(judge_clips(clips), ["x"], FLOOR)
    assert [summary.speaker for summary in found] == ["<b>", "ada", "bea"]
    alone = found[-1]
    assert (alone.quality_excess, alone.effective_rank, alone.features["level"].sd) == (None,) * 3


def test_other_speakers_set_the_ceiling(typical):
    clips = [typical(other_similarity=c) for c in np.linspace(0.5, 0.6, 21)]
    (summary,) = summarise(judge_clips(clips), ["x"], FLOOR)
    assert summary.voice_ceiling == pytest.approx(0.595)


def test_a_speaker_of_whom_nothing_was_measured(typical):
    failures = dict.fromkeys(typical().values, "silence")
    (summary,) = summarise(judge_clips([typical(failures=failures)]), ["x"], FLOOR)
    assert (summary.minutes, summary.bad_share, summary.unmeasured) == (0.0, 1.0, 1)
    assert summary.features == {}
