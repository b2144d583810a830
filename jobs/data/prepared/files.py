"""Prepared data: every clip as codes, computed once, shared by all trials, mapped into memory."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from jobs.clips import PreparedClip

# Not safetensors, which gives NumPy a copy of every tensor: a .npy file of numbers is mapped as it
# lies, and one of Python's objects, which would be unpickled, cannot be mapped.
_CODES = "codes.npy"
_CLIPS = "clips.jsonl"
_RECORDINGS = "references"


def read_prepared(directory: Path) -> list[PreparedClip]:
    """The clips that :func:`write_prepared` wrote, in the same order.

    Their codes are views of the file, which are read from the disk when they are looked at.
    """
    codes = np.lib.format.open_memmap(directory / _CODES, mode="r").view(np.ndarray)
    clips: list[PreparedClip] = []
    start = 0
    for line in (directory / _CLIPS).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        end = start + row.pop("frames")
        if row["word_starts"] is not None:
            row["word_starts"] = tuple(row["word_starts"])
        if row["reference"] is not None:
            row["reference"] = directory / row["reference"]
        clips.append(PreparedClip(codes=codes[start:end], **row))
        start = end
    return clips


def write_prepared(directory: Path, clips: Sequence[PreparedClip]) -> None:
    """Write ``clips``, whose codes have one kind and shape, into ``directory``.

    Tokens take two bytes each, or four where one of them is above 32,767; latents are float32. A
    clip's reference lies in ``directory``.
    """
    first, dtype = clips[0].codes, _stored_dtype(clips)
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (sum(len(clip.codes) for clip in clips), *first.shape[1:]),
    }
    # Written in order and not through a map, which a full disk ends with a signal, not an error.
    with (directory / _CODES).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for clip in clips:
            if clip.codes.shape[1:] != first.shape[1:]:
                shapes = f"{first.shape[1:]} and {clip.codes.shape[1:]}"
                raise ValueError(f"frames of all clips must have one shape, got {shapes}")
            file.write(clip.codes.astype(dtype).tobytes())
    lines = [json.dumps(_to_row(clip, directory)) + "\n" for clip in clips]
    (directory / _CLIPS).write_text("".join(lines), encoding="utf-8")


def _to_row(clip: PreparedClip, directory: Path) -> dict[str, Any]:
    """A clip without its codes, as ``clips.jsonl`` keeps it."""
    row = {field.name: getattr(clip, field.name) for field in fields(clip)}
    row["frames"] = len(row.pop("codes"))
    if clip.reference is not None:
        row["reference"] = str(clip.reference.relative_to(directory))
    return row


def _stored_dtype(clips: Sequence[PreparedClip]) -> "np.dtype[Any]":
    if not np.issubdtype(clips[0].codes.dtype, np.integer):
        return np.dtype("<f4")
    largest = max((int(clip.codes.max(initial=0)) for clip in clips), default=0)
    return np.dtype("<i2") if largest < 2**15 else np.dtype("<i4")


def recording_path(directory: Path, clip_id: str) -> Path:
    """Where a validation clip's recording lies beside the data."""
    return directory / _RECORDINGS / f"{clip_id}.flac"


def reference_recordings(directory: Path) -> dict[str | None, list[Path]]:
    """Recordings of each speaker that no adapter trained on: the validation clips, in order."""
    found: defaultdict[str | None, list[Path]] = defaultdict(list)
    for clip in read_prepared(directory):
        if clip.split == "validation":
            found[clip.speaker].append(recording_path(directory, clip.id))
    return dict(found)
