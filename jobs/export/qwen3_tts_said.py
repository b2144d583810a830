"""What a voice of the ``qwen3_tts`` family says to a text, for the official package to say it too.

Notation: N frames, k codebooks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jobs.export.load_back import Check
from jobs.export.qwen3_tts import KeptVoice
from jobs.export.resident import LANGUAGE, SENTENCE, resident
from jobs.families.qwen3_tts.base import Qwen3TTS
from jobs.families.qwen3_tts.layout import LANGUAGES
from jobs.families.tag import tagged
from jobs.spec.trial import DecodingSpec, PromptSpec
from jobs.speech.voice_files import VoiceFiles

_FRAMES = 8
"""At most: two thirds of a second."""
_GREEDY = {"do_sample": False, "subtalker_dosample": False, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class Said:
    """A text, and the likeliest codes of its speech."""

    text: str
    """As the package is given it."""
    language: str
    """As the package calls it."""
    speaker: str
    """In lower case."""
    codes: Tensor
    """(N, k)."""


def said_by(voice: VoiceFiles) -> Said:
    """What the voice says, as voxsweep runs it.

    Raises:
        InputError: see :func:`jobs.export.resident.resident`.
    """
    facts, slots = voice.facts, KeptVoice.read(voice.adapter).facts["speakers"]
    speaker = facts.speaker or facts.host.voice or max(slots, key=lambda name: slots[name]["slot"])
    language = (facts.language or LANGUAGE) if facts.host.language_tag else None
    prompt = PromptSpec(id="export", text=SENTENCE, language=language, speaker=speaker)
    with resident(voice) as base:
        assert isinstance(base, Qwen3TTS)
        (spoken,) = base.generate(base.model, [prompt], DecodingSpec(max_tokens=_FRAMES))
        known = language is not None and base.layout.language_token(language) is not None
    return Said(
        text=SENTENCE if language is None else tagged(SENTENCE, language),
        language=LANGUAGES[language.split("-")[0]] if known and language is not None else "auto",
        speaker=speaker.lower(),
        codes=spoken.codes,
    )


def compare_package(package: Any, said: Said, how: Mapping[str, Any]) -> Check:  # noqa: ANN401
    """A loaded ``Qwen3TTSModel``, told ``how`` whose voice it is, by its own ``generate``."""
    codes, _ = package.model.generate(
        input_ids=package._tokenize_texts([package._build_assistant_text(said.text)]),
        languages=[said.language],
        non_streaming_mode=True,
        max_new_tokens=_FRAMES + 1,  # the last one is never returned
        **how,
        **_GREEDY,
    )
    longest = max(len(codes[0]), len(said.codes))
    spoken, own = (_padded(each, longest) for each in (codes[0].cpu(), said.codes))
    what = f"greedy codes of {said.codes.numel()}, {len(said.codes)} frames, that differ"
    return Check(what, int((spoken != own).sum()), 0)


def _padded(codes: Tensor, frames: int) -> Tensor:
    missing = torch.full((frames - len(codes), codes.shape[1]), -1)
    return torch.cat([codes, missing])
