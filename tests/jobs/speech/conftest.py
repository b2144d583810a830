"""Voices to speak with."""

import pytest

from jobs.families.base import FrozenBase
from jobs.spec.trial import DecodingSpec, PromptSpec
from jobs.speech.voice_files import VoiceFiles
from tests.embedded_voice import EMBEDDED_HOST
from tests.jobs.speech.trained import few_clips, train_voice

PROMPTS = [PromptSpec(id="p", text="one two three"), PromptSpec(id="q", text="nine")]
WARM = DecodingSpec(temperature=0.7, top_p=0.9, seed=3)


@pytest.fixture(scope="session")
def embedded_voice(
    embedded_base: FrozenBase, process_group: None, tmp_path_factory: pytest.TempPathFactory
) -> VoiceFiles:
    """Of the shipped base, with what its host said of ``PROMPTS`` beside it."""
    return train_voice(
        tmp_path_factory.mktemp("embedded"),
        embedded_base,
        EMBEDDED_HOST,
        few_clips(embedded_base),
        PROMPTS,
        WARM,
    )
