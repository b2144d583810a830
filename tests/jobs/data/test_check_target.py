"""The data of a spec is checked whole for its base, or every reason why not is given."""

import json

import pytest

from jobs.data.check_target import check_target, checked_clips, target_rows
from jobs.data.spec import DataSpec
from jobs.embedded import VOICE_DIR
from jobs.problems import InputError
from jobs.spec import HostSpec

HOST = HostSpec(
    family="codec_lm", source="embedded", codec="embedded", voice=None, precision="fp32"
)


def manifest(folder, *rows) -> str:
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def problems_of(ask) -> list[str]:
    with pytest.raises(InputError) as caught:
        ask()
    return [problem.where for problem in caught.value.problems]


def test_the_shipped_voice_can_be_used():
    clips = checked_clips(DataSpec(), HOST)
    assert len(clips) == len({clip.pcm for clip in clips}) == 84
    assert {clip.rate for clip in clips} == {16_000}
    assert all(clip.seconds == pytest.approx(clip.row.duration, abs=0.006) for clip in clips)


def test_manifests_come_one_after_another(tmp_path):
    row = {"audio": str(VOICE_DIR / "eight-five.flac"), "text": "eight five", "split": "train"}
    written = manifest(tmp_path, row)
    rows = target_rows(DataSpec(manifest=(written, "embedded"), root=str(VOICE_DIR)))
    assert len(rows) == 85
    assert rows[0].where == f"{written}:1"
    assert rows[1].audio == rows[0].audio


def test_every_manifest_that_cannot_be_read_is_named(tmp_path):
    gone = tuple(str(tmp_path / name) for name in ("a.jsonl", "b.jsonl"))
    assert problems_of(lambda: target_rows(DataSpec(manifest=(*gone, "embedded")))) == [*gone]


def test_clips_with_errors_are_refused_all_at_once(tmp_path):
    rows = [
        {"audio": str(VOICE_DIR / "eight-five.flac"), "text": text, "split": split}
        for text, split in (("eight <laugh>", "train"), ("hello", "validation"))
    ]
    data = DataSpec(manifest=(manifest(tmp_path, *rows),), root=str(VOICE_DIR))
    where = [f"{data.manifest[0]}:{line}" for line in (1, 1, 2)]
    assert problems_of(lambda: checked_clips(data, HOST)) == where
    assert {each.rule for each in check_target(data, HOST).checked.errors} == {
        "text-tag",
        "leak-audio",
        "text-unreadable",
    }


def test_bounds_that_no_clip_keeps_are_told_before_anything_is_read():
    data = DataSpec(manifest=("gone.jsonl",), max_seconds=0.3)
    assert problems_of(lambda: check_target(data, HOST)) == ["data.min_seconds"]


def test_a_base_that_cannot_be_read_is_a_problem_of_the_base(tmp_path):
    host = HOST.model_copy(update={"source": str(tmp_path)})
    assert problems_of(lambda: check_target(DataSpec(), host)) == ["base"]


def test_progress_is_of_how_many():
    told = []
    check_target(DataSpec(), HOST, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (16, 84)
    assert told[-1] == (84, 84)
