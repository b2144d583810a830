"""The clips of a target, from a list of JSON lines, a folder, or what is shipped; one at a time."""

import os
from collections.abc import Iterator
from typing import Any

from cluster.sources.reading import (
    Root,
    SourceError,
    check_file,
    is_folder,
    list_folder,
    open_root,
)
from jobs.data.findings import Finding, error
from jobs.data.manifest.layouts import METADATA, read_ljspeech, read_pairs
from jobs.data.manifest.lines import Entry, read_jsonl
from jobs.data.manifest.rows import ManifestRow
from jobs.data.manifest.values import check_values
from jobs.embedded import VOICE_DIR
from jobs.problems import InputError, Problem
from jobs.spec import EMBEDDED


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
    try:
        entries, place = _open(manifest, root)
    except SourceError as problem:
        raise _unreadable(manifest, problem) from None
    return _check_all(manifest, entries, place)


def _open(manifest: str, root: str | None) -> tuple[Iterator[Entry | Finding], Root]:
    if not is_folder(manifest):
        check_file(manifest)
        place = open_root(os.path.dirname(manifest) or ".", root)
        return read_jsonl(manifest, manifest), place
    place = open_root(manifest, root)
    files, _, _ = list_folder(manifest)
    read = read_ljspeech if METADATA in files else read_pairs
    return read(manifest, place), place


def _check_all(
    manifest: str, entries: Iterator[Entry | Finding], place: Root
) -> Iterator[ManifestRow | Finding]:
    is_empty = True
    try:
        for entry in entries:
            is_empty = False
            if isinstance(entry, Finding):
                yield entry
            else:
                yield from _check(manifest, entry, place)
    except SourceError as problem:
        raise _unreadable(manifest, problem) from None
    if is_empty:
        yield error("no-clips", manifest, "a manifest must name clips, but has none", "Add some.")


def _check(manifest: str, entry: Entry, place: Root) -> Iterator[ManifestRow | Finding]:
    findings = [*entry.findings, *check_values(entry.values, entry.where)]
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


def _unreadable(manifest: str, problem: SourceError) -> InputError:
    return InputError([Problem(manifest, f"a manifest {problem.what}", problem.next_step)])
