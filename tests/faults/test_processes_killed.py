"""``kill -9`` of the driver, of a host and of a trial's own process, one after the other in one
small sweep on one machine: nothing is done, reported or said twice.

And the same sweep in S3, here because it is compared with the same undisturbed run.
"""

import contextlib
import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from cluster.storage.base import LocalStorage, Storage, open_storage
from orchestrator.ledger import (
    CONFIRMATION,
    REPORT_FILE,
    SCREEN,
    SHORTLIST,
    VERDICT_FILE,
    Ledger,
)
from orchestrator.verdict.outcome import Verdict
from tests.faulty_s3 import Fault
from tests.small_sweep import EPOCHS, NAME, RANKS, SCALES, Run, undisturbed, write_spec

pytestmark = pytest.mark.full
"""Three minutes; `make test` kills hosts and trials in the tests of pool and hosts."""

RAY_AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
"""Ray's own; they notice by themselves that their cluster is gone, but only after a minute."""

Inodes = dict[Path, tuple[int, int]]


@dataclass
class Story:
    storage: Path
    committed: list[Inodes] = field(default_factory=list)
    """What the storage held at each kill."""
    left_behind: list[str] = field(default_factory=list)
    """What went on running when the driver was killed."""
    thin_libraries: list[str] = field(default_factory=list)
    """Files that the trials' own processes had mapped, after an epoch was reported."""
    last: dict[str, object] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.storage / NAME

    @property
    def ledger(self) -> Ledger:
        return Ledger(LocalStorage(self.storage), NAME)

    def epochs(self, number: int) -> int:
        """How many trials have this epoch; looks at the storage, as nobody tells."""
        return len(list(self.folder.glob(f"trials/*/checkpoints/epoch-{number:03d}/COMMITTED")))

    def spoken(self, epoch: int) -> int:
        """How many variants of an epoch have been heard."""
        return len(list(self.folder.glob(f"clips/screen/*-e{epoch:02d}-*/COMMITTED")))

    def inodes(self) -> Inodes:
        """Every file of a committed checkpoint: writing it again would give it another inode."""
        markers = self.folder.glob("trials/*/checkpoints/epoch-*/COMMITTED")
        files = [path for marker in markers for path in marker.parent.iterdir()]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    def reported(self) -> dict[str, list[int]]:
        """By trial, the epochs that the last driver's Ray Tune heard of, in order."""
        heard: dict[str, list[int]] = {}
        for path in self.folder.glob("ray/*/result.json"):
            whole = path.read_text().rpartition("\n")[0]  # its last line may be under way
            for line in whole.splitlines():
                row = json.loads(line)
                heard.setdefault(row["trial"], []).append(row["epoch"])
        return heard


def named(run: Run, actor: str) -> list[psutil.Process]:
    """Processes of a run that Ray has given the name of this actor."""
    found = [each for each in run.alive() if any(actor in x for x in each.cmdline())]
    assert found, f"no process of {actor}"
    return found


def kill_one(run: Run, actor: str) -> list[str]:
    """``kill -9`` of the first process of this actor that still runs, and what it had mapped."""
    libraries: list[str] = []

    def killed() -> bool:
        for each in run.alive():
            with contextlib.suppress(psutil.NoSuchProcess):  # its trial may just have ended
                if any(actor in part for part in each.cmdline()):
                    libraries[:] = [region.path for region in each.memory_maps()]
                    each.kill()
                    return True
        return False

    run.wait_for(killed)
    return libraries


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Story:
    """The driver is killed while the first trial's last epoch speaks; when the second trial has an
    epoch its host, and later its own process."""
    place = tmp_path_factory.mktemp("killed")
    spec, story = write_spec(place), Story(place / "st")
    run = Run(spec, story.storage).start()
    try:
        run.wait_for(lambda: story.epochs(EPOCHS) == 1 and story.spoken(EPOCHS) < len(SCALES))
        run.kill()
        story.left_behind = run.left_behind(but=RAY_AGENTS)
    finally:
        run.end()
    story.committed.append(story.inodes())
    run = Run(spec, story.storage).start()
    try:
        run.wait_for(lambda: story.epochs(1) == len(RANKS))
        story.committed.append(story.inodes())
        named(run, "HostActor")[0].kill()
        run.wait_for(lambda: len(story.reported()) == len(RANKS))
        story.committed.append(story.inodes())
        story.thin_libraries = kill_one(run, "Trainable")
        assert run.finish() == 0, run.stderr
    finally:
        run.end()
    story.last = json.loads(run.stdout)
    return story


@pytest.fixture(scope="module")
def straight(shared_folder) -> Ledger:
    """The same sweep without a kill, and with two trials at once on one host."""
    run = undisturbed(shared_folder)
    assert run.code == 0, run.stderr
    return Ledger(LocalStorage(run.storage), NAME)


def test_each_kill_came_at_its_moment(story):
    held = [len({path.parent for path in committed}) for committed in story.committed]
    assert held[0] == EPOCHS
    assert held[1] == EPOCHS + 1
    assert held[2] > EPOCHS


def test_the_last_run_trains_what_was_missing(story):
    """The first trial had both its epochs; the second was never started."""
    assert story.last["trials"] == len(RANKS)
    assert story.last["epochs_trained"] == EPOCHS
    records = story.ledger.trials()
    assert [record.point["rank"] for record in records] == list(RANKS)
    for record in records:
        assert len(story.ledger.epochs(record.id)) == EPOCHS
        assert story.ledger.result(record.id).end == "finished"


def test_every_epoch_is_reported_once(story):
    every = list(range(1, EPOCHS + 1))
    assert story.reported() == {record.id: every for record in story.ledger.trials()}


def test_no_committed_epoch_is_written_again(story):
    after = story.inodes()
    for committed in story.committed:
        assert {path: after[path] for path in committed} == committed


def test_a_trials_own_process_has_no_torch_in_it(story):
    assert story.thin_libraries, "no process of a trial was seen"
    assert not [path for path in story.thin_libraries if "torch" in path]


def test_the_weights_are_those_of_an_undisturbed_run(story, straight):
    """Bit for bit: adapters, and the optimiser that the next epoch starts from."""
    assert [record.id for record in story.ledger.trials()] == [
        record.id for record in straight.trials()
    ]
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


def test_it_sounds_the_same_and_is_judged_the_same(story, straight):
    clips = list((straight.storage.root / NAME / "clips").rglob("*.flac"))
    assert clips
    for path in clips:
        ours = story.storage / path.relative_to(straight.storage.root)
        assert ours.read_bytes() == path.read_bytes(), path.parent.name
    assert _verdict(story.ledger) == _verdict(straight)


@pytest.mark.full
def test_in_s3_it_is_the_same_sweep(straight, bucket, faulty_s3, tmp_path):
    """Nothing of it lies in a file system, and S3 fails for a while when the first epoch ends."""
    url, outage = "s3://voices/sweeps", Fault("busy", "COMMITTED|adapter_model", times=6)
    run = Run(write_spec(tmp_path, slots=2), url)
    with faulty_s3.failing(outage):
        run.complete()
    assert outage.met == outage.times
    assert json.loads(run.stdout)["report"] == f"{url}/{NAME}/{REPORT_FILE}"
    here = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert not {"adapter_model.safetensors", "trial.json"} & here, "a node keeps no checkpoints"
    ledger = Ledger(open_storage(url), NAME)
    assert _adapters(ledger) == _adapters(straight)
    assert _heard(ledger) == _heard(straight)
    assert _verdict(ledger) == _verdict(straight)
    held = [bucket.Object(each.key).get()["Body"].read() for each in bucket.objects.all()]
    assert not any(b"very-secret" in data for data in held)
    assert "very-secret" not in run.stdout + run.stderr


def _adapters(ledger: Ledger) -> dict[str, str]:
    """SHA-256 of every checkpoint's weights and moments."""
    keys = [
        ledger.checkpoint(record.id, epoch)
        for record in ledger.trials()
        for epoch in range(1, EPOCHS + 1)
    ]
    names = ("adapter_model.safetensors", "optimizer.safetensors")
    assert len(keys) == len(RANKS) * EPOCHS
    return {
        f"{key}/{name}": sha256(ledger.storage.read_from(key, name)).hexdigest()
        for key in keys
        for name in names
    }


def _heard(ledger: Ledger) -> dict[str, str]:
    """SHA-256 of the clips of every prompt set."""
    return {
        f"{prompt_set}/{variant}": _digest_of(ledger.storage, ledger.clips(variant, prompt_set))
        for prompt_set in (SCREEN, SHORTLIST, CONFIRMATION)
        for variant in ledger.storage.children(ledger.path("clips", prompt_set))
    }


def _digest_of(storage: Storage, key: str) -> str:
    found = sha256()
    with storage.borrow(key) as directory:
        for path in sorted(directory.glob("*.flac")):
            found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def _verdict(ledger: Ledger) -> Verdict:
    """With the protocol's digest: where the prompts lie is no part of it."""
    return Verdict.from_json(ledger.read_text(VERDICT_FILE))


def test_a_killed_driver_takes_its_cluster_along(story):
    assert set(story.left_behind) <= RAY_AGENTS
