"""The ``COMMITTED`` marker, and what it lists where no directory can be renamed (S3): the files of
the attempt that was first."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

COMMITTED = "COMMITTED"
"""The marker that makes a directory exist for readers; always written last."""

Check = Callable[[], object]
"""Raises when something must not happen."""


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
    """Of the writer that was first, 32 hexadecimal digits: its files have it in their keys."""
    turn: int | None
    """The number of the lease that it was written under, if it was."""
    files: dict[str, Content]
    """By path within the directory, with /."""

    @classmethod
    def of(cls, directory: Path, attempt: str, turn: int | None) -> "Committed":
        """That of every file below ``directory``."""
        found = sorted(path for path in directory.rglob("*") if path.is_file())
        files = {path.relative_to(directory).as_posix(): Content.of(path) for path in found}
        return cls(attempt, turn, files)

    def to_json(self) -> bytes:
        """As the marker has it."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> "Committed":
        """What :meth:`to_json` gave.

        Raises:
            ValueError: it is not that.
        """
        try:
            row = json.loads(text)
            files = {name: Content(**content) for name, content in row["files"].items()}
            made = cls(str(row["attempt"]), row["turn"], files)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a commit marker must say which files it is of: {error!r}") from None
        for name in files:
            check_key(name)
        return made


def check_key(key: str) -> None:
    """That ``key`` stays below where it starts.

    Raises:
        ValueError: it does not.
    """
    if key.startswith("/") or any(part in {"", ".", ".."} for part in key.split("/")):
        raise ValueError(f"a storage key is relative, without empty, . or .. parts: {key!r}")
