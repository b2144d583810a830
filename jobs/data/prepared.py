"""Prepared data: every clip as codes, computed once, shared by all trials."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from jobs.data.manifest import Split

_CODES = "codes.safetensors"
_CLIPS = "clips.jsonl"
_REFERENCES = "references"


@dataclass(frozen=True)
class PreparedClip:
    """One clip of the target, as the model will learn it."""

    id: str
    text: str
    split: Split
    codes: NDArray[np.int64]
    """Codec tokens, shape (frames,), or (frames, codebooks) where a codec has several."""
    word_starts: tuple[int, ...] | None
    """First frame of each word; None when the layout has no word markers."""
    speaker: str | None = None
    language: str | None = None
    reference: Path | None = None
    """A recording of the speaker, at the base's rate, for families that condition on one."""


def write_prepared(directory: Path, clips: list[PreparedClip]) -> None:
    """Write ``clips`` into ``directory``: codes as safetensors, the rest as JSON lines."""
    save_file({clip.id: clip.codes for clip in clips}, directory / _CODES)
    rows = [
        {k: v for k, v in asdict(clip).items() if k not in ("codes", "reference")} for clip in clips
    ]
    (directory / _CLIPS).write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_prepared(directory: Path) -> list[PreparedClip]:
    """Read what :func:`write_prepared` wrote, in the same order."""
    codes = load_file(directory / _CODES)
    recordings = {path.stem: path for path in sorted((directory / _REFERENCES).glob("*.flac"))}
    clips: list[PreparedClip] = []
    for line in (directory / _CLIPS).read_text().splitlines():
        row = json.loads(line)
        starts = row.pop("word_starts")
        word_starts = None if starts is None else tuple(starts)
        clips.append(PreparedClip(codes=codes[row["id"]], word_starts=word_starts, **row))
    first = {c.speaker: recordings[c.id] for c in reversed(clips) if c.id in recordings}
    return [replace(clip, reference=first.get(clip.speaker)) for clip in clips]
