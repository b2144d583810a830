"""Files of this machine that a list names: only those below a root, only regular ones."""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cluster.names import (
    SourceError,
    check_name,
    refuse_outside,
    refuse_url,
    scheme,
    shown,
)

_CHUNK = 2**18
"""Bytes."""

_MAX_PATH = 4096
"""Bytes, with a zero at the end: PATH_MAX in Linux's limits.h."""

_RULES: dict[int | None, tuple[str, str, str]] = {
    errno.ENOENT: ("missing", "must exist, but there is no {}", "Correct the path."),
    errno.ENOTDIR: ("missing", "must exist, but there is no {}", "Correct the path."),
    errno.ELOOP: ("link-loop", "must be a file, but {} is a link to itself", "Replace the link."),
    errno.ENAMETOOLONG: ("name-too-long", "must have a shorter name: {}", "Rename the file."),
}
"""By the number of the operating system's error: rule, what, next step."""


class LocalFolder:
    """A root of this machine, and the folder below which a list's names start."""

    def __init__(self, root: str, start: str) -> None:
        """Both are folders that exist; names may only lead below ``root``."""
        self._roots = tuple(dict.fromkeys((os.path.abspath(root), os.path.realpath(root))))
        self._start = os.path.abspath(start)

    def locate(self, name: str) -> str:
        """The absolute path of the regular file that ``name`` means, with no link in it.

        Nothing is opened, so that a FIFO or a device cannot hold anybody up.

        Raises:
            SourceError: ``name`` leads out of the root or to no regular file.
        """
        check_name(name)
        if scheme(name):
            raise refuse_url(name)
        path = os.path.normpath(os.path.join(self._start, name))
        if len(os.fsencode(path)) >= _MAX_PATH:
            raise explain(path, OSError(errno.ENAMETOOLONG, ""))
        if not any(_is_below(path, root) for root in self._roots):
            raise refuse_outside(name, self._roots[-1])
        try:
            # Not the normal path: with links, `link/..` may be elsewhere.
            real = os.path.realpath(os.path.join(self._start, name), strict=True)
            if not _is_below(real, self._roots[-1]):
                what = f"must lie in {shown(self._roots[-1])}, but the link {shown(name)} leads out"
                raise SourceError("link-outside-root", what, "Put the file itself there.")
            mode = os.stat(real, follow_symlinks=False).st_mode
        except OSError as error:
            raise explain(path, error) from None
        if not stat.S_ISREG(mode):
            raise _refuse_kind(path, mode)
        return real


def open_file(path: str, limit: int) -> BinaryIO:
    """The file at ``path``, a location with no link at its end; a FIFO is not waited for.

    Raises:
        SourceError: it cannot be opened, is no regular file, or has more than ``limit`` bytes.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError as error:
        raise explain(path, error) from None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size <= limit:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISREG(found.st_mode):
        raise refuse_size(path, found.st_size, limit)
    raise _refuse_kind(path, found.st_mode)


def read_chunks(path: str) -> Iterator[bytes]:
    """The bytes at ``path``, a part at a time; fails as :func:`open_file`."""
    with open_file(path, limit=sys.maxsize) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def list_folder(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Sorted names of the files, the folders, and the links to folders directly in ``folder``.

    Hidden ones are left out, as those that macOS puts beside files on foreign disks.

    Raises:
        SourceError: it cannot be listed.
    """
    files: list[str] = []
    folders: list[str] = []
    links: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_symlink() and Path(entry).is_dir():
                    links.append(entry.name)
                else:
                    files.append(entry.name)
    except OSError as error:
        raise explain(folder, error) from None
    return sorted(files), sorted(folders), sorted(links)


def explain(path: str, error: OSError) -> SourceError:
    """What the operating system says of ``path``, as a rule."""
    if error.errno in _RULES:
        rule, what, next_step = _RULES[error.errno]
        return SourceError(rule, what.format(shown(path)), next_step)
    what = f"cannot be read: {shown(path)} ({error.strerror})"
    return SourceError("unreadable", what, "Make it readable, or leave it out.")


def refuse_size(location: str, size: int, limit: int) -> SourceError:
    """For a file of ``size`` bytes where at most ``limit`` are read."""
    what = f"must have at most {limit:,} bytes, but {shown(location)} has {size:,}"
    return SourceError("too-large", what, "Cut it into smaller files.")


def _refuse_kind(path: str, mode: int) -> SourceError:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = kinds.get(stat.S_IFMT(mode), "none")
    what = f"must be a regular file, but {shown(path)} is {kind}"
    return SourceError("not-a-file", what, "Name a file.")


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")
