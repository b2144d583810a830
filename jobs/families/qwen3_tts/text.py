"""Texts and rate of a Qwen3-TTS base, known without its weights: for checks."""

from pathlib import Path
from typing import Any

from jobs.families.description import is_path, tagged
from jobs.spec.trial import HostSpec

SAMPLE_RATE = 24_000
"""Hz of the speech tokenizer of every 12 Hz base."""


class ChatText:
    """The texts of a base, as its own tokenizer cuts them."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 (Hugging Face's)
        self._tokenizer = tokenizer

    def count(self, text: str, language: str | None) -> int:
        """Tokens of ``text``, behind the tag of ``language`` if it has one.

        Raises:
            ValueError: it is empty.
        """
        if not text.strip():
            raise ValueError(f"text must have words, got {text!r}")
        read = text if language is None else tagged(text, language)
        return len(self._tokenizer(read)["input_ids"])


def open_text(spec: HostSpec) -> ChatText | None:
    """The texts of the base directory that ``spec`` names; None for one that is elsewhere.

    Raises:
        ValueError, OSError: its tokenizer is missing, or is none.
    """
    if not is_path(spec.source):
        return None
    from transformers import AutoTokenizer  # seconds to import

    if not Path(spec.source).is_dir():
        raise FileNotFoundError(f"base.source must be a directory, and there is no {spec.source}")
    # As the package loads it.
    return ChatText(AutoTokenizer.from_pretrained(spec.source, fix_mistral_regex=True))


def sample_rate(spec: HostSpec) -> int:
    """Hz of all audio that a base of the family takes in."""
    return SAMPLE_RATE
