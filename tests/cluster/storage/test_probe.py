"""What a storage is found to be able to do, and what is said where it is not."""

import errno
import fcntl
import os
import sqlite3
import time

import pytest

from cluster.storage.base import LocalStorage, open_storage
from cluster.storage.probe import probe


def found(storage) -> dict[str, tuple[bool, str]]:
    return {check.name: (check.is_met, check.found) for check in probe(storage)}


def test_a_directory_that_can_do_all_is_left_as_it_was(tmp_path):
    checks = found(LocalStorage(tmp_path / "not" / "yet"))
    assert list(checks) == ["fsync", "rename", "lock", "SQLite", "free space", "clock"]
    assert all(is_met for is_met, _ in checks.values()), checks
    assert list(tmp_path.iterdir()) == []


def no_flock(file, how) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def no_database(path) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_a_file_system_without_locks_is_told_with_what_helps(tmp_path, monkeypatch):
    """As Lustre without -o flock."""
    monkeypatch.setattr(fcntl, "flock", no_flock)
    monkeypatch.setattr(sqlite3, "connect", no_database)
    checks = found(LocalStorage(tmp_path))
    assert [name for name, (is_met, _) in checks.items() if not is_met] == ["lock", "SQLite"]
    assert "Lustre: -o flock" in checks["lock"][1]
    assert "records.mlflow: postgresql" in checks["SQLite"][1]
    with (
        pytest.raises(OSError, match=r"has no locks \(flock\).*\.k\.lock"),
        LocalStorage(tmp_path).exclusively("k"),
    ):
        pass


def test_a_folder_that_cannot_be_written(tmp_path):
    checks = found(LocalStorage(tmp_path.__class__("/proc/none")))
    assert list(checks) == ["write"]
    assert not checks["write"][0]


def test_a_clock_that_is_wrong_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 4e9)
    is_met, said = found(LocalStorage(tmp_path))["clock"]
    assert not is_met
    assert "Set this machine's clock" in said


def test_s3(bucket):
    checks = found(open_storage("s3://voices/sweeps"))
    assert list(checks) == ["read, write and delete", "conditional writes", "clock"]
    assert all(is_met for is_met, _ in checks.values()), checks
    assert not [each.key for each in bucket.objects.all() if "probe-" in each.key]


def test_no_bucket(s3_login):
    checks = found(open_storage("s3://nobodys/sweeps"))
    assert not any(is_met for is_met, _ in checks.values())
