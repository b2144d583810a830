"""A manifest is read whole, or every reason why not is given."""

import json
from pathlib import Path

import pytest

from jobs.data.manifest import ManifestRow, read_manifest
from jobs.embedded import VOICE_DIR
from jobs.problems import InputError, Problem


def write_manifest(directory: Path, *lines: str | dict[str, object]) -> Path:
    (directory / "a.flac").touch()
    path = directory / "manifest.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(text + "\n" for text in texts))
    return path


def row(**changes: object) -> dict[str, object]:
    return {"audio": "a.flac", "text": "one", "split": "train", **changes}


def problems_of(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    return caught.value.problems


def test_rows_come_back_in_order_with_absolute_audio(tmp_path: Path):
    extra = row(text="two", split="validation", speaker="ann", duration=1.5)
    rows = read_manifest(write_manifest(tmp_path, row(), extra))
    assert rows == [
        ManifestRow(
            where=f"{tmp_path}/manifest.jsonl:1",
            audio=str(tmp_path / "a.flac"),
            text="one",
            split="train",
        ),
        ManifestRow(
            where=f"{tmp_path}/manifest.jsonl:2",
            audio=str(tmp_path / "a.flac"),
            text="two",
            split="validation",
            speaker="ann",
            duration=1.5,
        ),
    ]


def test_the_shipped_voice_is_a_manifest():
    rows = read_manifest(VOICE_DIR / "manifest.jsonl")
    assert {row.split for row in rows} == {"train", "validation"}
    assert len({row.audio for row in rows}) == len(rows) == len(list(VOICE_DIR.glob("*.flac")))


FAULTS: list[tuple[str | dict[str, object], str]] = [
    ('{"audio": ', "Invalid JSON"),
    (row(sampel_rate=1), "sampel_rate: Extra inputs are not permitted"),
    ({"audio": "a.flac", "split": "train"}, "text: Field required"),
    (row(text=""), "text: String should have at least 1 character"),
    (row(split="test"), "split: Input should be 'train' or 'validation'"),
    (row(duration=0), "duration: Input should be greater than 0"),
    (row(audio="gone.flac"), "audio must exist, but there is no "),
    ("", "Invalid JSON"),
]


def test_every_problem_is_reported_with_its_line(tmp_path: Path):
    path = write_manifest(tmp_path, row(), *(line for line, _ in FAULTS), row(split="validation"))
    problems = problems_of(path)
    assert [problem.where for problem in problems] == [
        f"{path}:{number}" for number in range(2, 2 + len(FAULTS))
    ]
    for problem, (_, what) in zip(problems, FAULTS, strict=True):
        assert what in problem.what
        assert problem.next_step


def test_a_line_with_several_problems_names_them_all(tmp_path: Path):
    line = row(split="test", duration=-1, speed=2)
    (problem,) = problems_of(write_manifest(tmp_path, line))
    assert all(key in problem.what for key in ("split", "duration", "speed"))


@pytest.mark.parametrize(
    ("present", "missing"), [([], ["train", "validation"]), (["train"], ["validation"])]
)
def test_every_split_without_clips_is_named(tmp_path: Path, present: list[str], missing: list[str]):
    problems = problems_of(write_manifest(tmp_path, *(row(split=split) for split in present)))
    assert len(problems) == len(missing)
    for problem, split in zip(problems, missing, strict=True):
        assert f"split {split!r}" in problem.what


def test_a_missing_manifest_is_a_problem_of_the_input(tmp_path: Path):
    (problem,) = problems_of(tmp_path / "gone.jsonl")
    assert problem.where == str(tmp_path / "gone.jsonl")


def test_a_manifest_that_is_no_text_is_a_problem_of_the_input(tmp_path: Path):
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    (problem,) = problems_of(path)
    assert "cannot read it" in problem.what


def test_a_problem_reads_as_place_rule_next_step():
    problem = Problem("m.jsonl:3", "text must not be empty", "Write what is said.")
    assert str(problem) == "m.jsonl:3: text must not be empty. Write what is said."
    assert str(InputError([problem, problem])) == f"{problem}\n{problem}"
