"""Preparing data once: resample, encode, align; content-addressed and shared by all sweeps."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from cluster.storage import Storage
from jobs.data.audio import RESAMPLER, read_audio, resample, write_flac
from jobs.data.keys import data_key
from jobs.data.manifest import ManifestRow
from jobs.data.prepared import PreparedClip, read_prepared, write_prepared
from jobs.families.base import Base
from jobs.problems import InputError, Problem

_REFERENCES = "references"


def data_digest(rows: Sequence[ManifestRow], encoder_digest: str) -> str:
    """SHA-256 over what the prepared data follows from: clips, transcripts, splits, encoder."""
    clips = [
        [hashlib.sha256(Path(row.audio).read_bytes()).hexdigest(), row.text, row.split]
        for row in rows
    ]
    text = json.dumps([encoder_digest, RESAMPLER, clips])
    return hashlib.sha256(text.encode()).hexdigest()


def prepare(rows: Sequence[ManifestRow], base: Base, storage: Storage) -> str:
    """Encode the clips with the base's codec unless that was done before; returns the digest."""
    digest = data_digest(rows, base.encoder_digest)
    key = data_key(digest)
    if not storage.is_committed(key):
        with storage.commit(key) as directory:
            clips = [_prepare_clip(f"{i:05d}", row, base) for i, row in enumerate(rows)]
            write_prepared(directory, clips)
            _write_references(directory / _REFERENCES, rows, base.sample_rate)
    return digest


def reference_recordings(directory: Path) -> dict[str | None, list[Path]]:
    """Recordings by speaker that no adapter trained on: the validation clips."""
    recorded: dict[str | None, list[Path]] = {}
    for clip in read_prepared(directory):
        if clip.split == "validation":
            path = directory / _REFERENCES / f"{clip.id}.flac"
            recorded.setdefault(clip.speaker, []).append(path)
    return recorded


def _prepare_clip(clip_id: str, row: ManifestRow, base: Base) -> PreparedClip:
    audio, rate = read_audio(row.audio)
    try:
        codes, word_starts = base.encode(resample(audio, rate, base.sample_rate), row.text)
    except ValueError as error:
        what = f"the clip must say its text, but: {error}"
        raise InputError([Problem(row.where, what, "Correct the text, or drop it.")]) from error
    assert row.split is not None
    return PreparedClip(clip_id, row.text, row.split, codes, word_starts, row.speaker, row.language)


def _write_references(directory: Path, rows: Sequence[ManifestRow], rate: int) -> None:
    directory.mkdir()
    for index, row in enumerate(rows):
        if row.split == "validation":
            audio, original_rate = read_audio(row.audio)
            write_flac(directory / f"{index:05d}.flac", resample(audio, original_rate, rate), rate)
