"""Word errors: what a recogniser transcribes, against the text."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.audio.files import RESAMPLER
from jobs.clips import SpokenClip
from jobs.metrics.base import Metric, MetricError
from jobs.metrics.signal import RATE, at_16k

MOST_WORDS = 10_000.0
"""Bound of the counts: more than anyone says in the longest clip that is scored."""

WORD_ERROR = Metric(
    name="word_error",
    unit="share",
    direction="lower",
    version=f"1 {RESAMPLER}",
    low=0.0,
    high=1.0,
    description="word edits per word of the text, at most 1 a clip",
)
WORD_EDITS = Metric(
    name="word_edits",
    unit="words",
    direction="lower",
    version=f"1 {RESAMPLER}",
    low=0.0,
    high=MOST_WORDS,
    description="words inserted, deleted or replaced; over word_count, the corpus word error",
)
WORD_COUNT = Metric(
    name="word_count",
    unit="words",
    direction="neither",
    version="1",
    low=0.0,
    high=MOST_WORDS,
    description="words of the text",
)


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


class WordError:
    """Levenshtein distance in words between the text and a recogniser's transcript."""

    metrics = (WORD_ERROR, WORD_EDITS, WORD_COUNT)

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
