"""Prepared clips come back as they were written, and are read where they lie."""

import itertools
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from jobs.clips import PreparedClip
from jobs.data.prepared.files import (
    read_prepared,
    recording_path,
    reference_recordings,
    write_prepared,
)
from tests.toy import toy_clips

DRAW = np.random.default_rng(0)
PLAIN = [replace(clip, word_starts=None) for clip in toy_clips(count=3, validation=1)]
TOLD = [
    replace(clip, speaker="ann", language="km", key=f"k{i}", loudness=-23.5)
    for i, clip in enumerate(toy_clips(count=3, validation=1))
]
SEVERAL_CODEBOOKS = [
    replace(clip, codes=DRAW.integers(0, 2048, (len(clip.codes), 16))) for clip in PLAIN
]
LATENTS = [
    replace(clip, codes=DRAW.normal(size=(len(clip.codes), 4)).astype("f4")) for clip in PLAIN
]
MANY_CODES = [replace(clip, codes=clip.codes + 2**15) for clip in PLAIN]


@pytest.mark.parametrize(
    ("clips", "dtype"),
    [
        (toy_clips(), "int16"),
        (PLAIN, "int16"),
        (TOLD, "int16"),
        (SEVERAL_CODEBOOKS, "int16"),
        (MANY_CODES, "int32"),
        (LATENTS, "float32"),
    ],
    ids=["markers", "plain", "told", "codebooks", "many", "latents"],
)
def test_round_trip(clips: list[PreparedClip], dtype: str, tmp_path: Path):
    write_prepared(tmp_path, clips)
    again = read_prepared(tmp_path)
    assert len(again) == len(clips)
    for ours, theirs in zip(again, clips, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes)
        assert ours.codes.dtype == dtype
        assert {**asdict(ours), "codes": None} == {**asdict(theirs), "codes": None}


def test_codes_are_views_of_the_file(tmp_path: Path):
    """Nothing is copied, and nothing can be written by mistake."""
    write_prepared(tmp_path, toy_clips(count=4))
    first, second = read_prepared(tmp_path)[:2]
    mapped = first.codes.base
    while mapped is not None and not isinstance(mapped, np.memmap):
        mapped = mapped.base
    assert isinstance(mapped, np.memmap)
    assert second.codes.ctypes.data == first.codes.ctypes.data + first.codes.nbytes
    with pytest.raises(ValueError, match="read-only"):
        first.codes[0] = 0


def test_it_is_a_sequence(tmp_path: Path):
    clips = toy_clips(count=5)
    write_prepared(tmp_path, clips)
    again = read_prepared(tmp_path)
    assert again[-1].id == clips[-1].id
    assert [clip.id for clip in again[1:4:2]] == [clips[1].id, clips[3].id]
    assert [clip.id for clip in reversed(again)] == [clip.id for clip in reversed(clips)]
    with pytest.raises(IndexError):
        again[5]


def test_a_reference_moves_with_the_data(tmp_path: Path):
    directory = tmp_path / "first"
    directory.mkdir()
    told = [replace(clip, reference=directory / "speakers/0000.flac") for clip in PLAIN]
    write_prepared(directory, told)
    moved = directory.rename(tmp_path / "second")
    assert {clip.reference for clip in read_prepared(moved)} == {moved / "speakers/0000.flac"}


def test_recordings_are_told_by_speaker(tmp_path: Path):
    speakers = itertools.cycle(["bob", None, "ann"])
    clips = [
        replace(clip, speaker=speaker)
        for clip, speaker in zip(toy_clips(count=12, validation=4), speakers, strict=False)
    ]
    write_prepared(tmp_path, clips)
    held_out = [clip for clip in clips if clip.split == "validation"]
    assert reference_recordings(tmp_path) == {
        speaker: [recording_path(tmp_path, c.id) for c in held_out if c.speaker == speaker]
        for speaker in ("bob", None, "ann")
    }


def test_clips_of_two_shapes_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="must have one shape"):
        write_prepared(tmp_path, [SEVERAL_CODEBOOKS[0], PLAIN[1]])


def test_only_tables_and_numbers_are_written(tmp_path: Path):
    write_prepared(tmp_path, toy_clips())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips.jsonl", "codes.npy"]
    # A pickled object is not read, whoever put it there.
    np.save(tmp_path / "codes.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects in dtype"):
        read_prepared(tmp_path)
