"""Where a sweep is kept: files under a root, directories that exist only once committed."""

import errno
import fcntl
import glob
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NewType, Protocol

from cluster.names import scheme
from cluster.plugins import Table
from cluster.storage.committed import (
    COMMITTED,
    Check,
    Committed,
    DamagedError,
    check_key,
    other_bytes,
)

_log = logging.getLogger(__name__)

StorageKey = NewType("StorageKey", str)
"""What a storage knows something by: relative, with ``/``. No path of any machine."""


class Storage(Protocol):
    """Keys are relative, with ``/``. A key is written whole or not at all.

    What was committed has its digests in its marker. Whoever reads it (:meth:`fetch`,
    :meth:`borrow`, :meth:`read_from`) gets it as it was committed, or else DamagedError: it was
    set aside then, and can be committed anew.
    """

    @property
    def url(self) -> str:
        """What :func:`open_storage` takes to open the same place again."""

    def read(self, key: str) -> bytes:
        """The bytes at ``key``. Raises FileNotFoundError when there are none."""

    def write(self, key: str, data: bytes) -> None:
        """Put ``data`` at ``key``, replacing what stood there, atomically."""

    def exists(self, key: str) -> bool:
        """Whether a file is at ``key``."""

    def children(self, key: str) -> list[str]:
        """Sorted names directly under ``key``, or in all of the storage where it is empty.

        Unfinished ones are left out.
        """

    @contextmanager
    def commit(self, key: str, check: Check | None = None) -> Iterator[Path]:
        """A local directory to fill; committed to ``key`` when the block ends without an error.

        A key that is committed already keeps its first content: the block's files are dropped.
        ``check`` is called at the last moment, when all is there but the marker: what it raises
        drops the files too.
        """

    @contextmanager
    def exclusively(self, key: str) -> Iterator[None]:
        """Wait until nobody else is in such a block for ``key``, in any process on any node.

        For what is dear to make and is to be made once: look whether it is committed, build and
        commit it within the block. One whose process died is out of its block, and what it had
        written on this machine for ``key`` without committing it is gone when the next one commits.
        """

    def is_committed(self, key: str) -> bool:
        """Whether the directory ``key`` was committed."""

    def fetch(self, key: str) -> Path:
        """A local path where the committed directory ``key`` can be read, now and later.

        For what is read often, such as prepared data: a copy stays on this machine.

        Raises:
            FileNotFoundError: it was never committed.
            DamagedError: it is not as it was committed.
        """

    @contextmanager
    def borrow(self, key: str) -> Iterator[Path]:
        """A local path where the committed directory ``key`` can be read within the block.

        For what is read once, such as a checkpoint: no copy stays. Raises as :meth:`fetch`.
        """

    def read_from(self, key: str, name: str) -> bytes:
        """The bytes of one file of the committed directory ``key``.

        Raises FileNotFoundError when it was never committed, or has no such file; else as
        :meth:`fetch`.
        """
        ...

    def set_aside(self, key: str, what: str) -> DamagedError:
        """Move the committed directory ``key`` to a hidden name beside it; it is committed no more.

        For whoever cannot read it though it is as it was committed. ``what`` is wrong with it; the
        error says that and where it is now, for the caller to raise.
        """

    def workspace(self, key: str) -> Path:
        """A directory of this machine for files about ``key`` that can be made again."""


class LocalStorage:
    """A directory of this machine (or a shared file system)."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def url(self) -> str:
        return str(self.root)

    def read(self, key: str) -> bytes:
        return self._path(key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(_temporary_name(path.name))
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def children(self, key: str) -> list[str]:
        path = self._path(key) if key else self.root
        if not path.is_dir():
            return []
        return sorted(child.name for child in path.iterdir() if not child.name.startswith("."))

    @contextmanager
    def commit(self, key: str, check: Check | None = None) -> Iterator[Path]:
        final = self._path(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        staging = final.with_name(_temporary_name(final.name))
        staging.mkdir()
        try:
            yield staging
            made = Committed.of(staging, uuid.uuid4().hex, turn=None)
            (staging / COMMITTED).write_bytes(made.to_json())
            _flush_files(staging)
            if check is not None:
                check()
            self._publish(staging, key)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @contextmanager
    def exclusively(self, key: str) -> Iterator[None]:
        final = self._path(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        # The lock belongs to the open file, and the kernel closes the files of whoever dies: no
        # lock is left behind, as one that stands for itself by its name would be. The file stays,
        # since two who each locked a file of this name could both be in.
        with (final.parent / f".{final.name}.lock").open("wb") as file:
            lock(file)
            for abandoned in final.parent.glob(_temporary_name(glob.escape(final.name), _ANY_MARK)):
                shutil.rmtree(abandoned)
            yield

    def is_committed(self, key: str) -> bool:
        return (self._path(key) / COMMITTED).is_file()

    def fetch(self, key: str) -> Path:
        found, path = self._committed(key), self._path(key)
        if found is not None and (what := found.damage(path)):
            raise self.set_aside(key, what)
        return path

    @contextmanager
    def borrow(self, key: str) -> Iterator[Path]:
        yield self.fetch(key)

    def read_from(self, key: str, name: str) -> bytes:
        found, path = self._committed(key), self._path(key) / name
        if found is None:
            return path.read_bytes()
        if name not in found.files:
            raise FileNotFoundError(f"there is no {name} in {self._path(key)}")
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise self.set_aside(key, f"{name} is missing") from None
        if not found.files[name].holds(data):
            raise self.set_aside(key, other_bytes(name))
        return data

    def set_aside(self, key: str, what: str) -> DamagedError:
        return DamagedError.of(str(self._path(key)), what, lambda: str(self._move_aside(key)))

    def workspace(self, key: str) -> Path:
        place = self._path(key)
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _publish(self, staging: Path, key: str) -> None:
        """Give a full directory its name, unless another one has it."""
        if self.is_committed(key):
            return
        final = self._path(key)
        try:
            staging.rename(final)
        except OSError:
            # A directory cannot replace one with files in it: somebody else may have been first.
            if self.is_committed(key):
                return
            if not final.is_dir():
                raise
            _log.warning(
                "%s has files and no %s, as if it were not there; it was set aside as %s",
                final,
                COMMITTED,
                self._move_aside(key),
            )
            staging.rename(final)

    def _move_aside(self, key: str) -> Path:
        path = self._path(key)
        aside = path.with_name(f".{path.name}.damaged-{uuid.uuid4().hex[:8]}")
        return path.rename(aside)

    def _committed(self, key: str) -> Committed | None:
        """What was committed; None by a version of voxsweep whose marker had no digests.

        Raises:
            FileNotFoundError: it was never committed.
            DamagedError: the marker is not what any version wrote.
        """
        try:
            text = (self._path(key) / COMMITTED).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            what = f"{self._path(key)} was never committed (no {COMMITTED} in it)"
            raise FileNotFoundError(what) from None
        if not text:
            return None
        try:
            return Committed.from_json(text)
        except ValueError:
            raise self.set_aside(key, f"{COMMITTED} cannot be read") from None

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*check_key(key).split("/"))


_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


def lock(file: IO[bytes]) -> None:
    """Wait until this open file has the lock of its name.

    Raises:
        OSError: its file system has no locks, with what helps.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise OSError(
            error.errno,
            f"{error.strerror}: the storage's file system has no locks (flock), so two processes "
            "could mix their files. Mount it with them (Lustre: -o flock; NFS: version 4, without "
            "local_lock), or name a storage on another disk or in S3",
            file.name,
        ) from None


@dataclass(frozen=True)
class StorageKind:
    """The storages of one URL scheme."""

    open: Callable[[str], Storage]
    """The storage at a URL of the scheme, nothing created; ValueError for one that is malformed."""


def _open_s3(url: str) -> Storage:
    from cluster.storage.s3_storage import S3Storage  # boto3 takes 0.4 s to import

    return S3Storage.at(url)


STORAGES = Table("voxsweep.storages", StorageKind, {"s3": StorageKind(_open_s3)})
"""By URL scheme."""


def open_storage(url: str) -> Storage:
    """The storage at ``url``: a local directory, ``s3://bucket/prefix`` or a plug-in's. Creates
    nothing.

    Raises:
        ValueError: the URL names a kind of storage that is not known, or is malformed.
        PluginError: what gives this kind of storage cannot be used.
    """
    found = scheme(url)
    if found is None:
        return LocalStorage(Path(url).expanduser())
    if found not in STORAGES:
        plugins = "".join(f" or {name}://" for name in STORAGES if name != "s3")
        raise ValueError(
            f"storage must be a local directory or s3://bucket/prefix{plugins}, "
            f"but the URL starts with {found}://"
        )
    return STORAGES[found].open(url)


_ANY_MARK = "[0-9a-f]" * 32
"""A glob of what tells temporary names of one key apart, and no longer key of the same start."""


def _temporary_name(name: str, mark: str | None = None) -> str:
    return f".{name}.{mark or uuid.uuid4().hex}.tmp"


def _flush_files(directory: Path) -> None:
    """Push files and their names to the disk, so that what is committed survives a power cut."""
    for path in (*directory.rglob("*"), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
