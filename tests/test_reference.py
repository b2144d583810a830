"""The API reference can be built: every module imports, and has its page."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cluster", "jobs", "orchestrator")


@pytest.mark.full  # ruff's D rules hold that there is something to build it from
def test_every_module_has_its_page(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "pdoc", "--output-directory", str(tmp_path), *PACKAGES],
        cwd=ROOT,
        env={**os.environ, "PDOC_ALLOW_EXEC": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    # Ray's type of an actor's handle names a type that its module does not have.
    warnings = [line for line in built.stderr.splitlines() if "Import of ActorHandle" not in line]
    assert warnings == []
    modules = {
        path.relative_to(ROOT).with_suffix("")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if not path.name.startswith("_")
    }
    assert len(modules) > 180
    missing = [m for m in modules if not (tmp_path / m).with_suffix(".html").is_file()]
    assert not missing
