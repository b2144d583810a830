"""The rows of a manifest, one at a time: of JSON lines, a folder, or the shipped voice."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from cluster.sources.reading import (
    Root,
    SourceError,
    check_file,
    is_folder,
    list_folder,
    open_root,
)
from jobs.clips import Split
from jobs.data.clips import ManifestRow
from jobs.data.findings import Finding, error
from jobs.data.manifest.layouts import METADATA, read_ljspeech, read_pairs
from jobs.data.manifest.lines import Entry, parse_json, read_entries, show
from jobs.embedded import VOICE_DIR
from jobs.problems import InputError, Problem, nearest
from jobs.spec import EMBEDDED
from jobs.spec.strict import LANGUAGE_TAG

_REQUIRED = ("audio", "text")
_STRINGS = (*_REQUIRED, "speaker", "language", "ref_audio", "split")
_KEYS = (*_STRINGS, "duration")
_SPLITS: tuple[str, ...] = get_args(Split)
_UNSAYABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
"""Control characters (Unicode's Cc), halves of surrogate pairs, and the mark of what was lost."""
_LANGUAGE = re.compile(LANGUAGE_TAG)


def read_rows(manifest: str, root: str | None) -> Iterator[ManifestRow | Finding]:
    """The clips of ``manifest`` in order, each a row or the findings that keep it from being one.

    Warnings stand before the row that they are of. A row's audio lies below ``root`` (None: the
    manifest's folder), and on this machine it is a regular file; whether it is there is found in
    S3 when it is read. Lines are read as they are asked for: memory does not grow with them.

    Args:
        manifest: ``embedded``, a file of JSON lines, or a folder in LJSpeech's layout or of
            recordings and texts; a path or under ``s3://``.
        root: the folder that all audio must lie in.

    Raises:
        InputError: there is no such manifest or root, or it cannot be read, also half way.
    """
    if manifest == EMBEDDED:
        manifest, root = str(VOICE_DIR / "manifest.jsonl"), None
    is_empty = True
    try:
        if is_folder(manifest):
            place = open_root(manifest, root)
            files, _, _ = list_folder(manifest)
            entries = (read_ljspeech if METADATA in files else read_pairs)(manifest, place)
        else:
            check_file(manifest)
            place = open_root(os.path.dirname(manifest) or ".", root)
            entries = read_entries(manifest, manifest, parse_json)
        for entry in entries:
            is_empty = False
            if isinstance(entry, Finding):
                yield entry
            else:
                yield from _check(manifest, entry, place)
    except SourceError as problem:
        what = f"a manifest {problem.what}"
        raise InputError([Problem(manifest, what, problem.next_step)]) from None
    if is_empty:
        yield error("no-clips", manifest, "a manifest must name clips, but has none", "Add some.")


def _check(manifest: str, entry: Entry, place: Root) -> Iterator[ManifestRow | Finding]:
    findings = [*entry.findings, *_check_values(entry.values, entry.where)]
    located: dict[str, Any] = {}
    for key in ("audio", "ref_audio"):
        name = entry.values.get(key)
        if isinstance(name, str) and name.strip():
            try:
                located[key] = place.locate(name)
            except SourceError as problem:
                what = f"{key} {problem.what}"
                rule = f"audio-{problem.rule}"
                findings.append(error(rule, entry.where, what, problem.next_step))
    if findings:
        yield from findings
    else:
        if entry.values.get("duration") is not None:
            located["duration"] = float(entry.values["duration"])
        yield ManifestRow(where=entry.where, manifest=manifest, **{**entry.values, **located})


def _check_values(values: Mapping[str, Any], where: str) -> Iterator[Finding]:
    """Every rule that the values of one clip break, whatever the audio is."""
    for key in _REQUIRED:
        if key not in values:
            yield error("missing-key", where, f"the key {key} must be there", "Add it.")
    for key, value in values.items():
        if key not in _KEYS:
            what = f"{show(key)} is no key of a manifest"
            yield error("unknown-key", where, what, nearest(key, _KEYS))
        elif value is None and key not in _REQUIRED:
            continue  # null says of an optional key what leaving it out says
        elif isinstance(value, str) and key in _STRINGS:
            yield from _check_string(key, value, where)
        elif key in _STRINGS or isinstance(value, bool) or not isinstance(value, int | float):
            wanted = "a string" if key in _STRINGS else "a number"
            what = f"{key} must be {wanted}, got {show(value)}"
            yield error("wrong-type", where, what, "Correct it.")
        # A whole number of JSON may be too large for a float; NaN is in no range.
        elif not 0 < value <= sys.float_info.max:
            what = f"duration must be a number of seconds greater than 0, got {show(value)}"
            yield error("bad-duration", where, what, "Correct it, or leave it out.")


def _check_string(key: str, value: str, where: str) -> Iterator[Finding]:
    if not value.strip():
        rule = "empty-text" if key == "text" else "empty-value"
        what = f"{key} must not be empty, got {show(value)}"
        hint = "Write what is said." if key == "text" else "Fill it in, or leave it out."
        yield error(rule, where, what, hint)
    elif key == "split" and value not in _SPLITS:
        what = f"split must be {' or '.join(_SPLITS)}, got {show(value)}"
        yield error("bad-split", where, what, "Correct it, or leave it out.")
    elif key == "language" and not _LANGUAGE.fullmatch(value):
        what = f"language must be a tag such as en, km or zh-Hant, got {show(value)}"
        yield error("bad-language", where, what, "Write it as BCP 47 has it.")
    elif key in {"text", "speaker"} and (bad := _UNSAYABLE.search(value)):
        what = (
            f"{key} must not hold control characters, halves of surrogate pairs, or U+FFFD, which "
            f"stands for what was lost, but holds U+{ord(bad.group()):04X}"
        )
        yield error("bad-characters", where, what, "Correct the text at its source.")
