"""Every hostile input is named with its place, read from nowhere else, and left as it was."""

import codecs
import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import soundfile

from jobs.audio.files import AudioError, decode
from jobs.data.checks.limits import Limits
from jobs.data.checks.text import check_text, learned_text
from jobs.data.clips import ManifestRow
from jobs.data.findings import Finding, error
from jobs.data.manifest.reading import read_rows
from jobs.families.description import DataRules
from jobs.spec.data import DataSpec
from tests.jobs.data.hostile import CASES
from tests.jobs.data.hostile_case import RATE, Case, tone


@dataclass
class Seen:
    """Files that Python opened, while somebody watches."""

    is_on: bool = False
    paths: list[str] = field(default_factory=list)


SEEN = Seen()


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    # libsndfile opens nothing itself: it reads what Python opened.
    if SEEN.is_on and event in {"open", "os.listdir", "os.scandir"}:
        name = arguments[0]
        if isinstance(name, str | os.PathLike):
            SEEN.paths.append(os.path.realpath(name))


sys.addaudithook(_watch)
for encoding in ("utf-16", "utf-8-sig", "cp1252"):
    codecs.lookup(encoding)  # a module, which Python opens once


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root with a canary beside it, on a machine without ffmpeg."""
    monkeypatch.setattr("jobs.audio.files.has_ffmpeg", lambda: False)
    outside = tmp_path / "outside"
    outside.mkdir()
    soundfile.write(outside / "canary.wav", tone(), RATE)
    (outside / "canary.txt").write_text("canary")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def text_findings(row: ManifestRow) -> Iterator[Finding]:
    spec = DataSpec()
    limits = Limits.of(spec, DataRules())
    return check_text(row, learned_text(row, spec), spec, limits, None)


def look_into(manifest: str) -> tuple[list[Finding], int]:
    """What is wrong with a manifest and its recordings, and how many clips can be used."""
    findings: list[Finding] = []
    usable = 0
    for item in read_rows(manifest, None):
        if isinstance(item, Finding):
            findings.append(item)
            continue
        if said := [each for each in text_findings(item) if each.severity == "error"]:
            findings += said
            continue
        try:
            decode(item.audio)
        except AudioError as problem:
            findings.append(error(problem.rule, item.where, problem.what, problem.next_step))
        else:
            usable += 1
    return findings, usable


def everything_in(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Names, kinds and times of change, and the content of what has one."""
    for path in sorted(folder.rglob("*")):
        found = path.lstat()
        # What is larger was written as a hole.
        known = path.is_file() and not path.is_symlink() and found.st_size < 2**25
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if known else ""
        yield str(path), found.st_mode, f"{found.st_mtime_ns} {digest}"


def test_the_corpus_is_large_and_its_names_differ():
    assert len([case for case in CASES if case.rule]) == 149
    assert len({case.rule for case in CASES if case.rule}) == 47
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_input_is_named_and_nothing_else_is_touched(case: Case, root: Path):
    case.build(root)
    before = list(everything_in(root.parent))
    manifest = str(root / case.manifest) if case.manifest else str(root)
    SEEN.paths.clear()
    SEEN.is_on = True
    try:
        findings, usable = look_into(manifest)
    finally:
        SEEN.is_on = False
    assert usable == case.left
    said = [(each.rule, each.severity, each.problem.where) for each in findings]
    place = str(root / case.place) if case.place else str(root)
    assert said == ([(case.rule, case.severity, place)] if case.rule else [])
    for each in findings:
        assert each.problem.next_step
        assert str(each.problem).isprintable()
        assert len(str(each.problem)) < 900
        assert "secret" not in str(each.problem)
    assert list(everything_in(root.parent)) == before
    assert SEEN.paths
    assert {path for path in SEEN.paths if not path.startswith(f"{root}{os.sep}")} <= {str(root)}


def test_the_watch_sees_the_canary(root: Path):
    canary = root.parent / "outside" / "canary.wav"
    SEEN.paths.clear()
    SEEN.is_on = True
    try:
        decode(str(canary))
    finally:
        SEEN.is_on = False
    assert SEEN.paths == [str(canary)]


def test_every_rule_is_in_the_documentation():
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    # A folder's texts are held to the rules of paths, which stand there as those of audio.
    rules = {case.rule.replace("text-", "audio-") for case in CASES if case.rule} - {
        "audio-without-audio"
    }
    assert [rule for rule in sorted(rules) if f"`{rule}`" not in text] == []
