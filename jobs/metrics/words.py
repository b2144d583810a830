"""Word errors: what a recogniser transcribes, against the text."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.audio.files import RESAMPLER
from jobs.clips import SpokenClip
from jobs.metrics.base import Direction, Metric, MetricError
from jobs.metrics.signal import RATE, at_16k

MOST_WORDS = 10_000.0
"""Bound of the counts: more than anyone says in the longest clip that is scored."""

Words = Callable[[str], Sequence[str]]
"""A front end: the words of a text, spelled as the recogniser spells its transcripts."""


class Recogniser(Protocol):
    """Writes down speech."""

    @property
    def digest(self) -> str:
        """Identifies the weights and rules; a protocol hashes it beside the metrics' versions."""

    def transcribe(self, audio: NDArray[np.float32], rate: int) -> list[str]:
        """The words in mono ``audio``, shape (samples,), at ``rate`` Hz; empty if none.

        :class:`WordError` always gives it 16 kHz.
        """


def error_metrics(
    name: str, unit: str, most: float, transcribed: str, counted: str
) -> tuple[Metric, ...]:
    """What :func:`error_scores` gives for ``name``, in ``unit``, a plural.

    ``transcribed`` is the version of the error and the edits, ``counted`` that of the count, which
    needs no transcript; edits and count are ``most`` at most.
    """
    one = unit.removesuffix("s")
    edits = f"{unit} inserted, deleted or replaced; over {name}_count, the corpus {one} error"
    kinds: tuple[tuple[str, Direction, str], ...] = (
        ("error", "lower", f"{one} edits per {one} of the text, at most 1 a clip"),
        ("edits", "lower", edits),
        ("count", "neither", f"{unit} of the text"),
    )
    return tuple(
        Metric(
            name=f"{name}_{kind}",
            unit="share" if kind == "error" else unit,
            direction=direction,
            version=counted if kind == "count" else transcribed,
            low=0.0,
            high=1.0 if kind == "error" else most,
            description=description,
        )
        for kind, direction, description in kinds
    )


class WordError:
    """Levenshtein distance in words between the text and a recogniser's transcript."""

    metrics = error_metrics("word", "words", MOST_WORDS, f"1 {RESAMPLER}", "1")

    def __init__(self, recogniser: Recogniser, words: Words) -> None:
        self._recogniser = recogniser
        self._words = words

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Share, edits and words. Raises MetricError when the text has no words."""
        expected = self._words(clip.text)
        if not expected:
            raise MetricError(f"the text has no words to compare with: {clip.text!r}")
        transcript = self._recogniser.transcribe(at_16k(clip), RATE)
        return error_scores("word", transcript, expected)


def error_scores(unit: str, transcript: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    """The error, the edits and the count of words, or of characters in the same way."""
    edits = word_edits(transcript, expected)
    return {
        f"{unit}_error": min(edits / len(expected), 1.0),
        f"{unit}_edits": float(edits),
        f"{unit}_count": float(len(expected)),
    }


def plain_words(text: str) -> list[str]:
    """Lower-case words of ``text``, split at spaces, without punctuation except apostrophes."""
    kept = "".join(
        letter if letter == "'" or unicodedata.category(letter)[0] not in "PS" else " "
        for letter in unicodedata.normalize("NFC", text.replace("’", "'")).lower()
    )
    return kept.split()


def word_edits(transcript: Sequence[str], expected: Sequence[str]) -> int:
    """Levenshtein distance: the fewest words, or letters, inserted, deleted or replaced."""
    previous = list(range(len(expected) + 1))
    for row, word in enumerate(transcript, start=1):
        current = [row]
        for column, wanted in enumerate(expected, start=1):
            replaced = previous[column - 1] + (word != wanted)
            current.append(min(previous[column] + 1, current[-1] + 1, replaced))
        previous = current
    return previous[-1]
