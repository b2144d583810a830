"""Where data is read from: a folder of this machine, or a prefix of an S3 bucket.

A *location* is an absolute path without links, or ``s3://bucket/key``: what :class:`Root` makes of
a name in a list, and what the functions here read. :mod:`cluster.sources.arrow_files` makes
locations of what a cell of a table holds, which :func:`open_binary` reads too. Nothing here writes.
"""

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from cluster.names import (
    ARROW,
    CELL,
    PARQUET,
    SourceError,
    check_name,
    refuse_outside,
    refuse_url,
    scheme,
    shown,
    split_s3,
)
from cluster.sources import local_files
from cluster.sources.local_files import LocalFolder

__all__ = ["ARROW", "CELL", "PARQUET", "SourceError"]

# boto3 takes 0.4 s to import: `cluster.storage.s3` is imported where S3 is read, nowhere else.

_MAX_KEY = 1024
"""Bytes of an S3 key, by its "Naming Amazon S3 objects"."""


class S3Folder:
    """A root in S3, and the prefix below which a list's names start."""

    def __init__(self, root: str, start: str) -> None:
        self._bucket, self._prefix = _split_folder(root)
        self._start = _split_folder(start)

    def locate(self, name: str) -> str:
        """The URL that ``name`` means. Whether an object is there is found when it is read.

        Raises:
            SourceError: ``name`` leads out of the root, or S3 can have no such object.
        """
        check_name(name)
        if scheme(name) not in {None, "s3"}:
            raise refuse_url(name)
        bucket, start = self._start
        if scheme(name):
            bucket, key = split_s3(name)
        else:
            key = start + name
        steps_out = name.startswith("/") or any(part in {".", ".."} for part in key.split("/"))
        if steps_out or bucket != self._bucket or not key.startswith(self._prefix):
            raise refuse_outside(name, f"s3://{self._bucket}/{self._prefix}")
        if len(key.encode()) > _MAX_KEY:
            what = f"must have a key of at most {_MAX_KEY} bytes: {shown(name)}"
            raise SourceError("name-too-long", what, "Rename the object.")
        return f"s3://{bucket}/{key}"


Root = LocalFolder | S3Folder
"""``locate(name)`` gives the location that a name of a list means, if it lies below the root."""


def open_root(start: str, root: str | None = None) -> Root:
    """What resolves the names in a list that lies in the folder ``start``.

    ``root`` is the folder that must hold everything, ``start`` where it is None.

    Raises:
        SourceError: one is no folder, or one is in S3 and the other is not.
    """
    root = start if root is None else root
    if is_s3(start) != is_s3(root):
        what = f"must be in the same kind of place as its list, but that is in {shown(start)}"
        raise SourceError("outside-root", f"{what} and the root is {shown(root)}", "Move the list.")
    if is_s3(root):
        return S3Folder(root, start)
    for folder in (start, root):
        if not (_is_here(folder) and os.path.isdir(folder)):
            raise SourceError("missing", f"must be a folder: {shown(folder)}", "Correct the path.")
    return LocalFolder(root, start)


def is_s3(location: str) -> bool:
    """Whether ``location`` is in S3, and not on this machine."""
    return scheme(location) == "s3"


def is_plain(location: str) -> bool:
    """Whether ``location`` is the path of a file, and neither in S3 nor a cell of a table."""
    return scheme(location) is None


def is_folder(location: str) -> bool:
    """Whether a local path is a folder; of what is in S3, whether its name ends in / or has no dot.

    Raises:
        SourceError: the URL is none of a bucket.
    """
    if not is_s3(location):
        return os.path.isdir(location)
    name = split_s3(location)[1].rpartition("/")[2]
    return "." not in name


def join(folder: str, name: str) -> str:
    """The location of ``name`` in ``folder``."""
    return f"{folder.rstrip('/')}/{name}"


def open_binary(location: str, limit: int) -> BinaryIO:
    """The file at a location, to be closed by the caller; an object of S3 is held in memory.

    Raises:
        SourceError: ``missing``, ``not-a-file``, ``too-large`` (more than ``limit`` bytes) or
            ``unreadable``.
    """
    if scheme(location) == CELL:
        from cluster.sources import arrow_files

        return arrow_files.open_cell(location, limit)
    if _is_here(location):
        return local_files.open_file(location, limit)
    from cluster.storage import s3

    with _s3_errors():
        address = split_s3(location)
        if (size := s3.size(*address)) > limit:
            raise local_files.refuse_size(location, size, limit)
        return io.BytesIO(s3.read(*address))


def check_file(location: str) -> None:
    """That the file at ``location`` can be read; here links are followed.

    Raises:
        SourceError: as :func:`open_binary`.
    """
    if _is_here(location):
        local_files.open_file(os.path.realpath(location), limit=sys.maxsize).close()
        return
    from cluster.storage import s3

    with _s3_errors():
        s3.size(*split_s3(location))


def read_start(location: str, size: int) -> bytes:
    """The first ``size`` bytes of a file, or what it has.

    Raises:
        SourceError: as :func:`open_binary`.
    """
    held = b""
    for chunk in _read_chunks(location):
        held += chunk
        if len(held) >= size:
            break
    return held[:size]


def read_lines(location: str, limit: int, *, utf_16: bool = False) -> Iterator[bytes | None]:
    """The lines of a file, without their line feeds; None for one of more than ``limit`` bytes.

    Such a line is skipped as it is read, and never held. A file in UTF-16 with a byte order mark
    is turned into UTF-8 without one, what is none of it into U+FFFD.

    Raises:
        SourceError: as :func:`open_binary`.
    """
    held = b""
    chunks = _read_chunks(location)
    for chunk in _from_utf_16(chunks) if utf_16 else chunks:
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            line = held + piece
            yield line if len(line) <= limit else None
            held = b""
        # One byte too many is all that must be known of a line that is too long.
        held = (held + rest)[: limit + 1]
    if held:
        yield held if len(held) <= limit else None


def _from_utf_16(chunks: Iterator[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    for chunk in chunks:
        yield decoder.decode(chunk).encode()
    yield decoder.decode(b"", final=True).encode()


def list_folder(location: str) -> tuple[list[str], list[str], list[str]]:
    """Sorted names of the files, the folders, and the links to folders directly in a folder.

    Hidden files and folders are left out.

    Raises:
        SourceError: it cannot be listed.
    """
    if _is_here(location):
        return local_files.list_folder(location)
    from cluster.storage import s3

    with _s3_errors():
        files, folders = s3.list_folder(*_split_folder(location))
    visible = [[name for name in names if not name.startswith(".")] for names in (files, folders)]
    return visible[0], visible[1], []


def _read_chunks(location: str) -> Iterator[bytes]:
    if _is_here(location):
        yield from local_files.read_chunks(os.path.realpath(location))
        return
    from cluster.storage import s3

    with _s3_errors():
        yield from s3.read_chunks(*split_s3(location))


def _is_here(location: str) -> bool:
    """Whether a location is on this machine, and not in S3; it can be nowhere else."""
    found = scheme(location)
    if found not in {None, "s3"}:
        what = f"must be on this machine or under s3://, but starts with {found}://"
        raise SourceError("url", what, "Fetch it first.")
    return found is None


def _split_folder(url: str) -> tuple[str, str]:
    bucket, key = split_s3(url)
    return bucket, f"{key.rstrip('/')}/" if key.rstrip("/") else ""


@contextmanager
def _s3_errors() -> Iterator[None]:
    """What :mod:`cluster.storage.s3` raises, as a rule."""
    try:
        yield
    except FileNotFoundError as error:
        what = f"must exist, but {error}"
        raise SourceError("missing", what, "Correct the name.") from None
    except PermissionError as error:
        hint = "Give AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY that may."
        raise SourceError("unreadable", f"cannot be read: {error}", hint) from None
    except ConnectionError as error:
        hint = "Look at the network and AWS_ENDPOINT_URL, and run it again."
        raise SourceError("unreadable", f"cannot be read: {error}", hint) from None
