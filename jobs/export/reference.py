"""A voice as voxsweep itself runs it: what every export is compared with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from jobs.families.base import FrozenBase
from jobs.spec.trial import PromptSpec
from jobs.speech.voice import LoadedVoice
from jobs.speech.voice_files import VoiceFacts, VoiceFiles

SENTENCE = "The birch canoe slid on the smooth planks."
"""What a voice of any text says to be compared: the first of the Harvard sentences."""
LANGUAGE = "en"
"""Of :data:`SENTENCE`."""


def reference_prompt(facts: VoiceFacts, text: str, speaker: str | None) -> PromptSpec:
    """``text`` for the comparison, in the voice's language where its base reads language tags."""
    language = (facts.language or LANGUAGE) if facts.host.language_tag else None
    return PromptSpec(id="export", text=text, language=language, speaker=speaker)


@contextmanager
def reference_base(voice: VoiceFiles) -> Iterator[FrozenBase]:
    """The voice's base with the adapter on it, in fp32 and on the CPU, as exports are compared.

    Raises:
        InputError: the base is not there, or is another than the voice was trained on.
    """
    host = voice.facts.host.model_copy(update={"precision": "fp32"})
    loaded = LoadedVoice(replace(voice, facts=voice.facts.model_copy(update={"host": host})))
    with loaded.adapted() as base:
        base.model.cpu()
        yield base
