"""An adapter of the ``qwen3_tts`` family in the official package.

Nothing of the base is lost: its preset speakers stay, the new ones come beside them, and the
speaker encoder stays where it is. The package's tables can also be left alone, and the voice be
given as an x-vector prompt. Both ways read the layout that the adapter was trained on only with
``non_streaming_mode=True``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file
from torch import Tensor

from jobs.export.load_back import Check, count_differences
from jobs.export.reference import SENTENCE, reference_base, reference_prompt
from jobs.families.description import tagged
from jobs.families.qwen3_tts.base import Qwen3TTS
from jobs.families.qwen3_tts.layout import LANGUAGES
from jobs.families.qwen3_tts.model import Digests
from jobs.spec.trial import DecodingSpec
from jobs.speech.voice_files import VoiceFiles
from jobs.training.adapter import EXTRAS_FACTS, EXTRAS_TENSORS
from jobs.vendor import qwen_tts

_CUSTOM_VOICE = "custom_voice"


@dataclass(frozen=True)
class KeptVoice:
    """What a checkpoint keeps beside its LoRA weights."""

    directory: Path
    vectors: Mapping[str, Tensor]
    """(hidden,), fp32, by the speaker's name in lower case."""
    facts: Mapping[str, Any]

    @classmethod
    def read(cls, checkpoint: Path) -> Self:
        """Of a checkpoint's directory.

        Raises:
            FileNotFoundError: it is no checkpoint of the family.
        """
        facts = json.loads((checkpoint / EXTRAS_FACTS).read_text(encoding="utf-8"))
        return cls(checkpoint, load_file(checkpoint / EXTRAS_TENSORS), facts)

    def check_base(self, source: Path) -> None:
        """See that the adapter was trained on the base in ``source``.

        Raises:
            ValueError: it was another one.
        """
        found, trained = Digests.read(source).base, self.facts["base_digest"]
        if found != trained:
            raise ValueError(
                f"the adapter in {self.directory} must be put on the base that it was trained on, "
                f"of digest {trained[:12]}, and {source} is {found[:12]}; name that base"
            )


def add_speakers(package: Any, voice: KeptVoice) -> None:  # noqa: ANN401 (Qwen3TTSModel)
    """Make the voice's speakers ones that ``generate_custom_voice`` takes by name."""
    model = package.model
    config = model.config.talker_config
    config.spk_id, config.spk_is_dialect = dict(config.spk_id), dict(config.spk_is_dialect)
    table = model.talker.get_input_embeddings().weight
    for name, vector in voice.vectors.items():
        slot = voice.facts["speakers"][name]["slot"]
        config.spk_id[name] = slot
        config.spk_is_dialect[name] = voice.facts["is_dialect"]
        with torch.no_grad():
            table[slot] = vector.to(table)
    model.supported_speakers = config.spk_id.keys()
    model.config.tts_model_type = model.tts_model_type = _CUSTOM_VOICE


def clone_prompt(voice: KeptVoice, speaker: str) -> list[Any]:
    """The speaker for ``generate_voice_clone``'s ``voice_clone_prompt``, no table touched."""
    vector = voice.vectors[speaker.lower()]
    return [qwen_tts().VoiceClonePromptItem(None, vector, x_vector_only_mode=True, icl_mode=False)]


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
        InputError: see :func:`jobs.export.reference.reference_base`.
    """
    facts, slots = voice.facts, KeptVoice.read(voice.adapter).facts["speakers"]
    speaker = facts.speaker or facts.host.voice or max(slots, key=lambda name: slots[name]["slot"])
    prompt = reference_prompt(facts, SENTENCE, speaker)
    with reference_base(voice) as base:
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


def compare_package(
    package: Any,  # noqa: ANN401 (Qwen3TTSModel)
    reference: ReferenceCodes,
    how: Mapping[str, Any],
) -> Check:
    """A loaded ``Qwen3TTSModel``, given the speaker by ``how``, by its own ``generate``."""
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
