"""What identifies a base of the family."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

from jobs.families.qwen3_tts.layout import VERSION
from jobs.families.qwen3_tts.model import SPEECH_TOKENIZER
from jobs.families.vendor import QWEN_TTS

_TOKENIZER = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""Those of them that a base has."""


@dataclass(frozen=True)
class Digests:
    """SHA-256, hex."""

    tokenizer: str
    """Over the text tokenizer."""
    encoder: str
    """Over all that codes depend on besides the recording; equal for bases of both sizes."""
    base: str
    """Over weights, tokenizer, codec and layout."""

    @classmethod
    def read(cls, source: Path) -> Self:
        """Of a base's directory; reads all of its weights."""
        codec = sorted(p for p in (source / SPEECH_TOKENIZER).iterdir() if p.is_file())
        tokenizer = _digest(source / name for name in _TOKENIZER if (source / name).is_file())
        encoder = _of([_digest(codec), version(QWEN_TTS)])
        weights = _digest([source / "config.json", *sorted(source.glob("*.safetensors"))])
        return cls(tokenizer, encoder, _of([weights, tokenizer, encoder, str(VERSION)]))


def _digest(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _of(parts: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
