"""Texts of clips: normalised for comparison, and a model's own tokens in them."""

import re
import unicodedata

_CONTROL = re.compile(r"<\|(?:[^|]*\|>)?")


def normalise_text(text: str) -> str:
    """``text`` without case, punctuation and repeated spaces; letters of any script are kept.

    Marks count as letters: without them many scripts lose their vowels.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(
        "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in plain).split()
    )


def control_tokens(text: str) -> list[str]:
    """What in ``text`` is, or begins, a token of a model's own: ``<|end|>``."""
    return _CONTROL.findall(text)
