"""The keys of a clip, and what they are called in the lists of other tools."""

import difflib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jobs.data.findings import Finding, error, warning
from jobs.data.manifest.lines import Entry, show
from jobs.problems import InputError, Problem, nearest
from jobs.spec.data import ClipKey

Columns = Mapping[ClipKey, str | int]
"""By key the name of the column that holds it, or its number from 1."""

_NAMES: dict[ClipKey, tuple[str, ...]] = {
    "audio": (
        "audio",
        "audio_filepath",  # NeMo
        "audio_file",  # Coqui
        "audio_path",
        "audio_filename",
        "file_name",  # Hugging Face's AudioFolder
        "filename",
        "file_path",
        "filepath",
        "path",  # Common Voice
        "file",
        "wav_filename",
        "wav_path",
        "wav_file",
        "wav",
        "clip",
        "id",
        "utt_id",
    ),
    "text": (
        # First what is spelt out, as LJSpeech's readers have it.
        "normalized_text",
        "normalised_text",
        "text_normalized",
        "text",
        "transcription",
        "transcript",
        "sentence",
    ),
    "speaker": ("speaker", "speaker_id", "speaker_name", "spk", "spk_id", "client_id"),
    "language": ("language", "language_id", "lang", "lang_id", "locale"),
    "ref_audio": ("ref_audio", "reference_audio", "prompt_audio"),
    "duration": ("duration", "audio_duration", "seconds"),
    "split": ("split", "subset"),
}
"""By key, the names that columns have for it, the first that is there counts."""
REQUIRED: tuple[ClipKey, ...] = ("audio", "text")
KEYS = tuple(_NAMES)

_SPLITS = {"dev": "validation", "val": "validation", "valid": "validation", "eval": "validation"}
_TYPO = 0.75
"""Likeness, by difflib, from which on an unknown key is taken for a misspelt one."""


def plain_name(name: str) -> str:
    """The name of a column as it is looked up."""
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def match_columns(
    names: Sequence[str], columns: Columns, where: str, *, is_strict: bool = True
) -> dict[ClipKey, str]:
    """By key the one of ``names`` that holds it: what ``columns`` says, else by its name.

    Raises:
        InputError: ``columns`` names one that is not there, and ``is_strict``: a table's columns
            are the same for all rows, an object's keys are not.
    """
    known = {plain_name(name): name for name in reversed(names)}
    found: dict[ClipKey, str] = {}
    problems = []
    for key, wanted in columns.items():
        if isinstance(wanted, int) and wanted <= len(names):
            found[key] = names[wanted - 1]
        elif isinstance(wanted, str) and plain_name(wanted) in known:
            found[key] = known[plain_name(wanted)]
        else:
            what = f"data.columns.{key} must be a column of the list, got {wanted!r}"
            problems.append(Problem(where, what, nearest(str(wanted), names, list_all=True)))
    if problems and is_strict:
        raise InputError(problems)
    taken = set(found.values())
    for other, called in _NAMES.items():
        if other in columns:
            continue
        free = (known[name] for name in called if name in known and known[name] not in taken)
        if (name := next(free, None)) is not None:
            found[other] = name
            taken.add(name)
    return found


class Keys:
    """Turns the objects of a list, whatever their keys, into entries."""

    def __init__(self, columns: Columns, where: str) -> None:
        self._columns, self._where = columns, where
        self._matches: dict[tuple[str, ...], dict[ClipKey, str]] = {}
        self._told: set[str] = set()

    def match(self, names: Iterable[str]) -> dict[ClipKey, str]:
        """As :func:`match_columns`, kept for rows with the same keys."""
        key = tuple(names)
        if key not in self._matches:
            self._matches[key] = match_columns(key, self._columns, self._where, is_strict=False)
        return self._matches[key]

    def apply(self, entry: Entry) -> Iterator[Entry | Finding]:
        """``entry`` under the keys of a clip; before it a warning of keys that are not read."""
        match = self.match(entry.values)
        values: dict[str, Any] = {key: entry.values[name] for key, name in match.items()}
        if "text" in match and _is_blank(values["text"]):
            written = next((n for n in _NAMES["text"] if not _is_blank(entry.values.get(n))), None)
            values["text"] = entry.values[written] if written else values["text"]
        findings = list(entry.findings)
        ignored = []
        for name in entry.values.keys() - match.values() - self._told:
            if (near := _misspelt(name)) and near not in match:
                what = f"{show(name)} is no key of a manifest"
                findings.append(error("unknown-key", entry.where, what, nearest(name, KEYS)))
            else:
                ignored.append(name)
        if ignored:
            ignored.sort()
            self._told.update(ignored)
            names = ", ".join(map(repr, ignored))
            what = f"a list's keys should all be read, but these are not: {names}"
            advice = f"A clip's keys are {', '.join(KEYS)}; data.columns says where each stands."
            yield warning("unknown-key", entry.where, what, advice)
        if offset := entry.values.get("offset"):
            what = f"audio must be a file of its own, but its offset is {offset!r} s"
            findings.append(error("audio-segment", entry.where, what, "Cut the recordings first."))
        yield Entry(entry.where, tidy(values), tuple(findings))


@functools.lru_cache
def _misspelt(name: str) -> str | None:
    """The key that ``name`` is nearly."""
    near = difflib.get_close_matches(plain_name(name), KEYS, n=1, cutoff=_TYPO)
    return near[0] if near else None


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def tidy(values: dict[str, Any]) -> dict[str, Any]:
    """The values with what other tools write otherwise turned into what a clip has."""
    if isinstance(references := values.get("ref_audio"), list) and references:
        values["ref_audio"] = references[0]  # Qwen3-TTS reads the first
    if type(number := values.get("speaker")) is int:
        values["speaker"] = str(number)
    if isinstance(language := values.get("language"), str) and language.casefold() == "auto":
        values["language"] = None  # Qwen3-TTS's word for any
    if isinstance(split := values.get("split"), str):
        values["split"] = _SPLITS.get(split, split)
    return values
