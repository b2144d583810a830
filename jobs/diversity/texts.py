"""What the training texts say twice, and how much of the prompts they have said."""

from collections.abc import Iterable, Iterator, Sequence

from jobs.data.texts import normalise_text

LONG_TEXT = 10
"""Words from which on one replaced word leaves a text a near duplicate."""


def repeated(texts: Sequence[str]) -> list[bool]:
    """Which texts are near duplicates of an earlier one.

    That is: equal once folded, or both of at least ``LONG_TEXT`` words of which one is another.
    """
    seen: set[str] = set()
    found = []
    for text in texts:
        keys = set(_keys(normalise_text(text)))
        found.append(not keys.isdisjoint(seen))
        seen |= keys
    return found


def _keys(text: str) -> Iterator[str]:
    """Two texts are near duplicates when they share a key."""
    yield text
    words = text.split()
    if len(words) >= LONG_TEXT:
        for place in range(len(words)):
            yield " ".join([*words[:place], "*", *words[place + 1 :]])


def bigram_coverage(prompts: Iterable[str], training: Iterable[str]) -> float | None:
    """Share of the prompts' different character bigrams that the training texts have, 0 to 1.

    Of folded texts, a word's beginning and end counted as characters. Letters stand in for sounds,
    so that no language needs a phonemizer: where spelling and sound part, it is a rough guide. None
    when the prompts have no letters.
    """
    asked, heard = _bigrams(prompts), _bigrams(training)
    return len(asked & heard) / len(asked) if asked else None


def _bigrams(texts: Iterable[str]) -> set[str]:
    return {
        f" {word} "[place : place + 2]
        for text in texts
        for word in normalise_text(text).split()
        for place in range(len(word) + 1)
    }
