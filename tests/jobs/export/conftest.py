"""Voices to export: adapters far from nothing, which nobody had to train."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jobs.families.base import Base
from jobs.families.registry import load_base
from jobs.spec import DecodingSpec, HostSpec, TrainingSpec
from jobs.speech.voice_files import VoiceFacts, VoiceFiles, write_voice
from jobs.training.adapter import Adapters
from tests.embedded_voice import EMBEDDED_HOST

MakeVoice = Callable[[str], VoiceFiles]
_SPREAD = {"codec_lm": 0.02, "qwen3_tts": 0.3}
"""Of the adapters' weights: enough that the base would say something else."""


def voice_of(host: HostSpec, base: Base, directory: Path, lora_scale: float = 0.6) -> VoiceFiles:
    """A random adapter on ``base`` as a voice directory."""
    training = TrainingSpec(rank=4)
    adapters = Adapters(base.model, base.layers)
    adapters.attach("slot", training)
    draw = torch.Generator().manual_seed(1)
    spread = _SPREAD[host.family]
    weights = {
        key: spread * torch.randn(weight.shape, generator=draw)
        for key, weight in adapters.parameters("slot").items()
    }
    saved = replace(adapters.saved("slot", weights), kept=base.keepsakes())
    adapters.detach("slot")
    checkpoint = directory / "checkpoint"
    checkpoint.mkdir(parents=True)
    saved.write(checkpoint)
    facts = VoiceFacts(
        sweep="small",
        trial="t0123456789ab",
        epoch=2,
        lora_scale=lora_scale,
        training=training,
        host=host,
        base_digest=base.digest,
        encoder_digest=base.encoder_digest,
        decoding=DecodingSpec(),
        sample_rate=base.sample_rate,
        longest=20.0,
        provenance="a synthetic voice",
        protocol="c" * 64,
        versions={},
    )
    return write_voice(directory / "voice", facts, checkpoint)


@pytest.fixture(scope="session")
def voices(
    tiny_qwen3_tts_source: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, VoiceFiles]:
    """One of each family, by its name."""
    from tests.tiny_qwen3_tts import random_clips, write_recording

    directory = tmp_path_factory.mktemp("voices")
    qwen3_tts = EMBEDDED_HOST.model_copy(
        update={"family": "qwen3_tts", "source": str(tiny_qwen3_tts_source)}
    )
    made = {}
    for host in (EMBEDDED_HOST, qwen3_tts):
        base = load_base(host)
        base.examples(random_clips(write_recording(directory / "ann.flac"))) if (
            host is qwen3_tts
        ) else None
        made[host.family] = voice_of(host, base, directory / host.family)
    return made
