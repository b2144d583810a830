"""``manifest.json``: what lies in an export, of whom, made by what, and how it was checked."""

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jobs.export.formats import Quantization
from jobs.export.load_back import LoadBack
from jobs.families.vendor import QWEN_TTS
from jobs.speech.voice_files import VoiceFacts

MANIFEST_FILE = "manifest.json"
_TOOLS = ("voxsweep", "torch", "transformers", "peft", "safetensors", "gguf", "xllamacpp", QWEN_TTS)


@dataclass(frozen=True)
class Manifest:
    """An export."""

    format: str
    quantization: Quantization | None
    """None for a format that has none."""
    voice: VoiceFacts
    files: dict[str, dict[str, int | str]]
    """Of each file but this one, by its path: bytes and SHA-256."""
    versions: dict[str, str]
    load_back: LoadBack

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        voice = self.voice.model_dump(mode="json", exclude={"files", "format", "versions"})
        return {**asdict(self), "voice": voice, "family": self.voice.host.family}

    def write(self, directory: Path) -> None:
        """Beside what it lists."""
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True)
        (directory / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def files_of(directory: Path) -> dict[str, dict[str, int | str]]:
    """What :attr:`Manifest.files` says of a directory."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": _sha256(path),
        }
        for path in paths
    }


def versions() -> dict[str, str]:
    """Of the packages that may have had a part in it, those that are installed."""
    found = {}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
