"""A manifest is read line by line: rows, or every reason why not."""

import json
import os
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import soundfile

from jobs.data.clips import ManifestRow
from jobs.data.findings import Finding
from jobs.data.manifest.reading import read_rows
from jobs.embedded import VOICE_DIR
from jobs.problems import InputError, Problem
from tests.jobs.data.hostile_case import RATE, tone


def write_manifest(directory: Path, *lines: str | dict[str, object]) -> Path:
    (directory / "a.flac").touch()
    path = directory / "manifest.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(text + "\n" for text in texts))
    return path


def row(**changes: object) -> dict[str, object]:
    return {"audio": "a.flac", "text": "one", "split": "train", **changes}


def findings_of(manifest: Path, root: Path | None = None) -> list[Finding]:
    items = read_rows(str(manifest), None if root is None else str(root))
    return [item for item in items if isinstance(item, Finding)]


def problems_of(path: Path, root: Path | None = None) -> tuple[Problem, ...]:
    """What keeps a manifest from being read at all."""
    with pytest.raises(InputError) as caught:
        list(read_rows(str(path), None if root is None else str(root)))
    return caught.value.problems


def test_rows_come_in_order_with_absolute_audio(tmp_path: Path):
    (tmp_path / "b.flac").touch()
    full = row(
        text="two",
        split="validation",
        speaker="ann",
        language="en-GB",
        duration=2,
        ref_audio="b.flac",
    )
    path = write_manifest(tmp_path, row(split=None), full)
    assert list(read_rows(str(path), None)) == [
        ManifestRow(
            where=f"{path}:1", audio=str(tmp_path / "a.flac"), text="one", manifest=str(path)
        ),
        ManifestRow(
            where=f"{tmp_path}/manifest.jsonl:2",
            audio=str(tmp_path / "a.flac"),
            text="two",
            split="validation",
            speaker="ann",
            language="en-GB",
            duration=2.0,
            ref_audio=str(tmp_path / "b.flac"),
            manifest=str(path),
        ),
    ]


def test_the_shipped_voice_is_a_manifest():
    rows = list(read_rows("embedded", None))
    assert {row.split for row in rows} == {"train", "validation"}
    assert len({row.audio for row in rows}) == len(rows) == len(list(VOICE_DIR.glob("*.flac")))


def test_all_that_is_wrong_with_a_line_is_said(tmp_path: Path):
    line = '{"audio": "../a.flac", "split": "test", "split": "tset", "duration": -1, "speed": 2}'
    findings = findings_of(write_manifest(tmp_path, row(), line))
    assert {finding.rule for finding in findings} == {
        "audio-outside-root",
        "bad-duration",
        "bad-split",
        "duplicate-key",
        "missing-key",
        "unknown-key",
    }
    assert len(findings) == 6
    assert {finding.problem.where for finding in findings} == {f"{tmp_path}/manifest.jsonl:2"}


def test_a_finding_says_what_it_wanted_what_it_got_and_what_is_near(tmp_path: Path):
    path = write_manifest(tmp_path, row(duration="1.5"), row(durations=1))
    wrong, unknown = (finding.problem for finding in findings_of(path))
    assert wrong.what == "duration must be a number, got the string '1.5'"
    assert unknown.next_step == "Did you mean duration?"


def test_the_root_says_what_audio_may_be_named(tmp_path: Path):
    (tmp_path / "lists").mkdir()
    path = write_manifest(tmp_path / "lists", row(audio="../b.flac"), row())
    (tmp_path / "b.flac").touch()
    assert [finding.rule for finding in findings_of(path)] == ["audio-outside-root"]
    assert findings_of(path, tmp_path) == []


@pytest.mark.parametrize("name", ["gone.jsonl", "gone", "fifo", "loop", "sub/a.jsonl"])
def test_a_manifest_that_cannot_be_read_is_told_at_once(tmp_path: Path, name: str):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError) as caught:
        list(read_rows(str(tmp_path / name), None))
    (problem,) = caught.value.problems
    assert problem.where == str(tmp_path / name)
    assert problem.what.startswith("a manifest must")


def test_a_root_that_is_not_there_is_told_at_once(tmp_path: Path):
    (problem,) = problems_of(write_manifest(tmp_path, row()), tmp_path / "gone")
    assert "gone" in problem.what


def test_a_linked_manifest_is_read_where_the_link_is(tmp_path: Path):
    write_manifest(tmp_path, row())
    (tmp_path / "link.jsonl").symlink_to("manifest.jsonl")
    (found,) = read_rows(str(tmp_path / "link.jsonl"), None)
    assert isinstance(found, ManifestRow)
    assert found.where == f"{tmp_path}/link.jsonl:1"


def test_a_manifest_is_read_in_s3(bucket):
    bucket.put_object(Key="v/a.flac", Body=b"1")
    lines = [row(), row(audio="s3://voices/v/gone.flac"), row(audio="../a.flac"), "{"]
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    bucket.put_object(Key="v/m.jsonl", Body="\n".join(texts).encode())
    one, two, three, four = read_rows("s3://voices/v/m.jsonl", None)
    assert isinstance(one, ManifestRow)
    assert (one.where, one.audio) == ("s3://voices/v/m.jsonl:1", "s3://voices/v/a.flac")
    # Whether an object is there is found when it is read: a request for each line would take hours.
    assert isinstance(two, ManifestRow)
    assert isinstance(three, Finding)
    assert three.rule == "audio-outside-root"
    assert isinstance(four, Finding)
    assert (four.rule, four.problem.where) == ("not-json", "s3://voices/v/m.jsonl:4")
    with pytest.raises(InputError, match=r"there is no s3://voices/v/gone\.jsonl"):
        list(read_rows("s3://voices/v/gone.jsonl", None))


def generated_lines(count: int) -> Iterator[bytes]:
    """One row in twenty; the others are findings, which take less time."""
    for number in range(count // 20):
        yield b"one of many, and no JSON\n\n" + b" \n" * 17
        yield json.dumps(row(text=f"line {number} of many", duration=1.5)).encode() + b"\n"


def test_memory_does_not_grow_with_lines(tmp_path: Path):
    (tmp_path / "a.flac").touch()
    peaks = []
    for count in (1_000, 60_000):
        with (tmp_path / f"{count}.jsonl").open("wb") as file:
            file.writelines(generated_lines(count))
        tracemalloc.start()
        try:
            items = sum(1 for _ in read_rows(file.name, None))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert items == count
    few, many = peaks
    # A part of the file is in memory, and the shorter one is smaller than a part.
    assert many - few < 2_000_000


def test_lines_are_read_as_they_are_asked_for(tmp_path: Path):
    path = write_manifest(tmp_path, *([row()] * 20_000))
    items = read_rows(str(path), None)
    assert len(list(islice(items, 3))) == 3
    path.write_text("")
    assert len(list(items)) < 10_000


def test_a_problem_reads_as_place_rule_next_step():
    problem = Problem("m.jsonl:3", "text must not be empty", "Write what is said.")
    assert str(problem) == "m.jsonl:3: text must not be empty. Write what is said."
    assert str(InputError([problem, problem])) == f"{problem}\n{problem}"


class TestFolders:
    def test_ljspeech_says_its_normalised_text(self, tmp_path: Path):
        (tmp_path / "wavs").mkdir()
        for name in ("LJ001-0001", "b"):
            soundfile.write(tmp_path / "wavs" / f"{name}.wav", tone(), RATE)
        (tmp_path / "metadata.csv").write_text('LJ001-0001|"In 1450|"in fourteen fifty\nb|two\n')
        assert list(read_rows(str(tmp_path), None)) == [
            ManifestRow(
                where=f"{tmp_path}/metadata.csv:1",
                audio=str(tmp_path / "wavs" / "LJ001-0001.wav"),
                text='"in fourteen fifty',
                manifest=str(tmp_path),
            ),
            ManifestRow(
                where=f"{tmp_path}/metadata.csv:2",
                audio=str(tmp_path / "wavs" / "b.wav"),
                text="two",
                manifest=str(tmp_path),
            ),
        ]

    def test_pairs_come_folder_by_folder(self, tmp_path: Path):
        for name in ("z.WAV", "x/b.mp3", "x/a.flac", "x.y/c.opus", "x/deep/d.ogg"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            path.with_suffix(".txt").write_text(f"says\r\n {name} \r\n")
        rows = list(read_rows(str(tmp_path), None))
        names = ["z.WAV", "x/a.flac", "x/b.mp3", "x/deep/d.ogg", "x.y/c.opus"]
        assert rows == [
            ManifestRow(
                where=f"{tmp_path}/{name}",
                audio=f"{tmp_path}/{name}",
                text=f"says {name}",
                manifest=str(tmp_path),
            )
            for name in names
        ]

    def test_both_layouts_are_read_in_s3(self, bucket):
        for key in ("lj/wavs/a.wav", "pairs/a.wav", "pairs/sub/b.flac"):
            bucket.put_object(Key=key, Body=b"1")
        bucket.put_object(Key="lj/metadata.csv", Body=b"a|1|one\n")
        bucket.put_object(Key="pairs/a.txt", Body=b"one")
        bucket.put_object(Key="pairs/sub/b.txt", Body=b"two")
        bucket.put_object(Key="pairs/sub/c.txt", Body=b"three")
        assert list(read_rows("s3://voices/lj", None)) == [
            ManifestRow(
                where="s3://voices/lj/metadata.csv:1",
                audio="s3://voices/lj/wavs/a.wav",
                text="one",
                manifest="s3://voices/lj",
            )
        ]
        one, two, three = read_rows("s3://voices/pairs/", None)
        assert isinstance(one, ManifestRow)
        assert one.audio == "s3://voices/pairs/a.wav"
        assert isinstance(two, ManifestRow)
        assert (two.where, two.text) == ("s3://voices/pairs/sub/b.flac", "two")
        assert isinstance(three, Finding)
        assert three.rule == "text-without-audio"
