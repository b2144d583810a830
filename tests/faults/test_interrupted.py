"""A sweep that is interrupted, by each signal, where much else is in its way; then it goes on.

It lies under a path that no URL takes as it is, in a job that a launcher started, and is called
where the user has modules of the names of ours. At the end the whole project is moved.
"""

import json
import os
import signal
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.storage.base import LocalStorage
from orchestrator.ledger import VERDICT_FILE, Ledger
from tests.small_sweep import EPOCHS, NAME, RANKS, Run, write_spec

pytestmark = pytest.mark.full

PLACE = "a b%20?#'é"
LAUNCHER = {
    "MASTER_ADDR": "198.51.100.7",  # nobody is there (TEST-NET-2 of RFC 5737)
    "MASTER_PORT": "29500",
    "RANK": "3",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "3",
}


@dataclass
class Story:
    storage: Path
    codes: dict[str, int] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    """What each run wrote to stderr."""
    judged: dict[str, bool] = field(default_factory=dict)
    """Whether there was a verdict after it."""
    last: dict[str, object] = field(default_factory=dict)
    moved: dict[str, object] = field(default_factory=dict)
    """What the run says that follows where the whole project was moved."""
    verdicts: list[str | None] = field(default_factory=list)
    """Before and after it was moved."""

    @property
    def ledger(self) -> Ledger:
        return Ledger(LocalStorage(self.storage), NAME)

    def epochs(self) -> int:
        return len(list(self.storage.glob(f"{NAME}/trials/*/checkpoints/epoch-*/COMMITTED")))


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Story:
    place = tmp_path_factory.mktemp("interrupted") / PLACE
    place.mkdir()
    for name in ("cluster.py", "orchestrator.py", "jobs.py"):
        (place / name).write_text("raise RuntimeError('not ours')")
    spec, story = write_spec(place), Story(place / "st")
    before = Path.cwd()
    os.chdir(place)
    try:
        for name in ("SIGUSR1", "SIGTERM", "the end"):
            run = Run(spec, story.storage, environment={**os.environ, **LAUNCHER}).start()
            try:
                if name != "the end":
                    known = story.epochs()
                    run.wait_for(lambda known=known: story.epochs() > known)
                    run.signal(getattr(signal, name))
                story.codes[name] = run.finish()
                story.said[name] = run.stderr
            finally:
                run.end()
            story.judged[name] = story.ledger.read_text(VERDICT_FILE) is not None
        story.last = json.loads(run.stdout)
        story.verdicts.append(story.ledger.read_text(VERDICT_FILE))
        there = place.with_name("moved")
        place.rename(there)
        story.storage = there / "st"
        run = Run(there / spec.name, story.storage).complete()
        story.moved = json.loads(run.stdout)
        story.verdicts.append(story.ledger.read_text(VERDICT_FILE))
    finally:
        os.chdir(before)
    return story


def test_each_signal_ends_with_its_code_and_says_how_to_go_on(story):
    assert story.codes == {"SIGUSR1": 5, "SIGTERM": 5, "the end": 0}, story.said
    for name in ("SIGUSR1", "SIGTERM"):
        assert "interrupted: the hosts commit what they have trained" in story.said[name]
        assert (
            f"Interrupted by {name}. Everything committed stays; run the same" in story.said[name]
        )


def test_nothing_is_judged_while_trials_are_open(story):
    assert story.judged == {"SIGUSR1": False, "SIGTERM": False, "the end": True}


def test_nobody_sees_a_stack(story):
    for said in story.said.values():
        assert "Traceback" not in said
        assert "***" not in said


def test_it_goes_on_to_the_end(story):
    assert story.last["trials"] == len(RANKS)
    assert story.epochs() == len(RANKS) * EPOCHS
    assert int(str(story.last["epochs_trained"])) < len(RANKS) * EPOCHS


def test_moved_as_a_whole_it_is_the_same_sweep(story):
    assert story.moved["epochs_trained"] == 0
    assert story.verdicts[0] == story.verdicts[1]
    assert story.moved["recorded"]


def test_all_of_it_lies_in_its_folder(story):
    place = story.storage.parent
    assert {path.name for path in place.parent.iterdir()} == {"moved"}
    folder = story.storage / NAME
    assert (folder / "optuna.journal").stat().st_size > 0
    with sqlite3.connect(folder / "mlflow.db") as database:
        rows = database.execute("SELECT artifact_uri FROM runs").fetchall()
    database.close()
    assert len(rows) == 1 + len(RANKS)
    artifacts = (folder / "mlartifacts").as_uri()
    assert all(row[0].startswith(artifacts) for row in rows)
