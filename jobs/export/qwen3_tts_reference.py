"""The codes that a voice of the ``qwen3_tts`` family speaks, to compare an export with.

Notation: N frames, k codebooks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from jobs.export.load_back import Check, count_differences
from jobs.export.qwen3_tts import KeptVoice
from jobs.export.resident import SENTENCE, reference_prompt, resident
from jobs.families.description import tagged
from jobs.families.qwen3_tts.base import Qwen3TTS
from jobs.families.qwen3_tts.layout import LANGUAGES
from jobs.spec.trial import DecodingSpec
from jobs.speech.voice_files import VoiceFiles

_FRAMES = 8
"""At most: two thirds of a second."""
_GREEDY = {"do_sample": False, "subtalker_dosample": False, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class ReferenceCodes:
    """A text, and the likeliest codes of its speech."""

    text: str
    """As the package is given it."""
    language: str
    """As the package calls it."""
    speaker: str
    """In lower case."""
    codes: Tensor
    """(N, k)."""


def reference_codes(voice: VoiceFiles) -> ReferenceCodes:
    """What the voice speaks, as voxsweep runs it.

    Raises:
        InputError: see :func:`jobs.export.resident.resident`.
    """
    facts, slots = voice.facts, KeptVoice.read(voice.adapter).facts["speakers"]
    speaker = facts.speaker or facts.host.voice or max(slots, key=lambda name: slots[name]["slot"])
    prompt = reference_prompt(facts, SENTENCE, speaker)
    with resident(voice) as base:
        assert isinstance(base, Qwen3TTS)
        (spoken,) = base.generate(base.model, [prompt], DecodingSpec(max_tokens=_FRAMES))
        known = base.layout.language_token(prompt.language) is not None
    tag = prompt.language
    return ReferenceCodes(
        text=SENTENCE if tag is None else tagged(SENTENCE, tag),
        language=LANGUAGES[tag.split("-")[0]] if known and tag is not None else "auto",
        speaker=speaker.lower(),
        codes=spoken.codes,
    )


def compare_package(package: Any, reference: ReferenceCodes, how: Mapping[str, Any]) -> Check:  # noqa: ANN401
    """A loaded ``Qwen3TTSModel``, told ``how`` whose voice it is, by its own ``generate``."""
    codes, _ = package.model.generate(
        input_ids=package._tokenize_texts([package._build_assistant_text(reference.text)]),
        languages=[reference.language],
        non_streaming_mode=True,
        max_new_tokens=_FRAMES + 1,  # the last one is never returned
        **how,
        **_GREEDY,
    )
    expected = reference.codes
    what = f"greedy codes of {expected.numel()}, {len(expected)} frames, that differ"
    different = count_differences(codes[0].flatten().tolist(), expected.flatten().tolist())
    return Check(what, different, 0)
