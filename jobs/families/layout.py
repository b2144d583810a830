"""How text and codes become one token stream, described by a base's `layout.json`.

The embedded base and a NeuTTS checkpoint differ only in this file: the same training and synthesis
code reads both. A stream is

    prompt ... START | code code ... END          plain, as NeuTTS does it
    prompt ... START | M w code code M w code ... END     with word markers
    r prompt ... START R R | code code ... END    behind a reference, as NeuTTS clones a voice

where a marker is an ordinal token M and the word w itself; the prompt then holds the same pairs.
The ordinal gives every word a unique key, so that which word comes next is a look-up. A reference
is a clip of the speaker: its text r stands before the clip's, its codes R after START.

One rule for labels, whatever the layout: everything up to and including START, and a reference's
codes, is the prompt and is masked; markers, codes and END are targets. (NeuTTS's own script also
makes START a target. It is the same token in every clip and is always given when speaking, so
nothing is lost by masking it.)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, ValidationError, model_validator

from jobs.families.description import tagged
from jobs.families.phonemes import phonemes
from jobs.spec.strict import Strict

LAYOUT_FILE = "layout.json"
IGNORED_LABEL = -100  # what torch's cross entropy leaves out
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NAMED_TOKEN = re.compile(r"<\|[^|]+\|>")


class Markers(Strict, strict=True):
    """Word markers in prompt and speech: an ordinal token, then the word."""

    ordinal: str  # names a token, with {ordinal} for 1, 2, ...
    max_words: PositiveInt  # there are as many ordinal tokens


class Length(Strict, strict=True):
    """Upper bound on the codes of a text: `fixed + per_word * words`."""

    fixed: PositiveInt
    per_word: PositiveInt


@dataclass(frozen=True)
class ReferenceClip:
    """A clip of a speaker, which what they are to say is read behind."""

    text: str
    """As :meth:`Layout.spelt` gives it."""
    codes: Sequence[int]
    """(frames,)"""


class Layout(Strict, strict=True):
    """The token stream of one base; see the module's docstring."""

    # words zero..nine | text as it is | text as IPA, see `spelt`
    front_end: Literal["digits", "plain", "phonemes"]
    prompt: str  # with {text}, and {voice} if there are voices; START is put after it
    start: str
    end: str
    code: str  # with {code}
    codebook_size: PositiveInt
    length: Length
    markers: Markers | None = None
    voice: str | None = None  # names a token, with {voice}
    voices: tuple[str, ...] = ()
    default_voice: str | None = None

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read `layout.json` of a base directory.

        Raises:
            ValueError: the file does not describe a layout; the message names the file and keys.
            FileNotFoundError: there is none.
        """
        path = directory / LAYOUT_FILE
        try:
            return cls.model_validate_json(path.read_text())
        except ValidationError as error:
            raise ValueError(f"{path}: {error}") from error

    @model_validator(mode="after")
    def _check_templates(self) -> Self:
        needed = [("prompt", self.prompt, "{text}"), ("code", self.code, "{code}")]
        if self.voices:
            needed += [("prompt", self.prompt, "{voice}"), ("voice", self.voice or "", "{voice}")]
        if self.markers:
            needed.append(("markers.ordinal", self.markers.ordinal, "{ordinal}"))
        for key, template, field in needed:
            if field not in template:
                raise ValueError(f"{key} must contain {field}, got {template!r}")
        if self.markers and self.front_end == "phonemes":
            raise ValueError("markers must be absent: words are not found in phonemes")
        if (self.default_voice in self.voices) != bool(self.voices):
            raise ValueError(
                f"default_voice must be one of {self.voices}, got {self.default_voice!r}"
            )
        return self

    def added_tokens(self) -> list[str]:
        """The tokens a tokenizer must know as single ones, in the order they should be added."""
        tokens = [*_NAMED_TOKEN.findall(self.prompt), self.start, self.end]
        if self.markers:
            tokens += [self._ordinal(i) for i in range(self.markers.max_words)]
        tokens += [self._voice_token(voice) for voice in self.voices]
        return tokens + [self._code(code) for code in range(self.codebook_size)]

    def spelt(self, text: str, language: str | None) -> str:
        """A text in `language` as all other methods take it: phonemes, where they are read.

        Raises:
            ValueError: there are no phonemes of it (see `jobs.families.phonemes.phonemes`).
            ImportError: eSpeak is needed, and is not installed.
        """
        return phonemes(text, language) if self.front_end == "phonemes" else text

    def words(self, text: str) -> list[str]:
        """The words of a text, after the front end: `digits` reads "35" and "three five" alike.

        Raises:
            ValueError: no word, more words than ordinals, a word outside the vocabulary, or the
                opening of a named token (`<|`) in the text.
        """
        if "<|" in text:
            raise ValueError(f"text must not contain '<|', got {text!r}")
        words = _digit_words(text) if self.front_end == "digits" else text.split()
        if not words:
            raise ValueError(f"text must have at least one word, got {text!r}")
        if self.markers and len(words) > self.markers.max_words:
            raise ValueError(
                f"text must have at most {self.markers.max_words} words, got {len(words)}: {text!r}"
            )
        return words

    def prompt_text(
        self,
        text: str,
        voice: str | None = None,
        language: str | None = None,
        reference: ReferenceClip | None = None,
    ) -> str:
        """The prompt as a string, to START or to the last code of a `reference`.

        `voice` defaults to `default_voice`. With a `language`, its tag stands before the words,
        whatever the front end reads.

        Raises:
            ValueError: the text (see `words`) or the voice is not one of this base's, or the layout
                takes no reference (see `check_reference`).
        """
        spoken = voice or self.default_voice
        if spoken is not None and spoken not in self.voices:
            raise ValueError(f"voice must be one of {list(self.voices)}, got {spoken!r}")
        written, codes = self._written(text), ""
        if reference is not None:
            self.check_reference()
            written = f"{self._written(reference.text)} {written}"
            codes = "".join(map(self._code, reference.codes))
        if language is not None:
            written = tagged(written, language)
        prompt = self.prompt.replace("{voice}", self._voice_token(spoken) if spoken else "")
        return prompt.replace("{text}", written) + self.start + codes

    def check_reference(self) -> None:
        """Raise ValueError where a clip cannot be read behind a reference."""
        if self.markers:
            raise ValueError(
                "data.reference_prefix must be false with a layout that has markers, which number "
                "the words of one clip; set it to false, or take a layout without markers"
            )

    def speech_text(
        self, codes: Sequence[int], text: str, word_starts: Sequence[int] | None = None
    ) -> str:
        """What follows the prompt, as a string: codes, markers where there are any, END.

        Args:
            codes: the codes of the clip, (frames,).
            text: what the clip says.
            word_starts: the frame at which each word starts; needed with markers, else None.

        Raises:
            ValueError: `word_starts` do not fit the words, the codes or the layout.
        """
        written = [self._code(code) for code in codes]
        if self.markers or word_starts is not None:
            words = self.words(text)
            starts = self._checked(word_starts, len(words), len(codes))
            for i in reversed(range(len(words))):
                written.insert(starts[i], self._marker(i, words[i]))
        return "".join(written) + self.end

    def max_codes(self, text: str) -> int:
        """More codes than a sound reading of the text needs; where generation gives up."""
        return self.length.fixed + self.length.per_word * len(self.words(text))

    def _written(self, text: str) -> str:
        """A text as it stands in the prompt."""
        words = self.words(text)
        if self.markers:
            return "".join(self._marker(i, word) for i, word in enumerate(words))
        return " ".join(words) if self.front_end == "digits" else text

    def _checked(self, starts: Sequence[int] | None, words: int, frames: int) -> Sequence[int]:
        if self.markers is None:
            raise ValueError("word_starts must be None: this layout has no word markers")
        if starts is None or len(starts) != words:
            raise ValueError(f"word_starts must hold one frame for each of {words} words: {starts}")
        ordered = all(a <= b for a, b in zip(starts, [*starts[1:], frames], strict=True))
        if starts[0] != 0 or not ordered:
            raise ValueError(f"word_starts must rise from 0 to at most {frames}, got {starts}")
        return starts

    def _marker(self, index: int, word: str) -> str:
        # The space makes a word the same token here as in running text.
        return f"{self._ordinal(index)} {word}"

    def _ordinal(self, index: int) -> str:
        assert self.markers is not None
        return self.markers.ordinal.replace("{ordinal}", str(index + 1))

    def _voice_token(self, voice: str) -> str:
        assert self.voice is not None
        return self.voice.replace("{voice}", voice)

    def _code(self, code: int) -> str:
        return self.code.replace("{code}", str(code))


@dataclass(frozen=True)
class Example:
    """One clip to train on: ids and labels, both (tokens,), labels not yet shifted."""

    input_ids: list[int]
    labels: list[int]

    def __len__(self) -> int:
        """Tokens: what the clip takes of ``batch_tokens`` when it comes alone."""
        return len(self.input_ids)


class TokenStream:
    """A layout in the ids of one tokenizer."""

    def __init__(self, layout: Layout, tokenizer: Any) -> None:  # noqa: ANN401 (Hugging Face's)
        """Raises ValueError where the tokenizer lacks one of `Layout.added_tokens`."""
        self.layout = layout
        self._tokenizer = tokenizer
        self.added_ids = ids = self._ids(layout.added_tokens())
        """Of :meth:`Layout.added_tokens`, in their order."""
        self.end_id = self._ids([layout.end])[0]
        pad = tokenizer.pad_token_id
        self.pad_id = self.end_id if pad is None else pad
        self.code_ids: NDArray[np.int64] = np.array(ids[-layout.codebook_size :])
        self._code_of = np.full(max(ids) + 1, -1, dtype=np.int64)
        self._code_of[self.code_ids] = np.arange(layout.codebook_size)

    def prompt_ids(
        self,
        text: str,
        voice: str | None = None,
        language: str | None = None,
        reference: ReferenceClip | None = None,
    ) -> list[int]:
        """The prompt as ids; see `Layout.prompt_text`."""
        return self._encode(self.layout.prompt_text(text, voice, language, reference))

    def example(
        self,
        text: str,
        codes: Sequence[int],
        word_starts: Sequence[int] | None = None,
        voice: str | None = None,
        language: str | None = None,
        reference: ReferenceClip | None = None,
    ) -> Example:
        """A clip as ids and labels, the prompt masked; see `Layout.speech_text`."""
        prompt = self.prompt_ids(text, voice, language, reference)
        speech = self._encode(self.layout.speech_text(codes, text, word_starts))
        return Example(prompt + speech, [IGNORED_LABEL] * len(prompt) + speech)

    def text_example(self, context: str, continuation: str) -> Example:
        """Plain text without the layout, behind the token that a text of the model begins with.

        That is the tokenizer's BOS, else its EOS, as in lm-evaluation-harness, else END. Context
        and continuation are read together, as there; the last token at least is a target.
        """
        known = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id, self.end_id)
        first = next(each for each in known if each is not None)
        ids = [first, *self._encode(context + continuation)]
        given = min(1 + len(self._encode(context)), len(ids) - 1)
        return Example(ids, [IGNORED_LABEL] * given + ids[given:])

    def codes(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """The codes (frames,) among generated ids, up to END; whatever is no code is dropped."""
        generated = np.asarray(ids, dtype=np.int64)
        ends = np.flatnonzero(generated == self.end_id)
        kept = generated[: ends[0]] if len(ends) else generated
        codes = self._code_of[kept[kept < len(self._code_of)]]
        return codes[codes >= 0]

    def max_new_tokens(self, text: str) -> int:
        """`Layout.max_codes`, the markers and END, in tokens."""
        markers = self.layout.prompt_text(text) if self.layout.markers else ""
        return self.layout.max_codes(text) + len(self._encode(markers)) + 1

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _ids(self, tokens: list[str]) -> list[int]:
        # A missing token is None or the unknown token's.
        ids = [i for i in self._tokenizer.convert_tokens_to_ids(tokens) if i is not None]
        if self._tokenizer.convert_ids_to_tokens(ids) != tokens:
            known = set(self._tokenizer.convert_ids_to_tokens(ids))
            missing = [token for token in tokens if token not in known]
            raise ValueError(
                f"the tokenizer must know every token of the layout, {len(missing)} are missing: "
                f"{' '.join(missing[:5])} ...; `voxsweep make-base` makes a base that has them"
            )
        return ids


def _digit_words(text: str) -> list[str]:
    words = [
        word
        for piece in text.lower().split()
        for word in ((DIGIT_WORDS[int(digit)] for digit in piece) if piece.isdecimal() else [piece])
    ]
    unknown = sorted(set(words) - set(DIGIT_WORDS))
    if unknown:
        raise ValueError(
            f"text must be digits or the words {' '.join(DIGIT_WORDS)}, "
            f"got {' '.join(unknown)} in {text!r}"
        )
    return words
