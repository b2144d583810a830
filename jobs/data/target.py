"""The target's clips as a spec names them, each looked into: decoded, measured, with its split."""

from collections.abc import Iterable
from pathlib import Path

from jobs.data.audio import AudioError, decode, pcm_digest
from jobs.data.clips import TargetClip
from jobs.data.manifest import ManifestRow, read_manifest
from jobs.data.spec import DataSpec
from jobs.data.split import assign_splits
from jobs.embedded import VOICE_DIR
from jobs.problems import InputError, Problem
from jobs.strict import EMBEDDED


def read_target(data: DataSpec) -> list[TargetClip]:
    """Read the manifests, hold clips out where they do not say which, and look into each.

    Raises:
        InputError: with every problem of a manifest, or of the recordings.
    """
    paths = [
        VOICE_DIR / "manifest.jsonl" if name == EMBEDDED else Path(name) for name in data.manifest
    ]
    rows = [row for path in paths for row in read_manifest(path)]
    return target_clips(assign_splits(rows, data.split))


def target_clips(rows: Iterable[ManifestRow]) -> list[TargetClip]:
    """Decode every row's audio.

    Raises:
        InputError: with every row whose audio cannot be read.
    """
    clips: list[TargetClip] = []
    problems: list[Problem] = []
    for row in rows:
        try:
            recording = decode(row.audio)
        except AudioError as error:
            problems.append(Problem(row.where, error.what, error.next_step))
            continue
        seconds = len(recording.samples) / recording.rate
        clips.append(TargetClip(row, pcm_digest(recording), recording.rate, seconds))
    if problems:
        raise InputError(problems)
    return clips
