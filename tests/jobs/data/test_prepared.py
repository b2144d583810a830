"""Prepared clips come back as they were written."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from jobs.data.prepared import PreparedClip, read_prepared, write_prepared
from tests.toy import toy_clips

PLAIN = [replace(clip, word_starts=None) for clip in toy_clips(count=3, validation=1)]


@pytest.mark.parametrize("clips", [toy_clips(), PLAIN], ids=["markers", "plain"])
def test_round_trip(clips: list[PreparedClip], tmp_path: Path):
    write_prepared(tmp_path, clips)
    again = read_prepared(tmp_path)
    for ours, theirs in zip(again, clips, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes)
        assert ours.codes.dtype == np.int64
        assert {**asdict(ours), "codes": None} == {**asdict(theirs), "codes": None}


def test_only_tables_and_tensors_are_written(tmp_path: Path):
    write_prepared(tmp_path, toy_clips())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips.jsonl", "codes.safetensors"]
