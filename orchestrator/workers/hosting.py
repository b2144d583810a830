"""The winner's files for llama.cpp: made, checked, and heard on set B, each in a Ray worker."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from cluster.storage.base import open_storage
from jobs.export.formats import Quantization
from jobs.spec.trial import PromptSpec
from jobs.speech.clips import Origin
from jobs.speech.voice_files import VoiceFacts
from orchestrator.ledger import CONFIRMATION, HOSTED, Ledger

if TYPE_CHECKING:
    from jobs.export.gguf.speaking import HostedSpeech


@dataclass(frozen=True)
class HostingFigures:
    """What it costs to run a file; as :class:`orchestrator.verdict.equivalence.HostedFile`."""

    bytes: int
    tokens_per_second: float
    first_audio_p50: float
    first_audio_p95: float
    real_time_factor: float
    memory: int


def hosted_id(variant: str, kind: Quantization) -> str:
    """Under what id a file's clips and scores are kept."""
    return f"{variant}{HOSTED}{kind}"


def host_file(
    storage_url: str, facts: VoiceFacts, kind: Quantization, prompts: Sequence[PromptSpec]
) -> HostingFigures:
    """Have a file of the voice say the prompts of set B; what is committed is left alone.

    Args:
        storage_url: of the sweep.
        facts: of the voice, with the decoding of set B.
        kind: of the file.
        prompts: with the speaker and language of each.

    Raises:
        LoadBackError: the file is not the voice.
    """
    ledger = Ledger(open_storage(storage_url), facts.sweep)
    name = hosted_id(facts.variant.id, kind)
    key, figures = ledger.clips(name, CONFIRMATION), f"hosting/{name}.json"
    if ledger.storage.is_committed(key) and (text := ledger.read_text(figures)):
        return HostingFigures(**json.loads(text))
    from jobs.speech.clips import write_clips

    with TemporaryDirectory() as folder:
        size, speech = _speak(ledger, facts, kind, prompts, Path(folder))
    found = _figures(size, speech)
    ledger.write_text(figures, json.dumps(asdict(found)) + "\n")
    if not ledger.storage.is_committed(key):
        origin = Origin(name, facts.host.family, facts.provenance)
        with ledger.storage.commit(key) as directory:
            write_clips(directory, prompts, speech.clips, origin)
    return found


def _speak(
    ledger: Ledger,
    facts: VoiceFacts,
    kind: Quantization,
    prompts: Sequence[PromptSpec],
    folder: Path,
) -> "tuple[int, HostedSpeech]":
    from jobs.export.gguf.export import file_name
    from jobs.export.gguf.speaking import speak_hosted
    from jobs.export.reference import reference_base
    from jobs.export.write import export_voice
    from jobs.families.codec_lm import CodecLM
    from jobs.speech.voice_files import write_voice

    checkpoint = ledger.storage.fetch(ledger.checkpoint(facts.trial, facts.epoch))
    voice = write_voice(folder / "voice", facts, checkpoint)
    export_voice(voice, "gguf", folder / "gguf", kind)
    path = folder / "gguf" / file_name(kind)
    with reference_base(voice) as base:
        assert isinstance(base, CodecLM)
        return path.stat().st_size, speak_hosted(path, base, prompts, facts.decoding)


def _figures(size: int, speech: "HostedSpeech") -> HostingFigures:
    timings = speech.timings
    generated = sum(each.generated for each in timings)
    audio = sum(each.audio for each in timings)
    first = quantiles([each.first_audio for each in timings], n=20, method="inclusive")
    worked = generated + sum(each.decoded for each in timings)
    return HostingFigures(
        bytes=size,
        tokens_per_second=sum(each.tokens for each in timings) / generated,
        first_audio_p50=first[9],
        first_audio_p95=first[18],
        real_time_factor=worked / max(audio, 1e-9),
        memory=speech.memory,
    )
