"""The figures of a validation beside its mean."""

import math

import pytest

from jobs.training.paired import figures


def test_differences_are_paired_clip_by_clip_and_by_language():
    clips = [(1.0, 2.0), (2.0, 2.0), (3.0, 2.0)]
    found = figures(clips, {"language/km": [0, 1], "language/ko": [2]})
    assert found == {
        "clip_mean": pytest.approx(2.0),
        "to_base": pytest.approx(0.0),
        "to_base_se": pytest.approx(1 / math.sqrt(3)),  # of -1, 0, 1
        "to_base.language.km": pytest.approx(-0.5),
        "to_base_se.language.km": pytest.approx(math.sqrt(0.5) / math.sqrt(2)),
        "to_base.language.ko": pytest.approx(1.0),
    }
