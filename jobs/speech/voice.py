"""A voice loaded outside its sweep; it sounds as it did in it.

A language is spoken by what its verdict allows: the voice's adapter, another variant's, or none.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from jobs.clips import SpokenClip
from jobs.families.base import FrozenBase, StreamingBase, to_accelerator
from jobs.families.registry import load_base
from jobs.problems import InputError, Problem
from jobs.spec.trial import BASE_VARIANT, PromptSpec
from jobs.speech.voice_files import VOICE_FILE, VoiceFiles
from jobs.training.adapter import Adapters, load_weights, read_extras, read_weights
from jobs.training.packing import AdapterUse


class LoadedVoice:
    """A base in memory with an adapter on it, or one for each variant that speaks a language.

    The layers are the sweep's own, not PEFT's: the adapter stays fp32 on a base of less precision,
    and the sound is that of the sweep.
    """

    def __init__(self, files: VoiceFiles) -> None:
        """Load the base, on the GPU if this process was given one, and the adapter.

        Raises:
            InputError: the base is not there, or is another than the voice was trained on.
        """
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)  # as a sweep's hosts: the same bits, and nobody waits
        self.facts = files.facts
        self._base = _load_base(files)
        if (extras := read_extras(files.adapter)) is not None:
            self._base.load_extras(extras)
        self._adapters = Adapters(self._base)
        base_decoding = self.facts.base_decoding or self.facts.decoding
        self._ways = {BASE_VARIANT: (AdapterUse(None), base_decoding)}
        """By variant, its adapter and its decoding."""
        for number, of in enumerate((files, *files.others.values())):
            slot = f"voice{number}"
            self._adapters.add(slot, of.facts.training)
            load_weights(self._adapters.parameters(slot), read_weights(of.adapter))
            use = AdapterUse(slot, of.facts.lora_scale)
            self._ways[of.facts.variant.id] = (use, of.facts.decoding)

    @torch.no_grad()
    def speak(self, prompts: Sequence[PromptSpec]) -> list[SpokenClip]:
        """Say the prompts at the voice's strength and decoding, all of a variant in one batch.

        Raises:
            ValueError: the base cannot read a text, does not know the speaker, or the voice does
                not speak the language.
        """
        named = [*map(self._named, prompts)]
        variants = [self.facts.variant_for(prompt.language) for prompt in named]
        clips: dict[int, SpokenClip] = {}
        rows = self._adapters.rows
        for variant in dict.fromkeys(variants):
            places = [place for place, of in enumerate(variants) if of == variant]
            batch = [named[place] for place in places]
            use, decoding = self._ways[variant]
            with rows.owned_by([use]):
                spoken = self._base.speak(self._base.model, batch, decoding, 1, rows.share)
            clips |= zip(places, spoken, strict=True)
        return [clips[place] for place in range(len(named))]

    @torch.no_grad()
    def speak_stream(self, prompt: PromptSpec) -> Iterator[SpokenClip]:
        """What :meth:`speak` says of ``prompt``, piece by piece if the base can, else in one.

        The last piece says whether the end was reached. Until it came, the voice says nothing else.

        Raises:
            ValueError: as :meth:`speak`.
        """
        named, rows, base = self._named(prompt), self._adapters.rows, self._base
        if not isinstance(base, StreamingBase):
            yield from self.speak([named])
            return
        use, decoding = self._ways[self.facts.variant_for(named.language)]
        with rows.owned_by([use]):
            yield from base.speak_stream(base.model, named, decoding, rows.share)

    def _named(self, prompt: PromptSpec) -> PromptSpec:
        """With the voice's language and speaker where it has none."""
        return prompt.model_copy(
            update={
                "language": prompt.language or self.facts.language,
                "speaker": prompt.speaker or self.facts.speaker,
            }
        )

    @contextmanager
    def adapted(self) -> Iterator[FrozenBase]:
        """The base, whose model speaks with the adapter within the block."""
        rows = self._adapters.rows
        use, _ = self._ways[self.facts.variant.id]
        with rows.owned_by([use]), rows.share([1]):
            yield self._base


def _load_base(files: VoiceFiles) -> FrozenBase:
    facts, where = files.facts, str(files.directory / VOICE_FILE)
    source = facts.host.source
    try:
        base = load_base(facts.host)
    except (FileNotFoundError, ValueError) as error:
        step = "Put the base there, or correct host.source in this file."
        raise InputError([Problem(where, f"the base {source} must load: {error}", step)]) from None
    digests = (
        ("base", facts.base_digest, base.digest),
        ("codec", facts.encoder_digest, base.encoder_digest),
    )
    if problems := [
        Problem(
            where,
            f"the {what} must be the one that the voice was trained on, of digest {wanted[:12]}, "
            f"and {source} is {found[:12]}",
            "Put that one there, or correct host in this file to name where it is.",
        )
        for what, wanted, found in digests
        if wanted != found
    ]:
        raise InputError(problems)
    to_accelerator(base.model)
    return base
