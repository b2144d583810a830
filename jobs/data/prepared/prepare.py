"""Preparing a dataset: each clip is encoded once, by one process."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.storage.base import Storage
from cluster.storage.committed import DamagedError
from jobs.clips import Codes, PreparedClip
from jobs.data.clips import Progress, TargetClip
from jobs.data.prepared.files import read_prepared, recording_path, write_prepared
from jobs.data.prepared.keys import data_key, recipe_key
from jobs.data.prepared.recipe import Recipe
from jobs.data.prepared.references import (
    SpeakerReference,
    choose_prefixes,
    choose_references,
    decode_unchanged,
    write_recording,
    write_references,
)
from jobs.problems import InputError, Problem
from jobs.spec.data import DataSpec

if TYPE_CHECKING:
    from jobs.families.base import FrozenBase  # which imports torch; encoding may need none

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preparation:
    """The result of :func:`prepare`."""

    digest: str
    """Of the dataset; :func:`~jobs.data.prepared.keys.data_key` says where it is."""
    clips: int
    encoded: int
    """Recordings that this call encoded."""

    @property
    def reused(self) -> int:
        """Clips whose codes were in storage, or are those of another clip of the same sound."""
        return self.clips - self.encoded


@dataclass(frozen=True)
class _Encoded:
    codes: Codes
    word_starts: tuple[int, ...] | None
    loudness: float | None


def prepare(
    clips: Sequence[TargetClip],
    base: "FrozenBase",
    storage: Storage,
    data: DataSpec,
    progress: Progress = lambda done, total: None,
) -> Preparation:
    """Encode the clips that no dataset of the same recipe has, unless all were prepared before.

    Of several processes that ask for the same data at once, one encodes and the others wait.
    Each clip has its split.

    Raises:
        InputError: two speakers would be one voice of the base, a text lacks the language that its
            tag needs, a speaker has no clip that the others can be read behind, a recording does
            not say its text or has changed since it was looked into.
            Nothing is kept then.
    """
    problems = _shared_voices(clips, base)
    untold = [clip.row for clip in clips if clip.row.language is None]
    if data.language_tag and untold:
        what = f"data.language_tag needs a language for every clip, but {len(untold)} have none"
        problems.append(Problem(untold[0].where, what, "Add it, or switch the tag off."))
    if problems:
        raise InputError(problems)
    recipe = Recipe.of(base, data)
    references = choose_references(clips) if base.rules.conditions_on_reference else {}
    prefixes = choose_prefixes(clips) if data.reference_prefix else {}
    digests = {speaker: reference.pcm for speaker, reference in references.items()}
    digests |= {speaker: clip.pcm for speaker, clip in prefixes.items()}
    digest = recipe.data_digest(clips, digests, language_tag=data.language_tag)
    key, encoded = data_key(digest), 0
    if not storage.is_committed(key):
        with storage.exclusively(key):
            if not storage.is_committed(key):
                known = _known(storage, recipe_key(digest), set(map(recipe.clip_key, clips)))
                with storage.commit(key) as directory:
                    fresh = _encode(clips, known, base, recipe, progress)
                    _write(directory, clips, {**known, **fresh}, recipe, references, prefixes)
                encoded = len(fresh)
    return Preparation(digest, len(clips), encoded)


def _shared_voices(clips: Sequence[TargetClip], base: "FrozenBase") -> list[Problem]:
    """A voice of the base that two speakers would both be asked for by: it can become but one."""
    places: dict[str, str] = {}
    for clip in clips:
        if clip.row.speaker is not None:
            places.setdefault(clip.row.speaker, clip.row.where)
    first: dict[str, str] = {}
    problems = []
    for speaker, where in places.items():
        voice = base.voice_of(speaker)
        if voice is not None and first.setdefault(voice, speaker) != speaker:
            what = (
                f"each speaker needs a voice of the base, but {first[voice]!r} and {speaker!r} "
                f"would both be asked for as {voice!r}"
            )
            advice = "Name them after voices that the base has, or tune one at a time."
            problems.append(Problem(where, what, advice))
    return problems


def _known(storage: Storage, folder: str, wanted: set[str]) -> dict[str, _Encoded]:
    """By key, the wanted clips that earlier datasets of this recipe have."""
    known: dict[str, _Encoded] = {}
    for name in storage.children(folder):
        if len(known) < len(wanted) and storage.is_committed(f"{folder}/{name}"):
            try:
                place = storage.fetch(f"{folder}/{name}")
            except DamagedError as error:
                _log.warning("%s", error)
                continue
            for clip in read_prepared(place):
                if clip.key in wanted:
                    known[clip.key] = _Encoded(clip.codes, clip.word_starts, clip.loudness)
    return known


def _encode(
    clips: Sequence[TargetClip],
    known: Mapping[str, _Encoded],
    base: "FrozenBase",
    recipe: Recipe,
    progress: Progress,
) -> dict[str, _Encoded]:
    """By key, the clips that are not known, each encoded by itself."""
    missing = {recipe.clip_key(clip): clip for clip in clips}
    missing = {key: clip for key, clip in missing.items() if key not in known}
    encoded: dict[str, _Encoded] = {}
    problems: list[Problem] = []
    for done, (key, clip) in enumerate(missing.items(), start=1):
        try:
            recording = decode_unchanged(clip.row.audio, clip.pcm, clip.row.where)
            audio, loudness = recipe.preprocessing.apply(recording.samples, recording.rate)
            encoded[key] = _Encoded(*base.encode(audio, clip.row.text), loudness)
        except InputError as error:
            problems += error.problems
        except ValueError as error:
            what = f"the clip must say its text, and be heard: {error}"
            problems.append(Problem(clip.row.where, what, "Correct the text, or drop it."))
        progress(done, len(missing))
    if problems:
        raise InputError(problems)
    return encoded


def _write(
    directory: Path,
    clips: Sequence[TargetClip],
    encoded: Mapping[str, _Encoded],
    recipe: Recipe,
    references: Mapping[str | None, SpeakerReference],
    prefixes: Mapping[str | None, TargetClip],
) -> None:
    paths = write_references(directory, references, recipe.preprocessing.rate)
    prepared = []
    for number, clip in enumerate(clips):
        row, key = clip.row, recipe.clip_key(clip)
        assert row.split is not None
        made = encoded[key]
        prepared.append(
            PreparedClip(
                id=f"{number:05d}",
                text=row.text,
                split=row.split,
                codes=made.codes,
                word_starts=made.word_starts,
                speaker=row.speaker,
                language=row.language,
                reference=paths.get(row.speaker),
                is_reference=prefixes.get(row.speaker) is clip,
                key=key,
                written=row.written,
                loudness=made.loudness,
            )
        )
        if row.split == "validation":
            recording = decode_unchanged(row.audio, clip.pcm, row.where)
            write_recording(
                recording_path(directory, prepared[-1].id), recording, recipe.preprocessing.rate
            )
    write_prepared(directory, prepared)
