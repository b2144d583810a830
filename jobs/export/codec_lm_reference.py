"""The tokens that a voice of the ``codec_lm`` family writes, to compare an export with.

Notation: p tokens of a prompt, n written ones, v vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from jobs.export.load_back import Check, count_differences
from jobs.export.reference import LANGUAGE, SENTENCE, reference_base, reference_prompt
from jobs.families.codec_lm import CodecLM
from jobs.families.layout import TokenStream
from jobs.spec.trial import DecodingSpec
from jobs.speech.voice_files import VoiceFiles

_TEXTS = {"digits": "two four seven", "plain": SENTENCE, "phonemes": SENTENCE}
"""By the front end of the layout."""
_TOKENS = 64
"""Written at most."""
_LOGITS, _SHARE = 1e-4, 1e-5
"""Rounding of a merged product in fp32 against one that is added, 2e-5 as seen; the share is of the
largest logit, where that comes to more."""


@dataclass(frozen=True)
class ReferenceTokens:
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


def reference_tokens(voice: VoiceFiles) -> ReferenceTokens:
    """What the voice writes, as voxsweep runs it.

    Raises:
        InputError: see :func:`jobs.export.reference.reference_base`.
    """
    with reference_base(voice) as base:
        assert isinstance(base, CodecLM)
        layout = base.stream.layout
        prompt = reference_prompt(voice.facts, _TEXTS[layout.front_end], voice.facts.speaker)
        prompt = prompt.model_copy(update={"language": voice.facts.language or LANGUAGE})
        arguments = base.read(prompt)
        read = base.stream.prompt_ids(*arguments)
        (written,) = base.generate(base.model, [prompt], DecodingSpec(max_tokens=_TOKENS))
        logits = logits_of(base.model, read, written)
        return ReferenceTokens(base.stream, layout.prompt_text(*arguments), read, written, logits)


@torch.no_grad()
def logits_of(model: nn.Module, prompt: list[int], written: list[int]) -> Tensor:
    """(n, v): what ``model`` would pick each of ``written`` from."""
    ids = torch.tensor([prompt + written[:-1]])
    logits: Tensor = model(input_ids=ids).logits[0, len(prompt) - 1 :]
    return logits.float()


def compare_model(model: nn.Module, reference: ReferenceTokens) -> list[Check]:
    """A Hugging Face model in fp32, by its logits and by its own ``generate``."""
    logits = logits_of(model, reference.prompt, reference.written)
    difference = (logits - reference.logits).abs().max().item()
    chosen = GenerationConfig(
        do_sample=False,
        max_new_tokens=len(reference.written),
        eos_token_id=reference.stream.end_id,
        pad_token_id=reference.stream.pad_id,
    )
    ids = torch.tensor([reference.prompt])
    spoken = model.generate(  # type: ignore[operator]
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_config=chosen,
        use_model_defaults=False,
    )
    written = spoken[0, len(reference.prompt) :].tolist()
    return [
        Check(f"logits of {len(reference.written)} tokens", difference, reference.tolerance),
        Check(
            f"greedy tokens that differ, of {len(reference.written)}",
            count_differences(written, reference.written),
            0,
        ),
    ]
