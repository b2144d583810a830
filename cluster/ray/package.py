"""The files that are sent with a Ray job."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster.names import SourceError, check_name, shown
from cluster.sources.local_files import open_file

MOST_BYTES = 100 * 2**20
"""Of a package. Ray would take 512 MiB (its GCS_STORAGE_MAX_SIZE), held in the head's memory."""


@dataclass(frozen=True)
class Package:
    """Files by their paths below the job's working directory."""

    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        """Refuse names that lead elsewhere.

        Raises:
            SourceError: a name is absolute, or has an empty, ``.`` or ``..`` part.
        """
        for name in self.files:
            check_name(name)
            if any(part in {"", ".", ".."} for part in name.split("/")):
                what = f"a packed file must be named from the package's root, got {shown(name)}"
                raise SourceError("outside-root", what, "Leave it out.")

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.files.values()))

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each file by its name, sorted."""
        return {name: hashlib.sha256(self.files[name]).hexdigest() for name in sorted(self.files)}

    @property
    def digest(self) -> str:
        """SHA-256 of names and contents."""
        return hashlib.sha256(json.dumps(self.digests).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Put the files below ``folder``, which is empty."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: everything but the contents."""
        files = [
            {"name": name, "bytes": len(self.files[name]), "sha256": digest}
            for name, digest in self.digests.items()
        ]
        return {"digest": self.digest, "bytes": self.size, "files": files}

    def problems(self) -> Iterator[tuple[str, str]]:
        """What keeps it from being sent: the rule and the value, the next step."""
        if self.size > MOST_BYTES:
            largest = max(self.files, key=lambda name: len(self.files[name]))
            what = f"a job must be sent at most {MOST_BYTES:,} bytes, but these are {self.size:,}"
            yield what, f"The largest is {shown(largest)}; keep it on s3://."


def code_files(package: Path) -> dict[str, bytes]:
    """The files of an installed Python package, caches left out, by names that begin with its own.

    Links are not followed: what they lead to is not part of the package.
    """
    files = {}
    for folder, folders, names in os.walk(package):
        folders[:] = sorted(f for f in folders if f != "__pycache__" and not f.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if not (name.startswith(".") or name.endswith(".pyc") or path.is_symlink()):
                key = f"{package.name}/{path.relative_to(package).as_posix()}"
                with open_file(str(path), MOST_BYTES) as file:
                    files[key] = file.read()
    return files
