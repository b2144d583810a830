"""The data of a spec is checked whole for its base, or every reason why not is given."""

import json

import pytest

from jobs.data.checks.target import check_target, checked_clips, target_rows
from jobs.embedded import VOICE_DIR
from jobs.problems import InputError
from jobs.spec.data import DataSpec
from tests.embedded_voice import EMBEDDED_HOST


def manifest(folder, *rows) -> str:
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def problems_of(ask) -> list[str]:
    with pytest.raises(InputError) as caught:
        ask()
    return [problem.where for problem in caught.value.problems]


def test_the_shipped_voice_can_be_used():
    clips = checked_clips(DataSpec(), EMBEDDED_HOST)
    assert len(clips) == len({clip.pcm for clip in clips}) == 470
    assert {clip.rate for clip in clips} == {16_000}
    assert all(clip.seconds == pytest.approx(clip.row.duration, abs=0.006) for clip in clips)


def test_manifests_come_one_after_another(tmp_path):
    row = {"audio": str(VOICE_DIR / "eight-five.flac"), "text": "eight five", "split": "train"}
    written = manifest(tmp_path, row)
    rows = target_rows(DataSpec(manifest=(written, "embedded"), root=str(VOICE_DIR))).items
    assert len(rows) == 471
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
    where = [f"{data.paths[0]}:{line}" for line in (1, 1, 2)]
    assert problems_of(lambda: checked_clips(data, EMBEDDED_HOST)) == where
    assert {each.rule for each in check_target(data, EMBEDDED_HOST).errors} == {
        "text-tag",
        "leak-audio",
        "text-unreadable",
    }


def test_bounds_that_no_clip_keeps_are_told_before_anything_is_read():
    data = DataSpec(manifest=("gone.jsonl",), max_seconds=0.3)
    assert problems_of(lambda: check_target(data, EMBEDDED_HOST)) == ["data.min_seconds"]


def test_a_base_that_cannot_be_read_is_a_problem_of_the_base(tmp_path):
    host = EMBEDDED_HOST.model_copy(update={"source": str(tmp_path)})
    assert problems_of(lambda: check_target(DataSpec(), host)) == ["base"]


def test_progress_is_of_how_many():
    told = []
    check_target(DataSpec(), EMBEDDED_HOST, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (16, 470)
    assert told[-1] == (470, 470)


def test_what_a_manifest_says_of_all_its_clips_fills_what_they_do_not(tmp_path):
    """And its clips have a split each or are split, whatever those of another manifest have."""
    rows = [json.loads(line) for line in (VOICE_DIR / "manifest.jsonl").read_text().splitlines()]
    told = [{**row, "audio": str(VOICE_DIR / row["audio"])} for row in rows]
    for row in told[20:40]:
        del row["split"], row["speaker"]
    (tmp_path / "own").mkdir()
    given = {"path": manifest(tmp_path, *told[:20]), "speaker": "bob", "language": "en"}
    left_open = {"path": manifest(tmp_path / "own", *told[20:40]), "speaker": "ann"}
    data = DataSpec.model_validate({"manifest": [given, left_open], "root": str(VOICE_DIR)})
    clips = [clip.row for clip in checked_clips(data, EMBEDDED_HOST)]
    assert [(row.speaker, row.language) for row in clips] == [("slt", "en")] * 20 + [
        ("ann", None)
    ] * 20
    assert [row.split for row in clips[:20]] == [row["split"] for row in rows[:20]]
    assert [row.split for row in clips[20:]].count("validation") == 2


def test_a_manifest_with_half_its_splits_is_refused(tmp_path):
    rows = [json.loads(line) for line in (VOICE_DIR / "manifest.jsonl").read_text().splitlines()]
    told = [{**row, "audio": str(VOICE_DIR / row["audio"])} for row in rows[:4]]
    del told[2]["split"]
    path = manifest(tmp_path, *told)
    data = DataSpec.model_validate({"manifest": ["embedded", path], "root": str(VOICE_DIR)})
    found = check_target(data, EMBEDDED_HOST).errors
    assert [each.problem.where for each in found if each.rule == "split-missing"] == [f"{path}:3"]
