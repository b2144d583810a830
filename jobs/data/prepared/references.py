"""Recordings that are kept beside prepared data: the held-out clips, and one of each speaker."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.audio.files import AudioError, Recording, decode, pcm_digest, resample, write_flac
from jobs.data.clips import TargetClip
from jobs.problems import InputError, Problem

_FOLDER = "speakers"
_SECONDS = 6.0
"""Of a training clip that stands for its speaker: enough to recognise a voice by."""
LONGEST_PREFIX = 15.0
"""Seconds of a reference that clips are read behind: NeuTTS asks for 3 to 15 (its README, commit
0ca70a0)."""


@dataclass(frozen=True)
class SpeakerReference:
    """The recording that a base is conditioned on for a speaker."""

    where: str
    """The manifest's row that it is from."""
    audio: str
    pcm: str
    """As :func:`~jobs.audio.files.pcm_digest`."""


def choose_references(clips: Sequence[TargetClip]) -> dict[str | None, SpeakerReference]:
    """One of each speaker: what the manifest names first, else the training clip nearest to 6 s.

    Raises:
        InputError: with every recording that the manifest names and that cannot be read.
    """
    chosen: dict[str | None, SpeakerReference] = {}
    problems: list[Problem] = []
    groups: defaultdict[str | None, list[TargetClip]] = defaultdict(list)
    for clip in clips:
        groups[clip.row.speaker].append(clip)
    for speaker, of_speaker in groups.items():
        named = next((clip.row for clip in of_speaker if clip.row.ref_audio is not None), None)
        if named is None or named.ref_audio is None:
            clip = min(
                of_speaker, key=lambda c: (c.row.split != "train", abs(c.seconds - _SECONDS))
            )
            chosen[speaker] = SpeakerReference(clip.row.where, clip.row.audio, clip.pcm)
            continue
        try:
            pcm = pcm_digest(decode(named.ref_audio))
        except AudioError as error:
            problems.append(Problem(named.where, f"ref_audio: {error.what}", error.next_step))
            continue
        chosen[speaker] = SpeakerReference(named.where, named.ref_audio, pcm)
    if problems:
        raise InputError(problems)
    return chosen


def choose_prefixes(clips: Sequence[TargetClip]) -> dict[str | None, TargetClip]:
    """The clip of each speaker that their others are read behind (``data.reference_prefix``).

    It is the one of :func:`choose_references`, and a training clip: its text is then known, and
    nothing that speech is compared with is heard before it.

    Raises:
        InputError: with every speaker who has no such clip, or no other training clip.
    """
    chosen: dict[str | None, TargetClip] = {}
    problems: list[Problem] = []
    for speaker, reference in choose_references(clips).items():
        training = [c for c in clips if c.row.speaker == speaker and c.row.split == "train"]
        found = next((clip for clip in training if clip.pcm == reference.pcm), None)
        if len({clip.pcm for clip in training}) < 2:
            what = (
                "with data.reference_prefix a speaker needs two training clips, one of which the "
                f"other is read behind, and {speaker or 'the speaker'} has {len(training)}"
            )
            problems.append(Problem(reference.where, what, "Add clips, or leave the speaker out."))
        elif found is None:
            what = (
                "with data.reference_prefix a ref_audio must be a training clip of the same "
                f"speaker, whose text is known, and {reference.audio} is none"
            )
            step = "Add it with its text, name another one, or leave ref_audio out."
            problems.append(Problem(reference.where, what, step))
        elif found.seconds > LONGEST_PREFIX:
            what = (
                f"with data.reference_prefix a reference must be at most {LONGEST_PREFIX:g} s, "
                f"got {found.seconds:.1f} s"
            )
            problems.append(Problem(reference.where, what, "Name a shorter clip as ref_audio."))
        else:
            chosen[speaker] = found
    if problems:
        raise InputError(problems)
    return chosen


def write_references(
    directory: Path, references: Mapping[str | None, SpeakerReference], rate: int
) -> dict[str | None, Path]:
    """Write one file a speaker, at ``rate`` Hz; their paths."""
    paths = {}
    for number, (speaker, reference) in enumerate(references.items()):
        paths[speaker] = directory / _FOLDER / f"{number:04d}.flac"
        recording = decode_unchanged(reference.audio, reference.pcm, reference.where)
        write_recording(paths[speaker], recording, rate)
    return paths


def decode_unchanged(audio: str, pcm: str, where: str) -> Recording:
    """Decode a recording that was checked before.

    Raises:
        InputError: it is gone, or holds another sound now.
    """
    try:
        recording = decode(audio)
    except AudioError as error:
        raise InputError([Problem(where, error.what, error.next_step)]) from None
    if pcm_digest(recording) != pcm:
        what = f"the audio must be what was checked, but {audio} has changed since"
        raise InputError([Problem(where, what, "Start again when nobody writes to it.")])
    return recording


def write_recording(path: Path, recording: Recording, rate: int) -> None:
    """``recording`` at ``rate`` Hz as FLAC, and otherwise as it was.

    No loudness is set and no silence added: it stands for how somebody sounds, and what is compared
    with it finds its own level and its own speech. Only what a resampler lifts above full scale,
    which FLAC cannot hold, is made that much quieter.
    """
    path.parent.mkdir(exist_ok=True)
    audio = resample(recording.samples, recording.rate, rate)
    peak = float(np.max(np.abs(audio), initial=0.0))
    write_flac(path, audio / np.float32(peak) if peak > 1 else audio, rate)
