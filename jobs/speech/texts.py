"""A long text cut into chunks that a voice can say: at sentence ends, else clauses, else words.

No torch: text that a base cannot read is an error before its weights are loaded.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

from jobs.families.registry import open_text
from jobs.problems import InputError, Problem
from jobs.speech.voice_files import VoiceFacts

TOKENS_PER_SECOND = 3
"""Of slow speech, in text tokens: a chunk has as many as fit into the longest clip that the voice
learned from. Fast speech has twice as many, so such a chunk is rather too short than too long."""

_SENTENCE_ENDS = ".!?…。！？។៕।॥؟"
_CLAUSE_ENDS = ",;:—、，；：،؛"
_CLOSERS = "\"'”’»)]」』"
_WIDE = "。！？、，；：។៕।॥"
"""Those of the marks that no space follows."""

Fit = Callable[[str], str | None]
"""The text of a chunk as the base gets it; None for one that is too long or cannot be read."""


def chunks(text: str, facts: VoiceFacts, language: str | None) -> list[str]:
    """Cut ``text`` so that every chunk is read by the voice's base and is no longer than what the
    voice learned from. Sentences that fit together stay together.

    A mark at a chunk's end is left out where the base cannot read it: it has had its effect.

    Raises:
        InputError: with every word that the base cannot read, or with the package that it lacks.
        ValueError, OSError: the base's files are not what they must be.
    """
    try:
        reader = open_text(facts.host)
    except ImportError as error:
        raise InputError([Problem("base", str(error), "Then run this again.")]) from error
    most = int(facts.longest * TOKENS_PER_SECOND)
    if facts.max_text_tokens is not None:
        most = min(most, facts.max_text_tokens)

    def count(piece: str) -> int:
        if reader is None:  # the base is on a hub; words stand for its tokens
            return len(piece.split())
        return reader(piece, language)

    def fit(piece: str) -> str | None:
        for candidate in dict.fromkeys((piece, piece.rstrip(_SENTENCE_ENDS + _CLAUSE_ENDS + " "))):
            if not candidate or "<|" in candidate:
                return None
            try:
                return candidate if count(candidate) <= most else None
            except ValueError:
                continue
        return None

    found, unread = _cut(" ".join(text.split()), fit, _LEVELS)
    if not found and not unread:
        unread = [text]
    if unread:
        step = "Leave it out, or write what the base reads."
        reasons = dict.fromkeys(_why(piece, count) for piece in unread)
        raise InputError([Problem("text", why, step) for why in reasons])
    return found


def _cut(
    text: str, fit: Fit, levels: Sequence[Callable[[str], list[str]]]
) -> tuple[list[str], list[str]]:
    """Chunks, and what of the text is in none."""
    chunk = fit(text)
    if chunk is not None or not text:
        return ([chunk] if chunk else []), []
    if not levels:
        return [], [text]
    found: list[str] = []
    unread: list[str] = []
    whole = ""
    """What the chunk under way is made of, as written."""
    for piece in levels[0](text):
        joined = f"{whole}{piece}".strip()
        if whole and (chunk := fit(joined)) is not None:
            whole, found[-1] = f"{whole}{piece}", chunk
        elif (chunk := fit(piece.strip())) is not None:
            whole = piece
            found.append(chunk)
        else:
            inner, missed = _cut(piece.strip(), fit, levels[1:])
            whole = ""
            found += inner
            unread += missed
    # A word of letters none of which is read is one problem, not one a letter.
    return ([], [text]) if unread and levels[0] is _letters else (found, unread)


def _letters(text: str) -> list[str]:
    """Letters with the marks on them: what is left of writing that has no spaces."""
    found: list[str] = []
    for letter in text:
        if found and unicodedata.category(letter)[0] == "M":
            found[-1] += letter
        else:
            found.append(letter)
    return found


def _ends(marks: str) -> str:
    """Where a piece ends: behind one of ``marks`` and the space after it, which some do without."""
    wide = "".join(mark for mark in marks if mark in _WIDE)
    closers = rf"[{re.escape(_CLOSERS)}]*"
    return rf"[{re.escape(marks)}]+{closers}\s+|[{re.escape(wide)}]+{closers}"


def _pieces(ends: str) -> Callable[[str], list[str]]:
    """Cuts a text behind each match of ``ends``."""
    return re.compile(rf".*?(?:{ends})|.+", re.DOTALL).findall


_LEVELS: tuple[Callable[[str], list[str]], ...] = (
    _pieces(_ends(_SENTENCE_ENDS)),
    _pieces(_ends(_CLAUSE_ENDS + _SENTENCE_ENDS)),
    _pieces(r"\s+"),
    _letters,
)
"""Sentences, clauses, words, letters."""


def _why(piece: str, count: Callable[[str], int]) -> str:
    try:
        tokens = count(piece)
    except ValueError as error:
        return str(error)
    return f"the base must be able to read {piece!r}, which takes {tokens} tokens at once"
