"""Whether a storage can do what sweeps need of it, tried in place; nothing is left behind."""

import fcntl
import os
import shutil
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cluster.names import split_s3
from cluster.storage.base import LocalStorage, Storage, lock

_LEAST_FREE = 2**30
"""Bytes. The demo's sweep takes half of it."""
_MOST_SKEW = 60.0
"""Seconds between this machine's clock and the storage's."""


@dataclass(frozen=True)
class StorageCheck:
    """Something that sweeps need of a storage, and whether it can be had there."""

    name: str
    is_met: bool
    found: str
    """What was seen; where it is not met, with what helps."""


def probe(storage: Storage) -> Iterator[StorageCheck]:
    """Try the storage, one need after the other; a plug-in's by its ``Storage`` methods alone."""
    if isinstance(storage, LocalStorage):
        yield from _probe_directory(storage.root)
    elif storage.url.startswith("s3://"):
        yield from _probe_s3(storage.url)
    else:
        yield _tried("read and write", lambda: _round_trip(storage), "See the plug-in's page.")


def _probe_directory(root: Path) -> Iterator[StorageCheck]:
    there = next(each for each in (root, *root.parents) if each.is_dir())
    try:
        folder = tempfile.TemporaryDirectory(prefix=".voxsweep-probe-", dir=there)
    except OSError as error:
        yield StorageCheck("write", is_met=False, found=f"{error}. Name a folder you may write to.")
        return
    with folder as name:
        place = Path(name)
        yield _tried("fsync", lambda: _sync(place), "Name a folder on another disk.")
        yield _tried("rename", lambda: _rename(place), "Name a folder on another disk.")
        yield _tried(
            "lock",
            lambda: _lock(place),
            "Mount the file system with locks (Lustre: -o flock; NFS: version 4), or name another.",
        )
        yield _tried(
            "SQLite",
            lambda: _database(place),
            "Keep MLflow's runs elsewhere, with records.mlflow: postgresql://... or a server; the "
            "study is a journal, which needs no database.",
        )
        skew = time.time() - (place / "synced").stat().st_mtime
    free = shutil.disk_usage(there).free
    yield StorageCheck("free space", free >= _LEAST_FREE, f"{free / 2**30:.1f} GiB")
    yield _clock(skew)


def _probe_s3(url: str) -> Iterator[StorageCheck]:
    from cluster.storage import s3, s3_writing  # boto3 takes 0.4 s to import

    bucket, prefix = split_s3(url)
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    key, data = f"{prefix}.voxsweep-probe-{uuid.uuid4().hex}", uuid.uuid4().hex.encode()

    def round_trip() -> str:
        s3_writing.put(bucket, key, data)
        if s3.read(bucket, key) != data:
            raise OSError("other bytes were read than were written")
        s3_writing.delete(bucket, [key])
        return "works"

    def conditions() -> str:
        s3_writing.check_conditions(bucket, prefix)
        return "honoured (If-None-Match)"

    step = "See docs/storage.md for the permissions and the environment."
    yield _tried("read, write and delete", round_trip, step)
    yield _tried("conditional writes", conditions, "Use a server that has them.")
    try:
        yield _clock(s3.clock_skew(bucket, prefix))
    except OSError as error:
        yield StorageCheck("clock", is_met=False, found=str(error))


def _tried(name: str, attempt: Callable[[], str], next_step: str) -> StorageCheck:
    try:
        return StorageCheck(name, is_met=True, found=attempt())
    except (OSError, sqlite3.Error) as error:
        return StorageCheck(name, is_met=False, found=f"{error}. {next_step}")


def _sync(place: Path) -> str:
    with (place / "synced").open("wb") as file:
        file.write(b"probe")
        file.flush()
        os.fsync(file.fileno())
    return "works"


def _rename(place: Path) -> str:
    for name in ("new", "old"):
        (place / name).write_text(name)
    (place / "new").replace(place / "old")
    (place / "folder").mkdir()
    (place / "folder").rename(place / "renamed")
    if (place / "old").read_text() != "new":
        raise OSError("a file that was renamed over another has not replaced it")
    return "works"


def _lock(place: Path) -> str:
    with (place / "lock").open("wb") as first, (place / "lock").open("wb") as second:
        lock(first)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "works"
    raise OSError("two had the same lock at once")


def _database(place: Path) -> str:
    with closing(sqlite3.connect(place / "probe.db")) as database, database:
        database.execute("CREATE TABLE probe (number INTEGER)")
        database.execute("INSERT INTO probe VALUES (1)")
    return "works"


def _clock(skew: float) -> StorageCheck:
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the storage's"
    step = "" if abs(skew) <= _MOST_SKEW else ". Set this machine's clock (NTP)."
    return StorageCheck("clock", abs(skew) <= _MOST_SKEW, f"this machine's is {found}{step}")


def _round_trip(storage: Storage) -> str:
    data = uuid.uuid4().hex.encode()
    storage.write(".voxsweep-probe", data)
    if storage.read(".voxsweep-probe") != data:
        raise OSError("other bytes were read than were written")
    return "works"
