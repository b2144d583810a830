"""A real adapter, trained for a moment: enough that a variant is not the base."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jobs.audio.files import read_audio, resample
from jobs.clips import PreparedClip
from jobs.families.base import FrozenBase
from jobs.spec.trial import (
    DecodingSpec,
    EngineSpec,
    HostSpec,
    PromptSpec,
    TrainingSpec,
    TrialSpec,
)
from jobs.speech.clips import Origin, write_clips
from jobs.speech.voice_files import VoiceFacts, VoiceFiles, write_voice
from jobs.training.host import Host
from jobs.training.packing import AdapterUse
from tests.embedded_voice import embedded_clips

SCALES = (0.5, 1.3)
CLIPS = "clips"
PROMPTS = [PromptSpec(id="p", text="one two three"), PromptSpec(id="q", text="nine")]
WARM = DecodingSpec(temperature=0.7, top_p=0.9, seed=3)


def few_clips(base: FrozenBase) -> list[PreparedClip]:
    """Of the shipped voice: four to learn from, one held out."""
    found = []
    for i, clip in enumerate(embedded_clips()[:5]):
        audio, rate = read_audio(clip.row.audio)
        codes, starts = base.encode(resample(audio, rate, base.sample_rate), clip.row.text)
        split = "validation" if i == 4 else "train"
        found.append(PreparedClip(str(i), clip.row.text, split, codes, starts))
    return found


def train_voice(
    directory: Path,
    base: FrozenBase,
    host: HostSpec,
    clips: Sequence[PreparedClip],
    prompts: Sequence[PromptSpec],
    decoding: DecodingSpec,
    **training: object,
) -> VoiceFiles:
    """A voice at the second of ``SCALES``, in ``directory/voice``.

    What its host says at that scale, in one batch with another scale as in a sweep, lies in
    ``directory/clips``, and the checkpoint in ``directory/checkpoint``.
    """
    trial = TrialSpec(
        family=host.family,
        base_digest=base.digest,
        data_digest="d",
        training=TrainingSpec(**{"rank": 4, "learning_rate": 3e-3, "batch_size": 2, **training}),
        engine=EngineSpec(),
    )
    trainer = Host(base, clips, EngineSpec())
    trainer.attach("slot", trial)
    losses = replace(trainer.advance("slot"), pack_difference=1.3e-5)  # as a host says
    checkpoint = directory / "checkpoint"
    checkpoint.mkdir()
    trainer.snapshot("slot").write(checkpoint, losses)
    _, spoken = trainer.speak([AdapterUse("slot", scale) for scale in SCALES], prompts, decoding)
    trainer.detach("slot")
    (directory / CLIPS).mkdir()
    write_clips(directory / CLIPS, prompts, spoken, Origin("v", host.family, "a synthetic voice"))
    facts = VoiceFacts(
        sweep="small",
        trial=trial.id,
        epoch=1,
        lora_scale=SCALES[1],
        training=trial.training,
        host=host,
        base_digest=base.digest,
        encoder_digest=base.encoder_digest,
        decoding=decoding,
        sample_rate=base.sample_rate,
        longest=20.0,
        provenance="a synthetic voice",
        protocol="c" * 64,
        versions={},
    )
    return write_voice(directory / "voice", facts, checkpoint)
