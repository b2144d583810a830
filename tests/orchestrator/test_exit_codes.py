"""The exit codes of the README's table, and messages in place of tracebacks."""

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.storage.base import LocalStorage
from jobs.embedded import VOICE_DIR
from orchestrator import interruption
from orchestrator.cli import GROUPS, main
from orchestrator.errors import Exit
from orchestrator.ledger import Ledger
from tests.orchestrator.scores.test_from_files import rows, write_protocol

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
DEAD = "http://127.0.0.1:9"
"""The port of a service that nobody runs: connections are refused."""


def test_the_table_in_the_readme_is_the_enum():
    rows = re.findall(r"^\| (\d) \| ", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [int(row) for row in rows] == sorted({int(code) for code in Exit})


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """``main`` takes the signals of its process, which here is pytest's."""
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption._received.clear()


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """A command in this process; what it does not turn into an exit code is raised."""
    monkeypatch.setattr("sys.argv", ["voxsweep", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


# A user's machine: what every command may meet

COMMANDS = {
    "plan": ["plan", "SPEC", "--storage", "STORAGE"],
    "run": ["run", "SPEC", "--storage", "STORAGE"],
    "status": ["status", "small", "--storage", "STORAGE"],
    "doctor": ["doctor", "--storage", "STORAGE"],
    "init": ["init", "SPEC", "--family", "codec_lm", "-o", "OUT", "--storage", "STORAGE"],
    "make_base": ["make-base", "SPEC", "--layout", "SPEC", "-o", "OUT"],
    "check": ["check", "SPEC", "--family", "codec_lm"],
    "prepare": ["prepare", "SPEC", "--storage", "STORAGE"],
    "judge": ["judge", "SPEC", "--protocol", "SPEC"],
    "study": ["study", "small", "--storage", "STORAGE"],
    "records": ["records", "small", "--storage", "STORAGE"],
    "listen": ["listen", "small", "--storage", "STORAGE"],
    "promote": ["promote", "small", "--storage", "STORAGE"],
    "demote": ["demote", "small", "--storage", "STORAGE"],
    "rollback": ["rollback", "small", "--storage", "STORAGE"],
    "say": ["say", "models:/small@champion", "one", "-o", "out.wav", "--storage", "STORAGE"],
    "export": ["export", "small", "--format", "peft", "-o", "OUT", "--storage", "STORAGE"],
    "submit": ["submit", "SPEC", "--address", DEAD, "--storage", "STORAGE"],
    "logs": ["logs", "small", "--address", DEAD],
    "stop": ["stop", "small", "--address", DEAD],
    "k8s": ["k8s", "render", "SPEC", "--storage", "STORAGE"],
}
SCENES = ("nothing is there", "the storage is a file", "no such folder may be made", "directories")
"""``directories``: where files are meant."""


def test_every_command_is_in_the_list():
    assert {c.__name__ for commands in GROUPS.values() for c in commands} <= COMMANDS.keys()


CLIPS = """\
{"audio": "ROOT/eight-five.flac", "text": "8 5", "split": "train"}
{"audio": "ROOT/zero-two.flac", "text": "0 2", "split": "validation"}
"""
SPEC = """\
name: small
family: codec_lm
data: {{synthetic: true, manifest: clips.jsonl, root: {root}}}
search: {{space: {{rank: [2, 4]}}}}
scoring: {{metrics: [word_error], primary: word_error, min_effect: 0.05}}
"""


def write_small(folder: Path) -> Path:
    """A spec of two clips, so that reading its data takes no time."""
    (folder / "clips.jsonl").write_text(CLIPS.replace("ROOT", str(VOICE_DIR)))
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.format(root=VOICE_DIR))
    return spec


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """What stands for the words in capitals."""
    spec, storage = tmp_path / "spec.yaml", tmp_path / "st"
    if request.param != "nothing is there":
        write_small(tmp_path)
    if request.param == "the storage is a file":
        storage.write_bytes(b"\x00\xff")
    if request.param == "no such folder may be made":
        storage = Path("/proc/none")
    if request.param == "directories":
        spec.unlink()
        for folder in (spec, storage / "small" / "spec.yaml", storage / "models.db"):
            folder.mkdir(parents=True)
    return {"SPEC": str(spec), "STORAGE": str(storage), "OUT": str(tmp_path / "out")}


LOADING = {("prepare", "the storage is a file"), ("prepare", "no such folder may be made")}
"""These load the base before they meet the storage."""
CASES = [
    pytest.param(*case, marks=[pytest.mark.full] if case in LOADING else [])
    for case in itertools.product(COMMANDS, SCENES)
]


@pytest.mark.parametrize(("name", "scene"), CASES, indirect=["scene"])
def test_no_command_shows_a_traceback(name, scene, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    arguments = [scene.get(word, word) for word in COMMANDS[name]]
    code = run_here(monkeypatch, *arguments)
    said = capsys.readouterr()
    assert code in (0, 2, 4), said
    assert "Traceback" not in said.out + said.err
    if code:
        assert (said.err + said.out).strip()


def test_a_dead_mlflow_server_is_told_by_each_command_of_the_registry(monkeypatch, capsys):
    for name in ("demote", "rollback", "say"):
        arguments = [word for word in COMMANDS[name] if word not in ("--storage", "STORAGE")]
        assert run_here(monkeypatch, *arguments, "--mlflow", DEAD) == Exit.INFRASTRUCTURE
        assert "must answer at http://127.0.0.1:9" in capsys.readouterr().err


# From outside: one process for each code


def voxsweep(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_0_and_3_from_outside(tmp_path):
    ended = voxsweep("plan", write_small(tmp_path), "--storage", tmp_path / "st", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    # Scores of set A alone: nothing confirms.
    protocol = write_protocol(tmp_path)
    scores = tmp_path / "scores.jsonl"
    of_both = [*rows("base", 0.5), *rows("tuned", 0.7)]
    scores.write_text("\n".join(row for row in of_both if '"a' in row))
    ended = voxsweep("judge", scores, "--protocol", protocol, cwd=tmp_path)
    assert ended.returncode == 3, ended.stderr


def test_2_and_4_from_outside(tmp_path):
    ended = voxsweep("plan", "none.yaml", cwd=tmp_path)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    ended = voxsweep("status", "small", "--storage", "/proc/self/mem/x", cwd=tmp_path)
    assert ended.returncode == 4, ended.stderr
    assert "Traceback" not in ended.stderr


INTERRUPTIONS = [
    "SIGUSR1",
    *(pytest.param(name, marks=pytest.mark.full) for name in ("SIGTERM", "SIGINT")),
]


@pytest.mark.parametrize("name", INTERRUPTIONS)
def test_5_from_outside(tmp_path, name):
    """While it waits for another driver of the sweep."""
    spec = write_small(tmp_path)
    with Ledger(LocalStorage(tmp_path / "st"), "small").driven(lambda line: None):
        process = subprocess.Popen(
            [*COMMAND, "run", str(spec), "--storage", str(tmp_path / "st"), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        line = next(line for line in process.stderr if "waiting" in line)
        assert f"process {os.getpid()}" in line
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert out == ""
    assert f"Interrupted by {name}" in err
    assert "Traceback" not in err
    assert "***" not in err, "a dump of the stack"
