"""What a voice of the ``codec_lm`` family says to a text, for others to say the same.

Notation: p tokens of a prompt, n written ones, v vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from jobs.export.load_back import Check
from jobs.export.resident import LANGUAGE, SENTENCE, resident
from jobs.families.codec_lm import CodecLM
from jobs.families.layout import TokenStream
from jobs.families.sources import directory_of
from jobs.spec.trial import DecodingSpec, PromptSpec
from jobs.speech.voice_files import VoiceFiles

_TEXTS = {"digits": "two four seven", "plain": SENTENCE}
"""By the front end of the layout."""
_TOKENS = 64
"""Written at most."""
_LOGITS, _SHARE = 1e-4, 1e-5
"""Rounding of a merged product in fp32 against one that is added, 2e-5 as seen; the share is of the
largest logit, where that comes to more."""


@dataclass(frozen=True)
class Said:
    """A prompt, and the likeliest tokens after it."""

    stream: TokenStream
    text: str
    """The prompt as the model reads it, written out."""
    prompt: list[int]
    """(p,)."""
    written: list[int]
    """(n,), the end among them unless it came too late."""
    logits: Tensor
    """(n, v), fp32: what each written token was picked from."""

    @property
    def tolerance(self) -> float:
        """Of a logit, in fp32."""
        return max(_LOGITS, _SHARE * self.logits.abs().max().item())


def said_by(voice: VoiceFiles) -> Said:
    """What the voice says, as voxsweep runs it.

    Raises:
        InputError: see :func:`jobs.export.resident.resident`.
    """
    tagged = voice.facts.host.language_tag
    with resident(voice) as base:
        assert isinstance(base, CodecLM)
        layout = base.stream.layout
        language = (voice.facts.language or LANGUAGE) if tagged else None
        prompt = PromptSpec(
            id="export",
            text=_TEXTS[layout.front_end],
            language=language,
            speaker=voice.facts.speaker,
        )
        name = base.voice_of(prompt.speaker)
        read = base.stream.prompt_ids(prompt.text, name, language)
        (written,) = base.generate(base.model, [prompt], DecodingSpec(max_tokens=_TOKENS))
        text = layout.prompt_text(prompt.text, name, language)
        return Said(base.stream, text, read, written, logits_of(base.model, read, written))


@torch.no_grad()
def logits_of(model: nn.Module, prompt: list[int], written: list[int]) -> Tensor:
    """(n, v): what ``model`` would pick each of ``written`` from."""
    ids = torch.tensor([prompt + written[:-1]])
    logits: Tensor = model(input_ids=ids).logits[0, len(prompt) - 1 :]
    return logits.float()


def compare_model(model: nn.Module, said: Said) -> list[Check]:
    """A Hugging Face model in fp32, by its logits and by its own ``generate``."""
    logits = logits_of(model, said.prompt, said.written)
    difference = (logits - said.logits).abs().max().item()
    chosen = GenerationConfig(
        do_sample=False,
        max_new_tokens=len(said.written),
        eos_token_id=said.stream.end_id,
        pad_token_id=said.stream.pad_id,
    )
    ids = torch.tensor([said.prompt])
    spoken = model.generate(  # type: ignore[operator]
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_config=chosen,
        use_model_defaults=False,
    )
    written = spoken[0, len(said.prompt) :].tolist()
    return [
        Check(f"logits of {len(said.written)} tokens", difference, said.tolerance),
        Check(
            f"greedy tokens that differ, of {len(said.written)}", apart(written, said.written), 0
        ),
    ]


def apart(one: Sequence[int], other: Sequence[int]) -> int:
    """Places at which they are not the same; what only one of them has counts."""
    same = sum(a == b for a, b in zip(one, other, strict=False))
    return max(len(one), len(other)) - same


def source_of(voice: VoiceFiles) -> Path:
    """The directory of the voice's base."""
    return directory_of(voice.facts.host.source)
