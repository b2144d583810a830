"""Texts as ids, as the package reads them, whichever transformers is installed. No torch in here.

The package has ``LlamaTokenizerFast``, which transformers 5 builds anew from parts of
``tokenizer.json`` (its issue 45488), so that ids may differ from those of version 4. Here the file
is read by ``tokenizers`` itself, which both build upon.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
_PROBES = (
    "Hello, world. 0123",
    "[km] សួស្តី ពិភពលោក",
    "[ko] 안녕하세요, 세계",
    "你好，世界",
    "é ñ\u00a0…",
)


class TextIds:
    """The tokens of a text, without a first or last one of the tokenizer's own.

    Runs of white space are one space, as the package's ``generate`` has it. Tokens of several
    Chinese characters are read character by character.
    """

    def __init__(self, tokenizer: Tokenizer, unknown: str | None) -> None:
        """``unknown`` is the token that stands for a character without one; None for none."""
        self._tokenizer = tokenizer
        self._unknown = unknown
        self._split = {
            token
            for token in tokenizer.get_vocab()
            if len(token) > 1 and all("\u4e00" <= character <= "\u9fff" for character in token)
        }

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Of a base's directory.

        Raises:
            FileNotFoundError: it has no ``tokenizer.json``.
            ValueError: the file is no tokenizer.
        """
        path = directory / TOKENIZER_FILE
        text = path.read_text(encoding="utf-8")
        try:
            return cls(Tokenizer.from_str(text), json.loads(text)["model"].get("unk_token"))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ValueError(f"{path} must be a tokenizer: {error}") from error

    def __call__(self, text: str) -> list[int]:
        """The ids of ``text``.

        Raises:
            ValueError: a character has no token, and none stands for it.
        """
        tokens: list[str] = []
        for token in self._tokenizer.encode(
            re.sub(r"\s+", " ", text), add_special_tokens=False
        ).tokens:
            bare = token.replace("▁", "")
            tokens += bare if bare in self._split else [token]
        return [self._id(token) for token in tokens]

    def fingerprint(self) -> str:
        """SHA-256, hex, over the ids of a few texts in several scripts: what a trial read."""
        return hashlib.sha256(json.dumps([self(text) for text in _PROBES]).encode()).hexdigest()

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None and self._unknown is not None:
            found = self._tokenizer.token_to_id(self._unknown)
        if found is None:
            raise ValueError(f"the base's tokenizer has no token for {token!r}")
        number: int = found
        return number
