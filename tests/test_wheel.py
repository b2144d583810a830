"""What is installed: every file of the packages, and nothing beside them."""

import tomllib
from pathlib import Path

from setuptools import find_namespace_packages

ROOT = Path(__file__).parents[1]
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = find_namespace_packages(str(ROOT), include=SETUP["packages"]["find"]["include"])
"""As setuptools finds them for a pyproject.toml: folders of data among them."""


def test_tools_and_tests_are_not_installed():
    assert {name.split(".")[0] for name in FOLDERS} == {"orchestrator", "jobs", "cluster"}


def test_every_file_of_a_package_is_installed():
    patterns = ["*.py", *SETUP["package-data"]["*"]]
    files = [
        path
        for package in ("orchestrator", "jobs", "cluster")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert len(files) > 350
    for path in files:
        assert ".".join(path.parent.relative_to(ROOT).parts) in FOLDERS, path
        assert any(path.match(pattern) for pattern in patterns), path
