"""A voice as voxsweep itself runs it: what every export is compared with."""

from collections.abc import Iterator
from contextlib import contextmanager

from jobs.families.base import Base
from jobs.families.registry import load_base
from jobs.problems import InputError, Problem
from jobs.speech.voice_files import VOICE_FILE, VoiceFiles
from jobs.training.adapter import Adapters, load_weights
from jobs.training.packed import Owner

_SLOT = "voice"


@contextmanager
def resident(voice: VoiceFiles) -> Iterator[Base]:
    """The voice's base in fp32, every row of it adapted as a host adapts a slot's.

    Raises:
        InputError: it is not the base that the adapter was trained on.
    """
    facts = voice.facts
    base = load_base(facts.host.model_copy(update={"precision": "fp32"}))
    if base.digest != facts.base_digest:
        what = (
            f"the base must be that of the voice, of digest {facts.base_digest[:12]}, and "
            f"{facts.host.source} is {base.digest[:12]}"
        )
        step = "Put that base back, or name where it is in host.source."
        raise InputError([Problem(str(voice.directory / VOICE_FILE), what, step)])
    adapters = Adapters(base.model, base.layers)
    adapters.attach(_SLOT, facts.training)
    load_weights(adapters.parameters(_SLOT), voice.adapter)
    with adapters.rows.owned_by([Owner(_SLOT, facts.lora_scale)]), adapters.rows.share([1]):
        yield base
