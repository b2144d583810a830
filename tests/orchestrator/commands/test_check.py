"""``voxsweep check`` from outside: what it prints, and its exit code."""

import json
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console
from typer.testing import CliRunner

from jobs.audio.files import RESAMPLER
from jobs.data.checks.target import check_target
from jobs.data.findings import error, warning
from jobs.embedded import VOICE_DIR
from jobs.problems import InputError, Problem
from orchestrator.cli import app
from orchestrator.spec.check_summary import by_rule, data_from_options, host_from_options
from orchestrator.terminal.data import (
    check_progress,
    print_near_duplicates,
    print_warnings,
    show_check,
)
from tests.jobs.data.hostile_clips import babble, upsampled

HERE = Path(__file__).parent


@pytest.fixture
def bad(tmp_path) -> Path:
    """A manifest with five usable clips and most of what can be wrong."""
    texts = ["eight five", "seven six two", "three four zero three", "zero five", "eight eight two"]
    rows = []
    for number, text in enumerate(texts):
        name = f"{text.replace(' ', '-')}.flac"
        shutil.copy(VOICE_DIR / name, tmp_path) if (VOICE_DIR / name).exists() else soundfile.write(
            tmp_path / name, babble(number), 16_000
        )
        split = "validation" if number == 0 else "train"
        rows.append({"audio": name, "text": text, "split": split, "speaker": "slt"})
    made = {
        "silence": (np.zeros(16_000), 16_000),
        "short": (babble(20, 0.1), 16_000),
        "wide": (upsampled(21, 8000, 48_000), 48_000),
        "narrow": (babble(22, rate=8000), 8000),
        "clipped": (np.clip(babble(23) * 7, -1, 1), 16_000),
        "tagged": (babble(24), 16_000),
        "control": (babble(25), 16_000),
        "long": (babble(26), 16_000),
        "english": (babble(27), 16_000),
    }
    said = {
        "tagged": "one <laugh> two",
        "control": "one <|end|>",
        "long": "1234567",
        "english": "hello",
    }
    for number, (name, (audio, rate)) in enumerate(made.items()):
        soundfile.write(tmp_path / f"{name}.wav", audio, rate)
        text = said.get(name, f"one {number}")
        rows.append({"audio": f"{name}.wav", "text": text, "split": "train", "speaker": "bea"})
    rows[5]["duration"] = 3.0
    audio, rate = soundfile.read(tmp_path / "eight-five.flac", dtype="int16")
    soundfile.write(tmp_path / "leak.wav", audio, rate)
    rows.append({"audio": "leak.wav", "text": "one nine", "split": "train", "speaker": "slt"})
    rows.append({"audio": "tagged.wav", "text": "nine nine", "split": "train", "speaker": "bea"})
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plain(text: str, folder: Path) -> str:
    """Without what differs from place to place."""
    return text.replace(str(folder), "TMP").replace(RESAMPLER, "RESAMPLER")


def test_a_bad_corpus_as_json(bad):
    """One object on stdout, exit code 2, compared whole."""
    result = CliRunner().invoke(app, ["check", str(bad), "--family", "codec_lm", "--json"])
    assert result.exit_code == 2
    assert result.stdout.count("\n") == 1
    told = json.dumps(json.loads(result.stdout), indent=1) + "\n"
    assert plain(told, bad.parent) == (HERE / "golden_check.json").read_text()


def test_the_shipped_voice_is_listened_to():
    command = ["check", "embedded", "--family", "codec_lm", "--listen", "--workers", "1"]
    result = CliRunner().invoke(app, [*command, "--json"])
    heard = json.loads(result.stdout)["heard"]
    assert (result.exit_code, heard["clips"], heard["other_text"]) == (0, 60, 0)


def test_a_recogniser_that_is_not_there_does_not_hide_what_the_check_found(bad):
    command = ["check", str(bad), "--family", "codec_lm", "--recogniser", "no/where", "--json"]
    result = CliRunner().invoke(app, command)
    rules = [each["rule"] for each in json.loads(result.stdout)["findings"]]
    assert (result.exit_code, rules[-1]) == (2, "not-listened")
    assert "audio-silent" in rules


def test_a_bad_corpus_for_people(bad):
    """On a page of 100 columns, compared whole."""
    found = check_target(
        data_from_options(manifest=[str(bad)]), host_from_options("codec_lm", "embedded"), workers=1
    )
    page = Console(width=100, force_terminal=False)
    with page.capture() as said:
        show_check(page, found)
    text = "\n".join(line.rstrip() for line in said.get().splitlines()) + "\n"
    assert plain(text, bad.parent) == (HERE / "golden_check.txt").read_text()


def test_the_shipped_voice_is_clean():
    result = CliRunner().invoke(app, ["check", "embedded", "--family", "codec_lm", "--json"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["clips"], told["rates"], told["findings"]) == (470, {"16000": 470}, [])
    assert [group["name"] for group in told["splits"]] == ["train", "validation"]


def test_options_reach_the_check(tmp_path):
    command = ["check", "embedded", "--family", "codec_lm", "--json"]
    bounds = ["--min-seconds", "0.6", "--max-seconds", "2", "--max-text-tokens", "14"]
    result = CliRunner().invoke(app, [*command, *bounds, "--language-tag", "--workers", "2"])
    assert result.exit_code == 2
    rules = {finding["rule"] for finding in json.loads(result.stdout)["findings"]}
    assert rules == {"duration-short", "duration-long", "text-long", "language-missing"}


def test_tags_are_stripped_when_asked(bad):
    command = ["check", str(bad), "--family", "codec_lm", "--tags", "strip", "--json"]
    findings = json.loads(CliRunner().invoke(app, command).stdout)["findings"]
    (tag,) = [finding for finding in findings if finding["rule"] == "text-tag"]
    assert tag["severity"] == "warning"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.jsonl", "--family", "codec_lm"], "gone.jsonl"),
        (["embedded", "--family", "codec-lm"], "Did you mean codec_lm?"),
        (["embedded", "--family", "codec_lm", "--base", "gone"], "gone"),
        (
            ["embedded", "--family", "codec_lm", "--min-seconds", "-1"],
            "--min-seconds: must be greater than 0, got -1.0",
        ),
        (["embedded", "--family", "codec_lm", "--min-seconds", "30"], "the shortest clip (30 s"),
    ],
)
def test_what_cannot_be_checked_is_told_in_a_line(tmp_path, arguments, said):
    ended = subprocess.run(
        [sys.executable, "-c", "from orchestrator.cli import main; main()", "check", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("options", "where", "what"),
    [
        ({"min_seconds": -1}, "--min-seconds", "must be greater than 0, got -1"),
        ({"max_seconds": float("inf")}, "--max-seconds", "must be a finite number, got inf"),
        ({"max_text_tokens": 0}, "--max-text-tokens", "must be 1 or more, got 0"),
        (
            {"manifest": [{"path": "a", "language": "Englisch"}]},
            "--language",
            "a language must be a tag such as en, km or zh-Hant, got 'Englisch'",
        ),
        ({"manifest": [{"path": "a", "speaker": ""}]}, "--speaker", "must not be empty, got ''"),
    ],
)
def test_an_option_is_told_in_this_tools_words(options, where, what):
    with pytest.raises(InputError) as caught:
        data_from_options(**{"manifest": ["embedded"], **options})
    problem = caught.value.problems[0]
    assert (problem.where, problem.what) == (where, what)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--language", "Englisch"], "Did you mean en (English)?"),
        (["--columns", "text"], "must be KEY=COLUMN"),
        (["--columns", "text=0"], "or its number from 1, got 'text=0'"),
        (["--columns", "words=3"], "with a key of audio, text"),
    ],
)
def test_an_option_that_cannot_be_read_is_a_usage_error(option, said):
    command = ["check", "embedded", "--family", "codec_lm", *option]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


def test_many_findings_of_a_rule_are_cut_with_a_word(bad):
    rows = [json.loads(line) for line in bad.read_text().splitlines()]
    gone = [{**rows[1], "audio": f"gone{number}.wav"} for number in range(30)]
    bad.write_text("".join(json.dumps(row) + "\n" for row in gone))
    result = CliRunner().invoke(app, ["check", str(bad), "--family", "codec_lm"])
    assert result.stdout.count("there is no") == 20
    assert "and 10 more: --json lists them" in result.stdout


def test_rules_with_errors_come_first():
    one, two = warning("a", "m:1", "", ""), error("b", "m:2", "", "")
    assert list(by_rule([one, one, two])) == ["b", "a"]
    assert list(by_rule([one, warning("c", "m:3", "", ""), one, two])) == ["b", "a", "c"]


def test_warnings_on_the_way_are_a_line_a_rule():
    page = Console(width=80)
    found = [warning("rate-low", f"m:{line}", "", "") for line in (3, 4)]
    with page.capture() as said:
        print_warnings(page, found, dropped=1)
        print_warnings(page, [], dropped=0)
    assert said.get().splitlines() == [
        "data: 2 x rate-low, first at m:3",
        "data: 1 clips are left out",
        "data: voxsweep check lists them all",
    ]


def test_progress_away_from_a_terminal_is_a_line_a_tenth():
    page = Console(width=80, force_terminal=False)
    with page.capture() as said, check_progress(page) as tell:
        for done in range(0, 2001, 16):
            tell(done, 2000)
        tell(84, 84)
    lines = said.get().splitlines()
    assert len(lines) == 10
    assert lines[-1] == "checked 2000 of 2000 clips"


def test_progress_in_a_terminal_is_a_bar():
    page = Console(width=80, force_terminal=True)
    with page.capture() as said, check_progress(page) as tell:
        tell(3, 7)
    assert "3/7" in said.get()


def test_near_duplicates_are_told_with_their_lines_up_to_twenty():
    page = Console(file=StringIO(), width=200)
    problems = [Problem(f"b.jsonl:{line}", "rule", "Step.") for line in range(2, 25)]
    print_near_duplicates(page, problems)
    printed = page.file.getvalue().splitlines()
    assert printed[0] == "b.jsonl:2: rule. Step."
    assert printed[20:] == ["and 3 more near-duplicates"]
    print_near_duplicates(page, [])
    assert len(page.file.getvalue().splitlines()) == 21
