"""The commands that the documents show parse, and a test runs each or the line says why not."""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from orchestrator.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

RUN_BY = {
    "plan": "tests.orchestrator.test_cli",
    "prepare": "tests.orchestrator.test_cli",
    "run": "tests.small_sweep",
    "make-base": "tests.jobs.families.test_new_base",
    "init": "tests.orchestrator.spec.test_first_spec",
    "check": "tests.orchestrator.commands.test_check",
    "doctor": "tests.orchestrator.test_sweep",
    "submit": "tests.faults.test_submitted_sweep",
    "logs": "tests.faults.test_submitted_sweep",
    "stop": "tests.faults.test_submitted_sweep",
    "listen": "tests.orchestrator.listening_room.test_command",
    "k8s": "tests.orchestrator.remote.test_kubernetes",
    **dict.fromkeys(
        ("study", "status", "judge", "records", "promote", "demote", "rollback", "say", "export"),
        "tests.orchestrator.test_sweep",
    ),
}
"""Each command, and the tests through which it runs as a user runs it."""

NEEDS = re.compile(r"#.*\bneeds\b")
"""What a line says that shows more than this machine has."""


def shown(document: Path) -> Iterator[str]:
    """The lines of the blocks that begin with ``voxsweep``, and what stands so in the text."""
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
        if re.match(r"\s*(\.venv/bin/)?voxsweep [a-z]", line):
            yield line.strip()


def words(line: str) -> list[str]:
    """Its arguments; of what may be left out all, of alternatives the first."""
    plain = re.sub(r"[\[\]]", " ", line.partition(" #")[0])
    return [word.partition("|")[0] for word in shlex.split(plain)][1:]


LINES = [(document, line) for document in DOCUMENTS for line in shown(document)]


def test_there_are_commands():
    assert len(LINES) > 30
    assert {document.name for document, _ in LINES} >= {"README.md", "cluster.md", "registry.md"}


@pytest.mark.parametrize(("document", "line"), LINES, ids=[f"{d.name}: {li}" for d, li in LINES])
def test_it_parses(document, line):
    """Command, arguments and options exist, and take such values."""
    command = typer.main.get_command(app)
    arguments = words(line)
    assert isinstance(command, TyperGroup)
    while isinstance(command, TyperGroup):
        name, *arguments = arguments
        assert name in command.commands, line
        command = command.commands[name]
    command.make_context(line, arguments)


def test_every_command_is_run_by_a_test():
    group = typer.main.get_command(app)
    assert set(RUN_BY) == set(group.commands)
    for command, module in RUN_BY.items():
        source = Path(import_module(module).__file__).read_text()
        assert re.search(rf'"{command}["\s]', source), f"{module} does not run {command}"


def test_what_a_first_hour_cannot_run_says_what_it_needs():
    """Of the README's lines, those that say nothing are run, as they stand, on a sweep's folder."""
    from tests.orchestrator.test_sweep import FIRST_HOUR  # imports MLflow

    alone = [" ".join(words(line)) for line in shown(DOCUMENTS[0]) if not NEEDS.search(line)]
    assert len(alone) > 4
    run = {line.replace("demo", "small") for line in FIRST_HOUR}
    assert [line for line in alone if line.replace("demo", "small") not in run] == []
