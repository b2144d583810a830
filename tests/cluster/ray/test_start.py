"""Ray is started where much is in its way; where it cannot be, the message says what to do."""

import errno
import os
import subprocess
import sys

import pytest

from cluster.ray.connect import _not_started, ray_cluster, ray_folder

PROGRAM = """
from cluster.ray.connect import ray_cluster
with ray_cluster(None):
    import ray
    print("started", ray.get(ray.remote(lambda: 1).remote()))
"""


def test_a_folder_that_is_too_long_for_sockets_is_replaced(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/scratch/job")
    assert ray_folder() == "/scratch/job"
    monkeypatch.setenv("TMPDIR", f"/scratch/{'x' * 31}")
    assert ray_folder() == "/tmp"
    monkeypatch.setenv("RAY_TMPDIR", "/short")
    assert ray_folder() == "/short"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "Free space in /scratch, or set RAY_"),
        (PermissionError(errno.EACCES, "Permission denied"), "a directory that can be written"),
        (Exception("The current node timed out during startup. This"), "not ready after 300 s"),
        (
            RuntimeError("gcs died\nmore"),
            "gcs died more. Ray's logs are in /scratch/ray/session_latest",
        ),
    ],
)
def test_the_message_has_the_cause_and_the_way_out(monkeypatch, error, said):
    monkeypatch.setenv("RAY_TMPDIR", "/scratch")
    assert said in _not_started(error, None)


def test_a_folder_that_cannot_be_written_is_named(monkeypatch):
    """Not as a permission: root has them all."""
    monkeypatch.setenv("RAY_TMPDIR", "/proc/none")
    with pytest.raises(ConnectionError, match="instead of /proc/none"), ray_cluster(None):
        pass


def test_a_failure_of_ray_itself_is_no_traceback(monkeypatch):
    import ray

    monkeypatch.setattr(ray, "init", lambda **options: None)
    with (
        pytest.raises(ConnectionError, match=r"Ray failed: .* Run the same command again"),
        ray_cluster("127.0.0.1:1"),
    ):
        raise ray.exceptions.WorkerCrashedError


@pytest.mark.full
def test_a_hostile_environment_is_no_hindrance(tmp_path):
    """A long TMPDIR, a HOME that cannot be written, and a token's file that is not there."""
    long = tmp_path / ("x" * 60)
    long.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    token = tmp_path / "token"
    hostile = {"TMPDIR": str(long), "HOME": "/proc", "RAY_AUTH_TOKEN_PATH": str(token)}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, **hostile},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert "started 1" in ended.stdout, ended.stderr
    assert len(token.read_text()) == 64
    assert "Traceback" not in ended.stderr
