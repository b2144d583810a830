"""How text and codes become what the talker reads, the same for training and for speaking.

Two channels run side by side, and their embeddings are added. For a text of n tokens and a clip of
N frames, with a prefix of q ids (``nothink, think_bos, think_eos``; for a language the base has a
token for: ``think, think_bos, LANGUAGE, think_eos``):

| positions | text channel | codec channel |
|---|---|---|
| 3 | the role: ``<im_start> assistant \\n`` | nothing |
| q | tts_pad | the prefix |
| 1 | tts_pad | the speaker's vector |
| 1 | tts_bos | codec_pad |
| n + 1 | the text, tts_eos | codec_pad |
| 1 | tts_pad | codec_bos |
| N | tts_pad | a frame: the sum of its codes' 16 embeddings |
| 1 | tts_pad | codec_eos |

This is what the package's ``generate`` reads in its non-streaming mode. Notation: s positions of a
prompt (up to and with codec_bos), N frames, k codebooks.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from jobs.clips import Codes
from jobs.families.layout import IGNORED_LABEL, Example

VERSION = 1
"""Of the layout and of the objective; part of a base's digest."""
NOTHING = -1
"""In the codec channel: no embedding is added."""
_ROLE = "<|im_start|>assistant\n"
_TAIL = "<|im_end|>\n<|im_start|>assistant\n"
_ROLE_TOKENS = 3
"""The package cuts the role off by number, so a tokenizer must make as many tokens of it."""
_TAIL_TOKENS = 5
"""As above: the end of the text and the role of who answers, both left out of the layout."""

LANGUAGES = {
    "zh": "chinese",
    "en": "english",
    "de": "german",
    "it": "italian",
    "pt": "portuguese",
    "es": "spanish",
    "ja": "japanese",
    "ko": "korean",
    "fr": "french",
    "ru": "russian",
}
"""Language tags, and what the package calls the languages that it was trained on."""


@dataclass(frozen=True)
class PromptTokens:
    """What comes before the first frame, codec_bos last; both channels (s,)."""

    text_ids: tuple[int, ...]
    codec_ids: tuple[int, ...]
    speaker_at: int
    """The position of the speaker's vector."""
    text_tokens: int
    """Of the text alone."""


@dataclass(frozen=True)
class Utterance:
    """A prompt with the frames that follow it."""

    prompt: PromptTokens
    codes: Codes
    """(N, k); no frames where it is yet to be spoken."""
    speaker: Tensor
    """(hidden,), fp32, on the CPU."""


@dataclass(frozen=True)
class SpeechExample(Example):
    """One clip to train on: text channel and labels of codebook 0, both (s + N + 1,)."""

    utterance: Utterance


class ChatLayout:
    """The layout in the ids of one base."""

    def __init__(self, config: Any, tokenizer: Any) -> None:  # noqa: ANN401 (the package's own)
        """``config`` is the base's, ``tokenizer`` its text tokenizer.

        Raises:
            ValueError: the tokenizer splits the role or the tail into other numbers of tokens than
                the package cuts off.
        """
        self._tokenizer = tokenizer
        self._talker = config.talker_config
        self.pad_id: int = config.tts_pad_token_id
        self.eos_id: int = self._talker.codec_eos_token_id
        self._bos_id: int = config.tts_bos_token_id
        self._text_end_id: int = config.tts_eos_token_id
        for part, count in ((_ROLE, _ROLE_TOKENS), (_TAIL, _TAIL_TOKENS)):
            if (found := len(self._ids(part))) != count:
                raise ValueError(
                    f"the tokenizer must make {count} tokens of {part!r}, got {found}; "
                    "use the tokenizer that came with the base"
                )

    def prompt(self, text: str, language: str | None) -> PromptTokens:
        """Lay a text out; ``language`` is a tag such as ``en`` or None.

        Raises:
            ValueError: the text is empty, or opens a named token (``<|``).
        """
        if "<|" in text or not text.strip():
            raise ValueError(f"text must have words and no '<|', got {text!r}")
        ids = self._ids(_ROLE + text + _TAIL)
        role, body = ids[:_ROLE_TOKENS], ids[_ROLE_TOKENS:-_TAIL_TOKENS]
        prefix = self._prefix(language)
        pad, bos = self._talker.codec_pad_id, self._talker.codec_bos_id
        text_ids = [*role, *[self.pad_id] * (len(prefix) + 1), self._bos_id]
        text_ids += [*body, self._text_end_id, self.pad_id]
        codec_ids = [*[NOTHING] * len(role), *prefix, NOTHING, pad]
        codec_ids += [*[pad] * (len(body) + 1), bos]
        return PromptTokens(tuple(text_ids), tuple(codec_ids), len(role) + len(prefix), len(body))

    def example(self, prompt: PromptTokens, codes: Codes, speaker: Tensor) -> SpeechExample:
        """A clip of ``codes`` (N, k)."""
        positions, frames = len(prompt.text_ids), len(codes)
        return SpeechExample(
            input_ids=[*prompt.text_ids, *[self.pad_id] * (frames + 1)],
            labels=[*[IGNORED_LABEL] * positions, *codes[:, 0].tolist(), self.eos_id],
            utterance=Utterance(prompt, codes, speaker),
        )

    def language_token(self, language: str | None) -> int | None:
        """The codec id of a language tag; None where the base has none."""
        if language is None:
            return None
        name = LANGUAGES.get(language.split("-")[0])
        token: int | None = (self._talker.codec_language_id or {}).get(name)
        return token

    def _prefix(self, language: str | None) -> list[int]:
        talker = self._talker
        bos, eos = talker.codec_think_bos_id, talker.codec_think_eos_id
        token = self.language_token(language)
        if token is None:
            return [talker.codec_nothink_id, bos, eos]
        return [talker.codec_think_id, bos, token, eos]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids
