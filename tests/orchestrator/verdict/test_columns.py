"""Columns hold what clips say, and nothing else."""

import math

import pytest

from jobs.metrics.base import ClipScores
from orchestrator.verdict.columns import ScoreColumns

CLIPS = [
    ClipScores("base", "p", 0, {"x": 1.0, "y": 2.0}),
    ClipScores("v", "q", 7, {"y": 3.0}, {"x": "crashed"}),
    ClipScores("base", "q", 7, {"z": 4.0}),
    ClipScores("v", "p", 0, {"x": 5.0, "y": math.nan}),
]


def test_clips_come_back_variant_after_variant():
    columns = ScoreColumns.of(CLIPS)
    assert columns.keys == (("p", 0), ("q", 7))
    back = list(columns.clips())
    assert back == [CLIPS[0], CLIPS[2], CLIPS[1], ClipScores("v", "p", 0, {"x": 5.0})]
    assert columns.variants["base"].values["z"].tolist() == pytest.approx(
        [math.nan, 4.0], nan_ok=True
    )


def test_a_part_has_the_clips_of_its_prompts_and_variants_alone():
    columns = ScoreColumns.of(CLIPS)
    part = columns.part({"q"}, ["v", "unknown"])
    assert list(part.clips()) == [CLIPS[1]]
    assert columns.part({"elsewhere"}, ["base", "v"]).variants == {}
    assert columns.speaks("v", {"q"})
    assert not columns.speaks("v", {"elsewhere"})
