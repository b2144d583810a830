"""A variant's clips on disk: one FLAC a prompt and ``clips.json``, both with their origin.

Its answers to text items lie beside them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from jobs.audio.files import read_audio, write_flac
from jobs.clips import ItemAnswer, SpokenClip
from jobs.spec.items import text_item
from jobs.spec.trial import PromptSpec


@dataclass(frozen=True)
class Origin:
    """Who or what speaks: every clip says that it is synthetic, what made it, and by what right."""

    variant: str
    """The variant's id; the base's is ``base``."""
    family: str
    provenance: str
    """By what right the voice is used; see :attr:`jobs.spec.data.DataSpec.provenance`."""
    model: str = ""
    """The registered model or the sweep, where there is one to name."""

    def row(self) -> dict[str, object]:
        """What ``clips.json`` says of each clip."""
        return {"synthetic": True, "variant": self.variant, "provenance": self.provenance}

    def tags(self) -> dict[str, str]:
        """The strings of an audio file, under libsndfile's names."""
        of = f"{self.model}, variant {self.variant}" if self.model else f"variant {self.variant}"
        return {
            "comment": f"Synthetic speech, not a recording: {of} of {self.family}.",
            "copyright": f"Provenance of the voice: {self.provenance}",
            "software": f"voxsweep {version('voxsweep')}",
        }


_INDEX = "clips.json"
_ANSWERS = "answers.jsonl"


def write_clips(
    directory: Path,
    prompts: Sequence[PromptSpec],
    clips: Sequence[SpokenClip],
    origin: Origin,
    answers: Sequence[ItemAnswer] = (),
) -> None:
    """Write each prompt's clip as 16-bit FLAC; index and files say what ``origin`` says.

    Samples beyond full scale are clipped, as a player would. What is no sound (nothing generated,
    samples that are not finite) has no file; reading gives it back as a clip without samples.
    """
    index = {}
    for prompt, clip in zip(prompts, clips, strict=True):
        sounds = clip.audio.size > 0 and bool(np.isfinite(clip.audio).all())
        if sounds:
            audio = np.clip(clip.audio, -1.0, 1.0)
            write_flac(directory / clip_name(prompt.id), audio, clip.rate, origin.tags())
        index[prompt.id] = {
            "text": prompt.text,
            "language": prompt.language,
            "speaker": prompt.speaker,
            "rate": clip.rate,
            "reached_end": clip.reached_end,
            "sounds": sounds,
            **origin.row(),
        }
    (directory / _INDEX).write_text(json.dumps(index, indent=1) + "\n")
    if answers:
        rows = (json.dumps([each.item.model_dump(), each.log_likelihoods]) for each in answers)
        (directory / _ANSWERS).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def read_clips(directory: Path) -> dict[str, SpokenClip]:
    """The clips of :func:`write_clips` by prompt id, in the same order."""
    index = json.loads((directory / _INDEX).read_text())
    return {prompt: _read_clip(directory, prompt, row) for prompt, row in index.items()}


def read_answers(directory: Path) -> list[ItemAnswer]:
    """The answers of :func:`write_clips`, in the same order."""
    path = directory / _ANSWERS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = map(json.loads, lines)
    return [ItemAnswer(text_item(item), tuple(found)) for item, found in rows]


def clip_name(prompt: str) -> str:
    """The file of the clip of ``prompt``, if it sounds."""
    return f"{prompt}.flac"


def _read_clip(directory: Path, prompt: str, row: dict[str, Any]) -> SpokenClip:
    audio = np.zeros(0, dtype=np.float32)
    if row["sounds"]:
        audio, _ = read_audio(directory / clip_name(prompt))
    said_by = row.get("language"), row.get("speaker")
    return SpokenClip(audio, row["rate"], row["text"], row["reached_end"], *said_by)
