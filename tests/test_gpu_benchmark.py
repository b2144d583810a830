"""What waits for a GPU: on a CPU, at small shapes, and what it does when a part fails."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", FOLDER / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_part_that_fails_is_recorded_and_the_others_go_on(gpu, tmp_path, monkeypatch, capsys):
    def run(command, timeout, **_):
        part = command[command.index("--part") + 1]
        assert timeout == gpu.PARTS[part][1]
        if part == "packs":
            raise subprocess.TimeoutExpired(command, timeout)
        if part == "slots":
            return subprocess.CompletedProcess(command, 1, "", "Traceback\nValueError: no GPU")
        if part == "zero":
            return subprocess.CompletedProcess(command, -9, "", "")
        return subprocess.CompletedProcess(command, 0, 'noise\n{"rows": 1}\n', "a warning")

    monkeypatch.setattr(gpu.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--tiny", "--out", str(tmp_path / "found.json")])
    gpu.main()
    result = json.loads((tmp_path / "found.json").read_text())
    assert result == json.loads(capsys.readouterr().out)
    parts = result["parts"]
    assert list(parts) == list(gpu.PARTS)
    assert parts["packs"]["error"] == f"not done after {gpu.PARTS['packs'][1]} s"
    assert parts["slots"]["error"] == "ValueError: no GPU"
    assert parts["zero"]["error"] == "exit code -9"
    assert [name for name in parts if "rows" in parts[name]] == [
        "equality",
        "qwen3_tts",
        "speech",
        "scores",
    ]


def test_all_parts_end_within_ten_minutes(gpu):
    assert sum(seconds for _, seconds in gpu.PARTS.values()) <= 590


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_every_part_runs_on_a_cpu_but_the_one_that_needs_a_gpu(tmp_path):
    out = tmp_path / "found.json"
    subprocess.run(
        [FOLDER / "gpu.sh", out, "--tiny"],
        env={**os.environ, "PYTHON": sys.executable},
        check=True,
        capture_output=True,
    )
    parts = json.loads(out.read_text())["parts"]
    assert {name: part["error"] for name, part in parts.items() if "error" in part} == {
        "slots": "ValueError: slots can be found by memory on a GPU alone: say how many in the spec"
    }
    equal = parts["equality"]["rows"]["fp32"].values()
    assert [row["largest difference"] for row in equal] == [0.0] * 8
    assert [row["ms"].keys() for row in parts["packs"]["rows"]] == [
        {"PEFT", "one after another", "packed"}
    ] * 2
    assert len(parts["zero"]["rows"]) == 4
    assert parts["qwen3_tts"]["ratios"].keys() == {"all frames", "25% of frames"}
