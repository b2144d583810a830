"""Benchmarks start, and say what their result is and how to get it again. Nothing is timed here."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


def test_there_are_nine():
    names = [
        *(
            "data",
            "makespan",
            "overhead",
            "packing",
            "qwen3_tts_step",
            "scale",
            "scoring",
            "search",
            "verdicts",
        ),
    ]
    assert [script.stem for script in SCRIPTS] == names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_starts_and_says_how_to_repeat_it(script):
    said = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert "--quick" in said.stdout
    source = script.read_text()
    for part in (
        f"\nCommand: python benchmarks/{script.name} ",
        "\nClaim: ",
        "\nBaseline: ",
        "\nWhere it loses: ",
    ):
        assert part in source
    assert script.name in (FOLDER / "README.md").read_text()
