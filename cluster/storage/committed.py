"""The ``COMMITTED`` marker: the files of the attempt that was first, with their digests."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import TypeAdapter

COMMITTED = "COMMITTED"
"""The marker that makes a directory exist for readers; always written last."""

Check = Callable[[], object]
"""Raises when something must not happen."""


def check_key(key: str) -> str:
    """Returns ``key``, which must stay below where it starts.

    Raises:
        ValueError: it does not.
    """
    if key.startswith("/") or any(part in {"", ".", ".."} for part in key.split("/")):
        raise ValueError(f"a storage key is relative, without empty, . or .. parts: {key!r}")
    return key


class DamagedError(ConnectionError):
    """What is read is not what was committed."""

    @classmethod
    def of(cls, place: str, what: str, move: Callable[[], str]) -> "DamagedError":
        """That of ``place``, which ``move`` moves out of the way and says where it is then."""
        try:
            rest = f"it was set aside as {move()}"
        except FileNotFoundError:
            rest = "another process set it aside"
        except OSError as error:
            rest = f"it could not be set aside: {error}"
        return cls(f"{place} is damaged: {what}; {rest}")


@dataclass(frozen=True)
class Content:
    """A file as it was committed."""

    size: int
    """Bytes."""
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "Content":
        """That of a file here."""
        with path.open("rb") as file:
            return cls(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())

    def holds(self, data: bytes) -> bool:
        """Whether ``data`` is what was committed."""
        return hashlib.sha256(data).hexdigest() == self.sha256


@dataclass(frozen=True)
class Committed:
    """A directory that was committed."""

    attempt: str
    """Of the writer that was first, 32 hexadecimal digits; keys of its files in S3 have it."""
    turn: int | None
    """The number of the lease that it was written under, if it was."""
    files: dict[str, Content]
    """By path within the directory, with /; see :func:`check_key`."""

    @classmethod
    def of(cls, directory: Path, attempt: str, turn: int | None) -> "Committed":
        """That of every file below ``directory``, but a marker that was copied with them."""
        marker = directory / COMMITTED
        found = sorted(p for p in directory.rglob("*") if p.is_file() and p != marker)
        files = {path.relative_to(directory).as_posix(): Content.of(path) for path in found}
        return cls(attempt, turn, files)

    def damage(self, directory: Path) -> str | None:
        """What in the directory is not as it was committed, in words; None if all of it is."""
        for name, content in self.files.items():
            path = directory / name
            if not path.is_file():
                return f"{name} is missing"
            size = path.stat().st_size
            if size != content.size:
                return f"{name} has {size:,} bytes and was committed with {content.size:,}"
            if Content.of(path) != content:
                return other_bytes(name)
        return None

    def to_json(self) -> bytes:
        """As the marker has it."""
        return _marker().dump_json(self, indent=1) + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> "Committed":
        """What :meth:`to_json` gave.

        Raises:
            ValueError: it is not that.
        """
        committed = _marker().validate_json(text)
        for name in committed.files:
            check_key(name)
        return committed


def other_bytes(name: str) -> str:
    """What is wrong with a file of the right size."""
    return f"{name} has other bytes than were committed (SHA-256)"


@cache
def _marker() -> "TypeAdapter[Committed]":
    from pydantic import TypeAdapter  # takes a moment, which the command line's help need not

    return TypeAdapter(Committed)
