"""``kill -9`` of a host, and of a trial's own process, in mid-sweep: nothing is reported twice."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from cluster.storage import LocalStorage
from orchestrator.ledger import VERDICT_FILE, Ledger
from orchestrator.verdict.outcome import Verdict
from tests.small_sweep import EPOCHS, NAME, RANKS, Run, undisturbed, write_spec

Inodes = dict[Path, tuple[int, int]]


@dataclass
class Story:
    run: Run
    committed: list[Inodes] = field(default_factory=list)
    """What the storage held at each kill."""
    thin_libraries: list[str] = field(default_factory=list)
    """Files that the trials' own processes had mapped, after an epoch was reported."""

    @property
    def folder(self) -> Path:
        return self.run.storage / NAME

    @property
    def ledger(self) -> Ledger:
        return Ledger(LocalStorage(self.run.storage), NAME)

    def epochs(self, number: int) -> int:
        """How many trials have committed this epoch."""
        return len(list(self.folder.glob(f"trials/*/checkpoints/epoch-{number:03d}/COMMITTED")))

    def inodes(self) -> Inodes:
        """Every file of a committed checkpoint: writing it again would give it another inode."""
        markers = self.folder.glob("trials/*/checkpoints/epoch-*/COMMITTED")
        files = [path for marker in markers for path in marker.parent.iterdir()]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    def reported(self) -> dict[str, list[int]]:
        """By trial, the epochs that Ray Tune heard of, in order."""
        heard: dict[str, list[int]] = {}
        for path in self.folder.glob("ray/*/result.json"):
            for line in path.read_text().splitlines():
                row = json.loads(line)
                heard.setdefault(row["trial"], []).append(row["epoch"])
        return heard

    def kill(self, actor: str) -> None:
        """``kill -9`` of one process of this run, which Ray has given the name of its actor."""
        self.committed.append(self.inodes())
        self.processes(actor)[0].kill()

    def processes(self, actor: str) -> list[psutil.Process]:
        found = [each for each in self.run.alive() if any(actor in x for x in each.cmdline())]
        assert found, f"no process of {actor}"
        return found


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Story:
    """The one host is killed when a trial has an epoch, and later a trial's process."""
    place = tmp_path_factory.mktemp("host-killed")
    run = Run(write_spec(place, slots=2), place / "st").start()
    story = Story(run)
    try:
        run.wait_for(lambda: story.epochs(1) >= 1)
        story.kill("HostActor")
        run.wait_for(lambda: any(story.reported().values()))
        story.thin_libraries = [
            region.path for each in story.processes("Trainable") for region in each.memory_maps()
        ]
        story.kill("Trainable")
        assert run.finish() == 0, run.stderr
    finally:
        run.end()
    return story


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Ledger:
    """The same sweep without a kill."""
    run, code, _ = undisturbed(lambda: tmp_path_factory.mktemp("undisturbed"))
    assert code == 0, run.stderr
    return Ledger(LocalStorage(run.storage), NAME)


def test_every_trial_finished(story):
    records = story.ledger.trials()
    assert [record.point["rank"] for record in records] == list(RANKS)
    for record in records:
        assert story.ledger.result(record.id).end == "finished"


def test_every_epoch_is_reported_once(story):
    every = list(range(1, EPOCHS + 1))
    assert story.reported() == {record.id: every for record in story.ledger.trials()}


def test_no_committed_epoch_is_written_again(story):
    after = story.inodes()
    assert len(story.committed) == 2
    for committed in story.committed:
        assert committed
        assert {path: after[path] for path in committed} == committed


def test_the_weights_are_those_of_an_undisturbed_run(story, straight):
    compared = 0
    for record in straight.trials():
        for epoch in range(1, EPOCHS + 1):
            ours, theirs = (
                ledger.storage.fetch(ledger.checkpoint(record.id, epoch))
                for ledger in (story.ledger, straight)
            )
            for name in ("adapter_model.safetensors", "optimizer.safetensors"):
                mine, its = load_file(ours / name), load_file(theirs / name)
                assert mine.keys() == its.keys()
                for key in mine:
                    assert np.array_equal(mine[key], its[key], equal_nan=True), (name, key)
                    compared += 1
    assert compared > 100


def test_the_verdict_is_the_same(story, straight):
    # The protocol names the prompt file, which lies elsewhere.
    ours, theirs = (
        replace(Verdict.from_json(ledger.read_text(VERDICT_FILE)), protocol_hash="")
        for ledger in (story.ledger, straight)
    )
    assert ours == theirs


def test_a_trials_own_process_has_no_torch_in_it(story):
    assert story.thin_libraries, "no process of a trial was seen"
    assert not [path for path in story.thin_libraries if "torch" in path]
