"""The local cache of a remote storage: copies of files, and folders that are being filled.

Several processes of a node share the copies. A file has its name only once it is whole; whoever
wants it meanwhile waits for the one who fetches it, whose death lets the next one fetch.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cluster.storage.committed import Content, DamagedError, other_bytes

_CHUNK = 2**20
"""Bytes."""
_ALIVE = ".alive"
"""In a folder that is being filled, locked by who fills it."""


def cache_folder() -> Path:
    """``$VOXSWEEP_CACHE``, or ``voxsweep`` in the XDG Base Directory rules' folder for caches."""
    if named := os.environ.get("VOXSWEEP_CACHE"):
        return Path(named).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches).absolute() / "voxsweep"


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """An empty folder below ``folder`` for the block; what killed processes left there goes."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_abandoned(folder)
    place = Path(tempfile.mkdtemp(dir=folder))
    with _alone_with(place / _ALIVE):
        try:
            (place / "files").mkdir()
            yield place / "files"
        finally:
            shutil.rmtree(place, ignore_errors=True)


def is_whole(path: Path, content: Content, *, to_the_byte: bool) -> bool:
    """Whether the file is there as it must be; ``to_the_byte`` reads it, and else its size says."""
    try:
        if path.stat().st_size != content.size:
            return False
    except FileNotFoundError:
        return False
    return not to_the_byte or Content.of(path) == content


def keep(path: Path, content: Content, parts: Iterable[bytes]) -> None:
    """Have the bytes of ``parts`` at ``path``, unless it comes to be whole while this one waits.

    Raises:
        DamagedError: they are not those of ``content``.
        OSError: no space is left, or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.part")
    with _alone_with(part) as file:
        if is_whole(path, content, to_the_byte=True):
            part.unlink()
            return
        file.truncate(0)
        try:
            _write(file, content, parts, path)
        except OSError:
            part.unlink()
            raise
        part.replace(path)


def _write(file: BinaryIO, content: Content, parts: Iterable[bytes], path: Path) -> None:
    found = hashlib.sha256()
    try:
        for part in parts:
            found.update(part)
            file.write(part)
        file.flush()
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        what = (
            f"no space is left for {content.size:,} bytes at {path}. Free some, or name a folder "
            "on another disk by VOXSWEEP_CACHE; other machines can go on meanwhile"
        )
        raise OSError(error.errno, what) from None
    if found.hexdigest() != content.sha256:
        raise DamagedError(other_bytes(path.name))


@contextmanager
def _alone_with(path: Path) -> Iterator[BinaryIO]:
    """The file, made where there is none, which nobody else has meanwhile."""
    while True:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                is_same = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                is_same = False
            # Otherwise it was renamed or removed while this one waited for its lock.
            if is_same:
                yield file
                return


def _remove_abandoned(folder: Path) -> None:
    """Remove what nobody fills any more: the kernel gives up the locks of whoever dies."""
    for place in folder.iterdir():
        try:
            with (place / _ALIVE).open("rb") as alive:
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
        except OSError:
            continue  # it is being filled, or not locked yet, or somebody else was quicker
