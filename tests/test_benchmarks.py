"""Benchmarks start, and say what their result is and how to get it again. Nothing is timed here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


def test_there_are_twenty_one():
    names = [
        *(
            "after_training",
            "bits",
            "damage",
            "data",
            "demo",
            "gpu",
            "hearing",
            "hosting",
            "importances",
            "judging",
            "listening",
            "listening_load",
            "makespan",
            "overhead",
            "packing",
            "panels",
            "qwen3_tts_step",
            "say",
            "scale",
            "scoring",
            "search",
            "stopping",
            "verdicts",
            "voxcpm2_step",
        ),
    ]
    assert [script.stem for script in SCRIPTS] == names


_HELP = """
import contextlib, io, json, runpy, sys
found = {}
for script in sys.argv[1:]:
    sys.argv, out, code = [script, "--help"], io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            code = end.code
    found[script] = [code, out.getvalue()]
print(json.dumps(found))
"""
"""Asks each for its help, in one process: what they import takes seconds."""

_AS_THEY_RUN = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
}
"""What some of them set before they start themselves anew."""


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[int, str]]:
    """By script, the exit code and what is printed."""
    ended = subprocess.run(
        [sys.executable, "-c", _HELP, *map(str, SCRIPTS)],
        cwd=FOLDER.parent,
        env={**os.environ, **_AS_THEY_RUN, "PYTHONPATH": str(FOLDER)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_starts_and_says_how_to_repeat_it(script, helps):
    code, said = helps[str(script)]
    assert code == 0
    assert "--quick" in said
    source = script.read_text()
    for part in (
        f"\nCommand: python benchmarks/{script.name} ",
        "\nClaim: ",
        "\nBaseline: ",
        "\nWhere it loses: ",
    ):
        assert part in source
    assert script.name in (FOLDER / "README.md").read_text()
