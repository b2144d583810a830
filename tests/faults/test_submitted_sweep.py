"""A sweep is submitted to a real cluster, stopped in mid-training, and submitted again."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from cluster.storage.base import LocalStorage
from orchestrator.ledger import VERDICT_FILE, Ledger
from tests.raylets import Raylets, wait_until
from tests.small_sweep import NAME, write_spec

pytestmark = pytest.mark.full

_CLUSTER = "{nodes_share_files: true, storage: %s, driver: {cpus: 1}}\n"


@dataclass
class User:
    """Somebody with the cluster's token and a spec."""

    cluster: Raylets
    spec: Path
    file: Path
    storage: Path

    def voxsweep(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-c", "from orchestrator.cli import main; main()"),
                *(*arguments, "--json"),
            ],
            env={**self.cluster.environment, **environment},
            cwd=self.spec.parent,
            capture_output=True,
            text=True,
            timeout=500,
        )

    def ask(self, *arguments: str) -> dict[str, Any]:
        """What a command answers that reaches the cluster."""
        ended = self.voxsweep(*arguments, "--address", self.cluster.dashboard_url)
        assert ended.returncode == 0, ended.stderr
        assert self.cluster.token not in ended.stdout + ended.stderr
        return json.loads(ended.stdout.splitlines()[-1])

    def submit(self) -> dict[str, Any]:
        return self.ask("submit", str(self.spec), "--cluster", str(self.file))

    def held(self) -> dict[str, list[str]]:
        """Actors that live, placement groups that hold resources, and drivers that run."""

        def rows(kind: str) -> list[dict[str, Any]]:
            answer = requests.get(
                f"{self.cluster.dashboard_url}/api/v0/{kind}?detail=1",
                headers={"Authorization": f"Bearer {self.cluster.token}"},
                timeout=60,
            )
            return answer.json()["data"]["result"]["result"]

        return {
            "actors": [r["class_name"] for r in rows("actors") if r["state"] != "DEAD"],
            "groups": [r["name"] for r in rows("placement_groups") if r["state"] != "REMOVED"],
            "processes": [
                process.name()
                for process in self.cluster.processes()
                if any("orchestrator" in part for part in process.cmdline())
            ],
        }


@pytest.fixture(scope="module")
def user(tmp_path_factory, job_cluster):
    folder = tmp_path_factory.mktemp("user")
    storage, file = folder / "st", folder / "cluster.yaml"
    file.write_text(_CLUSTER % storage)
    return User(job_cluster, write_spec(folder), file, storage)


@dataclass
class Story:
    first: dict[str, Any]
    twice: dict[str, Any]
    held_before: dict[str, list[str]]
    running: dict[str, Any]
    stopped: dict[str, Any]
    held_after: dict[str, list[str]]
    kept: dict[Path, int]
    again: dict[str, Any]
    logs: dict[str, Any]


@pytest.fixture(scope="module")
def story(user):
    """Submitted twice, stopped after the first epoch, submitted again, followed to the end."""
    first, twice = user.submit(), user.submit()
    wait_until(lambda: list(user.storage.glob(f"{NAME}/trials/*/checkpoints/*/COMMITTED")))
    held_before = user.held()
    running = user.ask("status", NAME, "--storage", str(user.storage))
    stopped = user.ask("stop", NAME)
    wait_until(lambda: not any(user.held().values()))
    held_after = user.held()
    kept = {
        path: path.stat().st_ino
        for marker in user.storage.glob(f"{NAME}/trials/*/checkpoints/*/COMMITTED")
        for path in marker.parent.iterdir()
    }
    again = user.submit()
    logs = user.ask("logs", again["job"], "--follow")
    return Story(first, twice, held_before, running, stopped, held_after, kept, again, logs)


def test_the_same_sweep_twice_is_one_job(story):
    assert story.first["new"]
    assert not story.twice["new"]
    assert story.twice["job"] == story.first["job"]
    assert story.first["metadata"]["sweep"] == NAME


def test_its_status_is_that_of_its_storage_and_its_job(story):
    assert [job["job"] for job in story.running["jobs"]] == [story.first["job"]]
    assert story.running["jobs"][0]["status"] == "RUNNING"
    assert story.running["epochs"] >= 1
    assert story.running["verdict"] is None


def test_stopped_it_holds_nothing_and_keeps_everything(story):
    assert story.held_before["processes"]
    assert "HostActor" in story.held_before["actors"]
    assert story.stopped["status"] == "STOPPED"
    assert not any(story.held_after.values())
    assert story.kept
    assert {path: path.stat().st_ino for path in story.kept} == story.kept


def test_submitted_again_it_goes_on_to_its_verdict(story, user):
    assert story.again["job"] == f"{story.first['job']}-r2"
    assert story.again["new"]
    assert story.logs["status"] == "SUCCEEDED", story.logs["logs"]
    verdict = Ledger(LocalStorage(user.storage), NAME).read_text(VERDICT_FILE)
    assert verdict is not None
    said = json.loads(story.logs["logs"].splitlines()[-1])
    assert said["verdict"] == json.loads(verdict)["verdict"]


def test_another_token_is_refused(user, tmp_path):
    other = tmp_path / "other"
    other.write_text("f00d" * 16)
    ended = user.voxsweep(
        *("status", NAME, "--address", user.cluster.dashboard_url),
        RAY_AUTH_TOKEN_PATH=str(other),
    )
    assert ended.returncode == 4
    assert "does not accept the token" in ended.stderr
    assert "f00d" not in ended.stderr
