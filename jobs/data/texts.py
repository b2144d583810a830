"""Texts in the form in which they are compared."""

import unicodedata


def folded(text: str) -> str:
    """``text`` without case, punctuation and repeated spaces; letters of any script are kept.

    Marks count as letters: without them many scripts lose their vowels.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(
        "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in plain).split()
    )
