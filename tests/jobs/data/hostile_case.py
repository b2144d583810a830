"""What a hostile input is: files that a builder writes into a data root, and what must be said."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

MANIFEST = "manifest.jsonl"
RATE = 16_000


@dataclass(frozen=True)
class Case:
    """One hostile input.

    ``build`` fills the data root, an empty folder. Beside it lies ``outside`` with ``canary.wav``
    and ``canary.txt``, which nobody may open.
    """

    name: str
    rule: str | None
    """Of the one finding; None where the input must be taken as it is."""
    build: Callable[[Path], None]
    place: str = f"{MANIFEST}:2"
    """Where the finding must say it is, below the data root."""
    left: int = 2
    """Clips that can be used all the same."""
    severity: str = "error"
    manifest: str = MANIFEST
    """What is read; empty for the data root itself."""


def tone(seconds: float = 0.5, rate: int = RATE) -> NDArray[np.float32]:
    """A sound with nothing wrong."""
    return (0.3 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * rate)) / rate)).astype("float32")


def row(**changes: object) -> dict[str, object]:
    """A line with nothing wrong, but for ``changes``."""
    return {"audio": "good.wav", "text": "one", **changes}


def write_lines(root: Path, *lines: bytes | str | dict[str, object]) -> None:
    """A manifest of ``lines`` and the recording that :func:`row` names."""
    soundfile.write(root / "good.wav", tone(), RATE)
    whole = [line if isinstance(line, str | bytes) else json.dumps(line) for line in lines]
    raw = [line if isinstance(line, bytes) else line.encode() for line in whole]
    (root / MANIFEST).write_bytes(b"".join(line + b"\n" for line in raw))


def line_case(name: str, rule: str | None, line: bytes | str | dict[str, object]) -> Case:
    """One bad line among good ones."""
    left = 3 if rule is None else 2
    return Case(name, rule, lambda root: write_lines(root, row(), line, row()), left=left)


def file_case(
    name: str, rule: str | None, build: Callable[[Path], None], audio: str = "bad.wav"
) -> Case:
    """A file, made by ``build`` in the root, that the second line names as ``audio``."""

    def write(root: Path) -> None:
        write_lines(root, row(), row(audio=audio), row())
        build(root)

    return Case(name, rule, write, left=3 if rule is None else 2)
