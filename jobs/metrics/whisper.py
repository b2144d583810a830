"""Errors of Whisper's transcript against the text, in words and in characters.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022). Transcripts are
greedy, in a given language, which is never guessed, and both sides are written as Whisper's own
normalisers write them, but for digits: each is a word of its own, however it is written.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.audio.files import RESAMPLER
from jobs.clips import SpokenClip
from jobs.metrics.base import Direction, Metric, MetricError
from jobs.metrics.ct2_whisper import CT2_WEIGHTS, load_ct2_whisper
from jobs.metrics.models import HubModel, find_model, library, one_thread
from jobs.metrics.signal import RATE, at_16k
from jobs.metrics.words import MOST_WORDS, error_metrics, error_scores
from jobs.spec.metric import MetricSpec

DEFAULT_MODEL = "openai/whisper-large-v3"
MOST_CHARACTERS = 100_000.0
"""Bound of the counts: more than anyone says in the longest clip that is scored."""
ONE_WINDOW = 30 * RATE
"""Samples that Whisper takes at once; a longer clip is transcribed window by window."""

_SETTINGS = (
    "added_tokens.json",
    "generation_config.json",
    "merges.txt",
    "normalizer.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
_ZERO_WIDTH_SPACE = "\u200b"
_NUMBER_WORDS = "en"
"""The language whose number words a normaliser of Whisper's reads."""
_ENGLISH_DIGITS = {
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
}
_COMMA = re.compile(r"(?<=[0-9]),(?=[0-9])")
_BEFORE_ZEROS = re.compile(r"(?<=[0-9])\.(?=0+(?![0-9.]))")
_FIRST_ZEROS = re.compile(r"(?<![0-9.])0+(?=[0-9])")
_DIGIT_WORD = re.compile(rf"\b({'|'.join(_ENGLISH_DIGITS)})\b", re.IGNORECASE)
_WORDS_AFTER_DIGIT = re.compile(rf"(?<=[0-9])(?:[\s,;-]+{_DIGIT_WORD.pattern})+", re.IGNORECASE)
_WRITTEN_ONE = re.compile(r"\bone\b")
_BETWEEN_DIGITS = re.compile(r"(?<=[0-9])\.?(?=[0-9])")
"""With a point, which Whisper may write among digits that are read one by one: ``8.0485``."""

WHISPER_METRICS: Mapping[str, Direction] = {
    "whisper_word_error": "lower",
    "whisper_word_edits": "lower",
    "whisper_word_count": "neither",
    "whisper_character_error": "lower",
    "whisper_character_edits": "lower",
    "whisper_character_count": "neither",
}
"""By name, which way is better. All of them come from one transcript."""


def whisper_metrics(spec: MetricSpec) -> tuple[Metric, ...]:
    """Metadata of :class:`Whisper`; reads the model's files once to identify them.

    Raises:
        FileNotFoundError: the model is not there, with the command that downloads it.
    """
    language = spec.language or "of-the-prompt"
    made_of = f"{_find_model(spec).fingerprint()} {library('transformers')} language-{language}"
    version = f"2 {made_of} {_numbers(spec.language)} {RESAMPLER}"
    return (
        *error_metrics("whisper_word", "words", MOST_WORDS, version, version),
        *error_metrics("whisper_character", "characters", MOST_CHARACTERS, version, version),
    )


class Whisper:
    """Levenshtein distances between the text and Whisper's transcript."""

    def __init__(self, spec: MetricSpec) -> None:
        """Load the model, of transformers or of CTranslate2.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it does not know the language, or is quantised.
        """
        from transformers.models.whisper.english_normalizer import (
            BasicTextNormalizer,
            EnglishTextNormalizer,
        )

        self.metrics: Sequence[Metric] = whisper_metrics(spec)
        self._processor, self._model = _load(_find_model(spec))
        spellings = self._processor.tokenizer.english_spelling_normalizer or {}
        self._english: Callable[[str], str] = EnglishTextNormalizer(spellings)
        basic: Any = BasicTextNormalizer()
        basic.clean = without_symbols
        self._basic: Callable[[str], str] = basic
        self._language = spec.language
        if spec.language and (problem := self.language_problem(spec.language)):
            raise ValueError(problem)

    def measure(self, clip: SpokenClip) -> Mapping[str, float]:
        """Shares, edits and counts.

        Raises:
            MetricError: the text has no words, or its language is not given or not known.
        """
        language = clip.language or self._language
        if language is None:
            raise MetricError("neither the prompt nor the metric says the language")
        if problem := self.language_problem(language):
            raise MetricError(problem)
        expected = self.normalise(clip.text, language)
        if not any(map(str.isalnum, expected)):
            raise MetricError(f"the text has no words to compare with: {clip.text!r}")
        transcript = self.normalise(self.transcribe(at_16k(clip), language), language)
        found, words = transcript.split(), expected.split()
        return {
            **error_scores("whisper_word", found, words),
            **error_scores("whisper_character", "".join(found), "".join(words)),
        }

    def transcribe(self, audio: NDArray[np.float32], language: str) -> str:
        """The words in ``audio`` (samples,) at 16 kHz, as Whisper writes them."""
        import torch

        long = len(audio) > ONE_WINDOW
        # A short clip is padded to one window, which is all that Whisper takes.
        padding = {"truncation": False, "padding": "longest"} if long else {}
        features = self._processor(
            audio, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True, **padding
        )
        task = {}
        if self._model.generation_config.is_multilingual:
            task = {"language": primary_subtag(language), "task": "transcribe"}
        with one_thread(), torch.no_grad():
            tokens = self._model.generate(
                **features, **task, do_sample=False, num_beams=1, return_timestamps=long
            )
        text: str = self._processor.batch_decode(tokens, skip_special_tokens=True)[0]
        return text

    def normalise(self, text: str, language: str) -> str:
        """``text`` as both sides of a comparison are written: words with spaces between.

        A digit of any script is a word, so that ``5071`` is the same four words as ``5, 0, 7, 1``,
        and in English as ``five zero seven one``. In other languages a number in words is words.
        """
        text = "".join(str(unicodedata.decimal(letter, letter)) for letter in text)
        if primary_subtag(language) == _NUMBER_WORDS:
            text = self._english(_without_lost_zeros(text))
            # It writes a 1 that stands alone as "one".
            text = _WRITTEN_ONE.sub("1", text)
        else:
            text = self._basic(text)
        return _BETWEEN_DIGITS.sub(" ", text)

    def language_problem(self, language: str) -> str | None:
        """Why the model cannot transcribe ``language``, if so."""
        config = self._model.generation_config
        known = {"en"}
        if config.is_multilingual:
            known = {token.strip("<|>") for token in config.lang_to_id}
        if primary_subtag(language) in known:
            return None
        return (
            f"Whisper must know the language, got {language!r}; this model knows "
            f"{', '.join(sorted(known))}: take another model or drop the metric"
        )


def without_symbols(text: str) -> str:
    """``text`` with punctuation and symbols as spaces.

    In place of the one of Whisper's basic normaliser, which takes marks out as well: in Khmer, Thai
    or Hindi these are vowels. A zero-width space, which Khmer is typeset with, parts words.
    """
    letters = unicodedata.normalize("NFKC", text.replace(_ZERO_WIDTH_SPACE, " "))
    kinds = zip(letters, map(unicodedata.category, letters), strict=True)
    return "".join(" " if kind[0] in "SP" else letter for letter, kind in kinds if kind != "Cf")


def _without_lost_zeros(text: str) -> str:
    """``text`` in which Whisper's English normaliser finds every zero.

    It takes ``01`` and ``1.0`` for 1, and adds ``0 one`` up to 1.

    >>> _without_lost_zeros("0,01, zero one")
    '0 0 1, 0 1'
    >>> _without_lost_zeros("10-one")
    '10-1'
    """
    text = _BEFORE_ZEROS.sub(" ", _COMMA.sub("", text))
    text = _FIRST_ZEROS.sub(lambda zeros: " ".join(zeros[0]) + " ", text)
    return _WORDS_AFTER_DIGIT.sub(
        lambda words: _DIGIT_WORD.sub(lambda word: _ENGLISH_DIGITS[word[0].lower()], words[0]), text
    )


def primary_subtag(language: str) -> str:
    """The tag without script and region, which is Whisper's name for the language."""
    return language.split("-")[0]


def _numbers(language: str | None) -> str:
    """How numbers are compared, for the version; ``language`` is the metric's own, if it has one.

    >>> _numbers("km")
    'digits-by-character number-words-not-read'
    """
    words = language is None or primary_subtag(language) == _NUMBER_WORDS
    return f"digits-by-character number-words-{f'read-in-{_NUMBER_WORDS}' if words else 'not-read'}"


def _find_model(spec: MetricSpec) -> HubModel:
    return find_model(spec.model or DEFAULT_MODEL, _SETTINGS, CT2_WEIGHTS)


def _load(model: HubModel) -> tuple[Any, Any]:
    """The processor and the network."""
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    if not model.is_safetensors:
        return load_ct2_whisper(model.directory)
    processor = WhisperProcessor.from_pretrained(model.directory, local_files_only=True)
    network: Any = WhisperForConditionalGeneration.from_pretrained(
        model.directory, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    return processor, network.eval()
