"""The tokens of a base as llama.cpp reads them: their texts, types and merges.

The speech tokens are USER_DEFINED and not CONTROL, though they look like it: llama.cpp turns no
control token into text, so a tool that reads the text, as NeuTTS does, would find no speech in it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gguf import TokenType

from jobs.families.layout import Layout
from jobs.problems import InputError, Problem

MODEL = "gpt2"
"""llama.cpp's name for byte-level BPE."""
PRE_TOKENIZER = "qwen2"
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2's tokenizer cuts a text before its merges: what llama.cpp does by the name above."""


@dataclass(frozen=True)
class Tokens:
    """A vocabulary by id."""

    texts: tuple[str, ...]
    types: tuple[TokenType, ...]
    merges: tuple[str, ...]
    end_id: int
    """Ends a clip."""

    @classmethod
    def read(cls, base: Path, size: int) -> Self:
        """Of a base's directory, whose model knows ``size`` tokens.

        Raises:
            InputError: llama.cpp has no tokenizer like the base's.
        """
        path = base / "tokenizer.json"
        tokenizer = json.loads(path.read_text(encoding="utf-8"))
        _check(tokenizer, path)
        layout = Layout.read(base)
        texts = [f"[PAD{number}]" for number in range(size)]
        types = [TokenType.UNUSED] * size
        for text, number in tokenizer["model"]["vocab"].items():
            texts[number], types[number] = text, TokenType.NORMAL
        speech = set(layout.added_tokens())
        for added in tokenizer["added_tokens"]:
            control = added["special"] and added["content"] not in speech
            texts[added["id"]] = added["content"]
            types[added["id"]] = TokenType.CONTROL if control else TokenType.USER_DEFINED
        merges = map(_merge, tokenizer["model"]["merges"])
        return cls(tuple(texts), tuple(types), tuple(merges), texts.index(layout.end))


def _merge(pair: str | Sequence[str]) -> str:
    """As one string; newer files have a pair of them."""
    return pair if isinstance(pair, str) else " ".join(pair)


def _check(tokenizer: dict[str, Any], path: Path) -> None:
    kind = tokenizer["model"]["type"]
    steps = (tokenizer["pre_tokenizer"] or {}).get("pretokenizers", ())
    split = [step["pattern"].get("Regex") for step in steps if step["type"] == "Split"]
    if kind != "BPE" or split != [_SPLIT]:
        what = (
            "a GGUF file needs a tokenizer that llama.cpp has, BPE that cuts texts as Qwen2's "
            f"does, got {kind} that cuts them by {split}"
        )
        raise InputError([Problem(str(path), what, "Export it as merged.")])
