"""A voice loaded outside its sweep; it sounds as it did in it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from jobs.clips import SpokenClip
from jobs.families.base import FrozenBase, to_accelerator
from jobs.families.registry import load_base
from jobs.problems import InputError, Problem
from jobs.spec.trial import PromptSpec
from jobs.speech.voice_files import VOICE_FILE, VoiceFiles
from jobs.training.adapter import Adapters, load_weights, read_extras, read_weights
from jobs.training.packing import AdapterUse

_SLOT = "voice"


class LoadedVoice:
    """A base in memory with one adapter on it.

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
        self._adapters.add(_SLOT, self.facts.training)
        load_weights(self._adapters.parameters(_SLOT), read_weights(files.adapter))

    @torch.no_grad()
    def speak(self, prompts: Sequence[PromptSpec]) -> list[SpokenClip]:
        """Say the prompts at the voice's strength and decoding, all in one batch.

        Raises:
            ValueError: the base cannot read a text, or does not know the speaker.
        """
        facts = self.facts
        named = [
            prompt.model_copy(
                update={
                    "language": prompt.language or facts.language,
                    "speaker": prompt.speaker or facts.speaker,
                }
            )
            for prompt in prompts
        ]
        with self._adapters.rows.owned_by([AdapterUse(_SLOT, facts.lora_scale)]):
            return self._base.speak(
                self._base.model, named, facts.decoding, 1, self._adapters.rows.share
            )

    @contextmanager
    def adapted(self) -> Iterator[FrozenBase]:
        """The base, whose model speaks with the adapter within the block."""
        rows = self._adapters.rows
        with rows.owned_by([AdapterUse(_SLOT, self.facts.lora_scale)]), rows.share([1]):
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
