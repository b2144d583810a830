"""Bad clips and the worst of them."""

import pytest

from jobs.diversity.clips import WORST, judge_clips, worst


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"dnsmos_ovrl": 2.29}, "low quality: DNSMOS OVRL 2.29, under 2.3"),
        ({"dnsmos_bak": 3.4}, "background noise: DNSMOS BAK 3.40, under 3.5"),
        ({"wada_snr": 4.0}, "low SNR: 4 dB, under 10 dB"),
        ({"level": -31.0}, "outlier level: 11 dB quieter than the speaker's median"),
        ({"level": -9.0}, "outlier level: 11 dB louder than the speaker's median"),
        ({"centroid_similarity": 0.6}, "perhaps another voice: cosine 0.60, the bound 0.70"),
        (
            {"centroid_similarity": 0.8, "other_similarity": 0.85},
            "perhaps another voice: cosine 0.80, another speaker's 0.85",
        ),
    ],
)
def test_each_fault(typical, changes, fault):
    others = [typical() for _ in range(4)]
    judged = judge_clips([*others, typical(**changes)])
    assert [each.faults for each in judged] == [*[()] * 4, (fault,)]


def test_a_clip_that_failed_says_why_once(typical):
    failures = {name: "silence" for name in ("level", "dnsmos_ovrl", "f0_sd")}
    (judged,) = judge_clips([typical(failures=failures)])
    assert judged.faults == ("not measured: silence",)


def test_a_level_is_held_against_its_own_speaker(typical):
    loud = [typical(level=-5.0) for _ in range(3)]
    quiet = [typical(speaker="bea", level=-30.0) for _ in range(3)]
    assert not any(each.faults for each in judge_clips([*loud, *quiet]))


def test_the_worst_have_most_faults_then_the_lowest_quality(typical):
    clips = [typical(dnsmos_ovrl=3.0 + i / 100) for i in range(12)]
    clips[7] = typical(wada_snr=1.0)
    clips[9] = typical(wada_snr=1.0, dnsmos_ovrl=1.5)
    places = [each.place for each in worst(judge_clips(clips))]
    assert places == [9, 7, 0, 1, 2, 3, 4, 5, 6, 8]
    assert len(places) == WORST
