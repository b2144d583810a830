"""Voices to export: adapters far from nothing, which nobody had to train."""

from pathlib import Path

import torch

from jobs.families.base import FrozenBase
from jobs.spec.trial import DecodingSpec, HostSpec, TrainingSpec
from jobs.speech.voice_files import VoiceFacts, VoiceFiles, write_voice
from jobs.training.adapter import Adapters
from tests.embedded_voice import EMBEDDED_HOST

_SPREAD = {"codec_lm": 0.05, "qwen3_tts": 0.3, "voxcpm2": 0.1}
"""Of the adapters' weights: enough that the base would say something else."""


def random_voice(
    directory: Path,
    base: FrozenBase,
    host: HostSpec = EMBEDDED_HOST,
    training: TrainingSpec | None = None,
) -> VoiceFiles:
    """A random adapter on ``base`` in ``directory/voice``; the base stays as it was."""
    training = training or TrainingSpec(rank=4)
    adapters = Adapters(base)
    adapters.add("slot", training)
    draw = torch.Generator().manual_seed(1)
    weights = {
        key: _SPREAD[host.family] * torch.randn(weight.shape, generator=draw)
        for key, weight in adapters.parameters("slot").items()
    }
    saved = adapters.saved("slot", weights, base.adapter_extras())
    adapters.remove("slot")
    checkpoint = directory / "checkpoint"
    checkpoint.mkdir(parents=True)
    saved.write(checkpoint)
    facts = VoiceFacts(
        sweep="small",
        trial="t0123456789ab",
        epoch=2,
        lora_scale=0.6,
        training=training,
        host=host,
        base_digest=base.digest,
        encoder_digest=base.encoder_digest,
        decoding=DecodingSpec(),
        sample_rate=base.speech_rate,
        longest=20.0,
        provenance="a synthetic voice",
        protocol="c" * 64,
        versions={},
    )
    return write_voice(directory / "voice", facts, checkpoint)
