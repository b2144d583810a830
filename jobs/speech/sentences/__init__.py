"""Prompt sets in several languages: everyday sentences, written for voxsweep.

A spec names those of a language as ``embedded:en``. No two texts of a language are near-duplicates;
set A has 24 of them and set B 60.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from jobs.spec import EMBEDDED

PREFIX = f"{EMBEDDED}:"
"""Before a language, where a spec names prompts."""
_FOLDER = Path(__file__).parent
LANGUAGES = tuple(sorted(path.name[:2] for path in _FOLDER.glob("*-a.jsonl")))
_SCRIPTS = (("ko", "\uac00", "\ud7a3"), ("km", "\u1780", "\u17ff"), ("ja", "\u3040", "\u30ff"))
"""Languages by the letters that they alone have here, each as a range."""
_HAN = ("\u4e00", "\u9fff")
_LEAST_KNOWN = 0.15
"""Share of words in a language's sentences from which on texts are taken to be in it."""


def shipped_prompts(language: str, part: str) -> Path:
    """The file of set ``part``, ``a`` or ``b``, in one of ``LANGUAGES``."""
    return _FOLDER / f"{language}-{part}.jsonl"


def sentences(language: str, part: str) -> list[str]:
    """The texts of a set."""
    lines = shipped_prompts(language, part).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def guess_language(texts: Iterable[str]) -> str | None:
    """The language of most of the texts, of those that have sentences; None if it is none of them.

    By script, else by the share of words that are in a language's sentences.
    """
    joined = " ".join(texts).lower()
    for language, first, last in _SCRIPTS:
        if 5 * sum(first <= letter <= last for letter in joined) > len(joined):
            return language
    if 2 * sum(_HAN[0] <= letter <= _HAN[1] for letter in joined) > len(joined):
        return "zh"
    words = Counter(_words(joined))
    shares = {}
    for language in LANGUAGES:
        known = set(_words(" ".join(sentences(language, "a") + sentences(language, "b")).lower()))
        shares[language] = sum(count for word, count in words.items() if word in known)
    best = max(shares, key=shares.__getitem__)
    return best if shares[best] >= _LEAST_KNOWN * max(1, words.total()) else None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)
