"""What VERSA wrote, in our names: one JSONL file a variant, one line a clip.

Keys are those of VERSA's code (github.com/wavlab-speech/versa at c398480: pseudo_mos.py,
whisper_wer.py, definition.py), which differ from its documentation. They measure what ours of the
same name measure, but not in the same way, so the protocol that judges them names VERSA's versions.
"""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from jobs.metrics.base import ClipScores

_RENAMED = {"dns_overall": "dnsmos_ovrl", "dns_p808": "dnsmos_p808"}
"""Others have our name already (plcmos, utmosv2) or none of ours, and keep it."""
_EDITS = {"whisper_wer": "whisper_word", "whisper_cer": "whisper_character"}
"""Counts of edits, and what our share, edits and count of them begin with."""
_OPERATIONS = ("delete", "insert", "replace", "equal")
_KINDS = ("error", "edits", "count")
_SUITES = {
    "pseudo_mos": ("dnsmos_ovrl", "dnsmos_p808", "plcmos", "utmosv2"),
    "whisper_wer": tuple(f"{ours}_{kind}" for ours in _EDITS.values() for kind in _KINDS),
}
"""One null under such a name stands for all that VERSA did not measure with it."""
_AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")


@dataclass(frozen=True)
class VersaRow:
    """One clip as VERSA scored it. It knows no variant, which is its file's name, and no seed."""

    where: str
    """``file:line``."""
    variant: str
    key: str
    """The prompt's id, or its clip's file name."""
    values: Mapping[str, Any]


def read_row(path: PurePath, number: int, row: object) -> VersaRow | None:
    """The JSON of line ``number`` of the file at ``path`` as VERSA's; None if it is another's."""
    if not isinstance(row, dict) or {"variant", "prompt"} & row.keys():
        return None
    values = {**row}
    key = values.pop("key", None)
    return VersaRow(f"{path}:{number}", path.stem, key, values) if isinstance(key, str) else None


def to_our_names(row: VersaRow) -> tuple[dict[str, float], dict[str, str]]:
    """The values of a row, and the reasons for missing ones, both by metric.

    Numbers that are none of ours keep VERSA's name; texts, such as the transcript, are left out.
    """
    values: dict[str, float] = {}
    failures: dict[str, str] = {}
    for name, value in row.values.items():
        operation = name.rpartition("_")[2]
        if name.removesuffix(f"_{operation}") in _EDITS and operation in _OPERATIONS:
            continue
        for ours in _SUITES.get(name, (_RENAMED.get(name, name),)):
            if value is None:
                failures[ours] = f"VERSA wrote null for {name}"
            elif _is_number(value) and not math.isfinite(value):
                failures[ours] = f"VERSA wrote {value} for {name}"
            elif _is_number(value):
                values[ours] = float(value)
    for theirs, ours in _EDITS.items():
        counts = {operation: row.values.get(f"{theirs}_{operation}") for operation in _OPERATIONS}
        if any(f"{theirs}_{operation}" in row.values for operation in _OPERATIONS):
            found = _edit_scores(counts)
            if isinstance(found, str):
                failures |= {f"{ours}_{kind}": f"{found} of {theirs}" for kind in _KINDS}
            else:
                values |= {f"{ours}_{kind}": n for kind, n in zip(_KINDS, found, strict=True)}
    return values, failures


def _edit_scores(counts: Mapping[str, Any]) -> tuple[float, float, float] | str:
    """Share (at most 1), edits and count, as ``jobs.metrics.whisper`` counts; or why there is none.

    VERSA counts insertions and deletions from the text to the transcript.
    """
    for operation, count in counts.items():
        if not _is_number(count) or not math.isfinite(count):
            return f"VERSA wrote {json.dumps(count)} for {operation}"
    edits = counts["delete"] + counts["insert"] + counts["replace"]
    length = counts["delete"] + counts["replace"] + counts["equal"]
    if not length:
        return "VERSA had no text to compare with, count 0"
    return min(edits / length, 1.0), float(edits), float(length)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def complete(
    clips: Iterable[ClipScores],
    rows: Iterable[VersaRow],
    prompts: Collection[str],
    metrics: Collection[str],
) -> tuple[list[ClipScores], list[tuple[str, str]]]:
    """Add VERSA's scores to the clips of the same variant and prompt.

    A row without such a clip becomes one, of seed 0.

    Returns:
        The clips, and a place and a rule for each row that cannot be added.

    Args:
        prompts: ids that a key may name, with or without an audio file's suffix.
        metrics: names of what is judged; VERSA's other scores are left out.
    """
    found: dict[tuple[str, str], list[ClipScores]] = {}
    for clip in clips:
        found.setdefault((clip.variant, clip.prompt), []).append(clip)
    problems = []
    for row in rows:
        prompt = _prompt(row.key, prompts)
        spoken = found.setdefault((row.variant, prompt), [])
        if len(spoken) > 1:
            what = f"VERSA says no seed, but {row.variant!r} speaks {prompt!r} with several"
            problems.append((row.where, what))
            continue
        clip = spoken[0] if spoken else ClipScores(row.variant, prompt, 0, {})
        added = ClipScores(clip.variant, prompt, clip.seed, *to_our_names(row)).only([*metrics])
        for name in sorted({*clip.values, *clip.failures} & {*added.values, *added.failures}):
            what = f"a clip is scored once by each metric, got {name} again for {prompt!r}"
            problems.append((row.where, what))
        values, failures = {**clip.values, **added.values}, {**clip.failures, **added.failures}
        spoken[:] = [replace(clip, values=values, failures=failures)]
    return [clip for spoken in found.values() for clip in spoken], problems


def _prompt(key: str, prompts: Collection[str]) -> str:
    path = PurePath(key)
    named = key in prompts or path.suffix.lower() not in _AUDIO
    return key if named else key.removesuffix(path.suffix)
