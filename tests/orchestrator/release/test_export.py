"""``voxsweep export`` from outside."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.families.base import FrozenBase
from jobs.problems import InputError
from orchestrator.cli import app, main
from tests.jobs.export.voices import random_voice


@pytest.fixture(scope="module")
def voice(embedded_base: FrozenBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_voice(tmp_path_factory.mktemp("voice"), embedded_base).directory


def test_a_voice_directory_is_exported_and_told_in_json(voice: Path, tmp_path: Path):
    out = tmp_path / "out"
    ended = CliRunner().invoke(
        app, ["export", str(voice), "--format", "peft", "-o", str(out), "--json"]
    )
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout) == json.loads((out / "manifest.json").read_text())
    again = CliRunner().invoke(app, ["export", str(voice), "--format", "peft", "-o", str(out)])
    assert isinstance(again.exception, InputError)
    assert "is there already" in str(again.exception)


def test_what_is_not_the_voice_is_no_fault_of_the_input(
    voice: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("jobs.export.codec_lm_reference._LOGITS", -1.0)
    monkeypatch.setattr("jobs.export.codec_lm_reference._SHARE", -1.0)
    asked = ["voxsweep", "export", str(voice), "--format", "peft", "-o", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    assert "must be the voice that it was made of" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_is_not_there_is_told(tmp_path: Path):
    ended = CliRunner().invoke(
        app,
        ["export", "no", "--format", "gguf", "-o", str(tmp_path / "x"), "--storage", str(tmp_path)],
    )
    assert isinstance(ended.exception, InputError)
    assert "must hold the sweep 'no'" in str(ended.exception)
