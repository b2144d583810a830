"""The command line from outside: exit codes, what it prints, what it leaves on disk."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from jobs.data.prepared.keys import data_key
from jobs.embedded import VOICE_DIR
from orchestrator.cli import GROUPS, app

HERE = Path(__file__).parent / "spec"


def voxsweep(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from orchestrator.cli import main; main()", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
        check=False,
    )


@pytest.mark.parametrize("command", ["run", "plan", "prepare"])
def test_a_broken_spec_costs_nothing(tmp_path, command):
    """Exit code 2, every problem on stderr as written, and nothing on the disk."""
    text = (HERE / "broken.yaml").read_text()
    (tmp_path / "broken.yaml").write_text(text)
    ended = voxsweep(command, tmp_path / "broken.yaml", "--storage", "st", "--json", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.replace(str(tmp_path), "TMP") == (HERE / "golden_broken.txt").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["broken.yaml"]


@pytest.mark.parametrize("command", ["run", "plan", "prepare"])
def test_bad_data_costs_nothing(tmp_path, write_spec, command):
    """Problems of the manifest and of the prompts come together."""
    (tmp_path / "clips.jsonl").write_text('{"audio": "a.wav", "text": "one", "split": "test"}\n')
    (tmp_path / "prompts.jsonl").write_text("{}\n")
    spec = write_spec(
        data="data: {synthetic: true, manifest: clips.jsonl}",
        variants="variants: {prompts: prompts.jsonl}",
    )
    before = sorted(tmp_path.iterdir())
    ended = voxsweep(command, spec, "--storage", "st", cwd=tmp_path)
    assert ended.returncode == 2
    assert f"{tmp_path / 'clips.jsonl'}:1: " in ended.stderr
    assert f"{tmp_path / 'prompts.jsonl'}:1: " in ended.stderr
    assert sorted(tmp_path.iterdir()) == before


SPEAKERS = """\
{"audio": "%s/eight-five.flac", "text": "8 5", "split": "train", "speaker": "slt"}
{"audio": "%s/zero-two.flac", "text": "0 2", "split": "validation", "speaker": "slt"}
{"audio": "%s/four-six.flac", "text": "4 6", "split": "train", "speaker": "rms", "language": "en"}
"""


@pytest.fixture
def few_clips(tmp_path, write_spec):
    """A spec whose data are three clips of two speakers."""
    (tmp_path / "clips.jsonl").write_text(SPEAKERS.replace("%s", str(VOICE_DIR)))
    return write_spec(
        data=f"data: {{synthetic: true, manifest: clips.jsonl, root: {VOICE_DIR}, loudness: -30, "
        "trailing_silence: 0.1}",
        scoring="scoring: {metrics: [word_error], primary: word_error, min_effect: 0.05}",
    )


@pytest.mark.full
def test_prepare_says_what_it_made_and_makes_it_once(tmp_path, few_clips):
    said = [
        voxsweep("prepare", few_clips, "--storage", "st", *more, cwd=tmp_path)
        for more in (["--json"], ["--json"], [])
    ]
    assert [ended.returncode for ended in said] == [0, 0, 0], [ended.stderr for ended in said]
    first, again = (json.loads(ended.stdout) for ended in said[:2])
    assert again == {**first, "encoded": 0, "reused": 3}
    assert (first["clips"], first["encoded"], first["reused"], first["quieter"]) == (3, 3, 0, 0)
    assert first["groups"] == [
        {"split": "train", "speaker": "slt", "language": None, "clips": 1},
        {"split": "validation", "speaker": "slt", "language": None, "clips": 1},
        {"split": "train", "speaker": "rms", "language": "en", "clips": 1},
    ]
    assert first["place"] == str(tmp_path / "st" / data_key(first["digest"]))
    lying = [path for path in Path(first["place"]).rglob("*") if path.is_file()]
    assert first["bytes"] == sum(path.stat().st_size for path in lying) > 0
    for part in ("rms", "3 clips: 0 encoded, 3 reused", first["digest"]):
        assert part in said[2].stdout


def test_prepare_refuses_two_speakers_of_one_voice(tmp_path, few_clips):
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text(manifest.read_text().replace("rms", "bob"))
    ended = voxsweep("prepare", few_clips, "--storage", "st", "--json", cwd=tmp_path)
    assert ended.returncode == 2
    assert f"{manifest}:3: each speaker needs a voice of the base" in ended.stderr
    assert not (tmp_path / "st").exists()


def test_an_unknown_storage_is_a_usage_error(tmp_path, write_spec):
    ended = voxsweep("plan", write_spec(), "--storage", "ftp://somewhere", cwd=tmp_path)
    assert ended.returncode == 2
    assert "ftp://" in ended.stderr
    assert "Traceback" not in ended.stderr


HEAVY = {"torch", "ray", "mlflow", "optuna", "numpy", "scipy", "pandas", "sqlalchemy", "yaml"}


def test_help_loads_nothing_heavy():
    """Help is asked for often, and torch, ray and mlflow take seconds each.

    Typer itself loads pydantic for the help of a command, but not for that of all.
    """
    commands = [[*name.split(), "--help"] for name in all_commands(typer.main.get_command(app))]
    program = (
        f"import sys\nfrom orchestrator.cli import app\nfor command in {[['--help'], *commands]}:\n"
        "    try:\n        app(command)\n"
        "    except SystemExit as end:\n        assert not end.code\n"
        "    if command == ['--help']:\n        assert 'pydantic' not in sys.modules\n"
        f"print(sorted({HEAVY} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    *text, loaded = ended.stdout.splitlines()
    assert loaded == "[]"
    assert any("plan" in line for line in text)
    assert sum("Usage:" in line for line in text) == len(commands) + 1 > 18


def all_commands(group: TyperGroup, prefix: str = "") -> dict[str, TyperCommand]:
    """Every command that runs something, by its full name."""
    found = {}
    for name, command in group.commands.items():
        deeper = isinstance(command, TyperGroup)
        found |= all_commands(command, f"{name} ") if deeper else {prefix + name: command}
    return found


def test_help_groups_every_command():
    """A panel for each thing that a user does, and no command outside of them."""
    root = typer.main.get_command(app)
    panels = {name: command.rich_help_panel for name, command in root.commands.items()}
    assert set(panels.values()) == {"Sweep", "Data", "Results", "Release", "Cluster"}
    assert list(dict.fromkeys(panels.values())) == list(GROUPS)
    assert len(panels) == 21
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"}).output
    assert [name for name in GROUPS if f"─ {name} ─" in shown] == list(GROUPS)


def test_every_command_option_and_argument_says_what_it_is():
    """One sentence for a command; for a parameter its effect, and its default where it has one."""
    commands = all_commands(typer.main.get_command(app))
    assert len(commands) == 21
    assert "k8s render" in commands
    parameters = 0
    for name, command in commands.items():
        sentence = command.help
        assert re.fullmatch(r"[A-Z].{20,}\.", sentence), (name, sentence)
        assert ". " not in sentence, (name, sentence)
        for parameter in command.params:
            text = parameter.help
            assert re.fullmatch(r"[A-Z].{10,}\.", text), (name, parameter.name, text)
            if parameter.required:
                continue
            shows = parameter.default not in (None, "", False) or getattr(
                parameter, "is_flag", False
            )
            assert shows or "Default: " in text, (name, parameter.name, text)
        parameters += len(command.params)
    assert parameters == 139


def test_plan_prints_one_json_object_and_touches_nothing(tmp_path, write_spec):
    spec = write_spec()
    result = CliRunner().invoke(
        app, ["plan", str(spec), "--storage", str(tmp_path / "st"), "--json"]
    )
    assert result.exit_code == 0
    assert json.loads(result.stdout)["sweep"] == "small"
    assert result.stdout.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_plan_for_people(tmp_path, write_spec):
    result = CliRunner().invoke(app, ["plan", str(write_spec()), "--storage", str(tmp_path / "st")])
    assert result.exit_code == 0
    assert "What is left takes an unknown time: no sweep of this family" in result.stdout
    assert "most optimiser steps" in result.stdout
