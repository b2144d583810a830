"""Texts that say the same, or nearly the same, as another."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.data.folding import folded

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SIMILAR = 0.5
"""Texts are near-duplicates from this share of common trigrams on. In a sentence of five words or
more, one other word leaves more than that in common; different sentences have less than a fifth."""
LEAST_LETTERS = 16
"""Shorter texts are compared as a whole: of two or three words, another one is another text."""
_BATCH = 4096
"""Texts that are compared at once, so that memory does not grow with their number."""


class Repeat(NamedTuple):
    """A text that says what another says."""

    place: int
    """Among the texts."""
    other: int
    """Among the others."""
    similarity: float
    """1 for equal texts, else the share of their trigrams that they have in common."""

    def __str__(self) -> str:
        if self.similarity == 1:
            return "the same but for case, punctuation, spaces, or digits and number words"
        return f"{self.similarity:.0%} of their character trigrams in common"


def repeats(texts: Iterable[str], others: Sequence[str]) -> Iterator[Repeat]:
    """Each pair of a text and another that is equal or nearly so, in the order of the texts.

    Equal is what :func:`~jobs.data.folding.folded` writes in the same way. Nearly so are texts of
    ``LEAST_LETTERS`` or more whose sets of character trigrams have a Jaccard index (those in both
    over those in either) of ``SIMILAR`` or more. Trigrams are taken in Unicode's NFKD, where a
    Hangul syllable is two or three letters. A Chinese or Japanese character counts as two letters.

    The time is linear in the number of texts.
    """
    index, remaining, done = _Index(others), iter(texts), 0
    while batch := list(islice(remaining, _BATCH)):
        for place, other, similarity in index.repeats_in(batch):
            yield Repeat(done + place, other, similarity)
        done += len(batch)


def nearest_repeats(texts: Iterable[str], others: Sequence[str]) -> list[Repeat]:
    """For each of the others that a text repeats, the pair with the most similar such text."""
    nearest: dict[int, Repeat] = {}
    for repeat in repeats(texts, others):
        known = nearest.setdefault(repeat.other, repeat)
        if repeat.similarity > known.similarity:
            nearest[repeat.other] = repeat
    return [nearest[other] for other in sorted(nearest)]


@lru_cache(maxsize=64)
def distinct_texts(texts: tuple[str, ...]) -> tuple[int, ...]:
    """Which text each of ``texts`` is, from 0 in the order of the first: repeats are one.

    What repeats a repeat is the same text too.
    """
    # Only here: whoever reads a protocol would wait for it.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    pairs = [(place, other) for place, other, _ in repeats(texts, texts) if place != other]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    linked = csr_array((np.ones(len(pairs)), (rows, columns)), shape=(len(texts),) * 2)
    found: dict[int, int] = {}
    labels = connected_components(linked, directed=False)[1].tolist()
    return tuple(found.setdefault(label, len(found)) for label in labels)


class _Index:
    """The folded texts and trigrams of the others."""

    def __init__(self, others: Sequence[str]) -> None:
        plain = [folded(text) for text in others]
        self._equal: dict[str, list[int]] = {}
        for place, text in enumerate(plain):
            if text:
                self._equal.setdefault(text, []).append(place)
        grams = [_trigrams(text) for text in plain]
        self._column = {gram: at for at, gram in enumerate(sorted(set(chain(*grams))))}
        self._sizes = np.array([len(each) for each in grams])
        self._table = self._rows(grams).T.tocsr()

    def repeats_in(self, batch: Sequence[str]) -> Iterator[tuple[int, int, float]]:
        """Places in the batch and among the others, and the similarity."""
        plain = [folded(text) for text in batch]
        grams = [_trigrams(text) for text in plain]
        both = (self._rows(grams) @ self._table).tocoo()
        sizes = np.array([len(each) for each in grams])
        share = both.data / (sizes[both.row] + self._sizes[both.col] - both.data)
        near = share >= SIMILAR
        found = dict(
            zip(
                zip(both.row[near].tolist(), both.col[near].tolist(), strict=True),
                share[near].tolist(),
                strict=True,
            )
        )
        for place, text in enumerate(plain):
            found |= {(place, other): 1.0 for other in self._equal.get(text, ())}
        yield from ((place, other, by) for (place, other), by in sorted(found.items()))

    def _rows(self, grams: Sequence[frozenset[str]]) -> "csr_array":
        """A row a text with 1 for each of its trigrams that the others have."""
        from scipy.sparse import csr_array

        column = self._column
        known = [[column[gram] for gram in each if gram in column] for each in grams]
        ends = np.cumsum([0, *map(len, known)])
        places: NDArray[np.int64] = np.fromiter(chain(*known), np.int64, int(ends[-1]))
        ones = np.ones(len(places), np.int64)
        return csr_array((ones, places, ends), shape=(len(grams), len(column)))


def _trigrams(text: str) -> frozenset[str]:
    """Of a folded text; none of one that is too short to be compared by them."""
    wide = sum("\u3040" <= character <= "\u9fff" for character in text)
    letters = unicodedata.normalize("NFKD", text)
    if len(letters) + wide < LEAST_LETTERS:
        return frozenset()
    return frozenset(letters[at : at + 3] for at in range(len(letters) - 2))
