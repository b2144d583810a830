"""The rows of a manifest, one at a time, whatever its layout."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, get_args

from cluster.sources.reading import CELL, SourceError, check_file, is_folder, open_root
from jobs.clips import Split
from jobs.data.clips import ManifestRow
from jobs.data.findings import Finding, error, warning
from jobs.data.manifest.keys import KEYS, REQUIRED, Columns
from jobs.data.manifest.layouts import RowPart, recognise
from jobs.data.manifest.lines import Entry, show
from jobs.embedded import VOICE_DIR
from jobs.problems import InputError, Problem
from jobs.spec import EMBEDDED
from jobs.spec.languages import language_tag

_NO_COLUMNS: Columns = MappingProxyType({})
_STRINGS = tuple(key for key in KEYS if key != "duration")
_SPLITS: tuple[str, ...] = get_args(Split)
_UNSAYABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
"""Control characters (Unicode's Cc), halves of surrogate pairs, and the mark of what was lost."""


class OpenManifest:
    """A manifest that was recognised; iterating gives its clips in order.

    Each is a row or the findings that keep it from being one; warnings stand before the row that
    they are of. A row's audio lies below the root, and on this machine it is a regular file;
    whether it is there is found in S3 when it is read. Lines are read as they are asked for: memory
    does not grow with them.
    """

    def __init__(
        self, manifest: str, root: str | None = None, columns: Columns = _NO_COLUMNS
    ) -> None:
        """Look what ``manifest`` is.

        Args:
            manifest: ``embedded``, or a file or folder in one of the layouts of docs/data.md; a
                path or under ``s3://``.
            root: the folder that all audio must lie in; None for the manifest's.
            columns: by key the column or key of a list that holds it.

        Raises:
            InputError: there is no such manifest or root, it cannot be read or is in no layout that
                is, or which of its columns is the text is not clear.
        """
        self.manifest = manifest
        self._is_embedded = manifest == EMBEDDED
        if self._is_embedded:
            self.manifest, root = str(VOICE_DIR / "manifest.jsonl"), None
        with self._explained():
            if is_folder(self.manifest):
                open_root(self.manifest, root)
            else:
                check_file(self.manifest)
                open_root(os.path.dirname(self.manifest) or ".", root)
            self._layout = recognise(self.manifest, root, columns)
        self.rows = 0
        """Clips that were read, and lines that are none."""

    @property
    def name(self) -> str:
        """What it is read as, in words; with the rows that were read."""
        name = "the shipped voice" if self._is_embedded else self._layout.name
        return f"{name}, {self.rows:,} rows"

    def __iter__(self) -> Iterator[ManifestRow | Finding]:
        """The rows, once.

        Raises:
            InputError: the manifest cannot be read, also half way.
        """
        is_empty = True
        with self._explained():
            for part in self._layout.parts:
                told = False
                for entry in part.entries:
                    is_empty = False
                    if isinstance(entry, Finding):
                        self.rows += entry.severity == "error"
                        yield entry
                        continue
                    self.rows += 1
                    yield from _check(self.manifest, entry, part)
                    if part.names.read_backslashes and not told:
                        told = True
                        what = "audio should be written with /, but has backslashes, from here on"
                        advice = "It is read all the same, by the end of the path."
                        yield warning("audio-backslash", entry.where, what, advice)
        if is_empty:
            what = "a manifest must name clips, but has none"
            yield error("no-clips", self.manifest, what, "Add some.")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except SourceError as problem:
            what = f"a manifest {problem.what}"
            raise InputError([Problem(self.manifest, what, problem.next_step)]) from None


def read_rows(
    manifest: str, root: str | None, columns: Columns = _NO_COLUMNS
) -> Iterator[ManifestRow | Finding]:
    """The clips of a manifest, as :class:`OpenManifest` has them."""
    yield from OpenManifest(manifest, root, columns)


def _check(manifest: str, entry: Entry, part: RowPart) -> Iterator[ManifestRow | Finding]:
    findings = [*entry.findings, *_check_values(entry.values, entry.where)]
    located: dict[str, Any] = {}
    for key in ("audio", "ref_audio"):
        name = entry.values.get(key)
        if isinstance(name, str) and name.strip():
            if entry.holds_cells and name.startswith(f"{CELL}://"):
                located[key] = name
                continue
            try:
                located[key] = part.names.locate(name, in_table=part.in_table)
            except SourceError as problem:
                what = f"{key} {problem.what}"
                rule = f"audio-{problem.rule}"
                findings.append(error(rule, entry.where, what, problem.next_step))
    if findings:
        yield from findings
        return
    values = {**entry.values, **located}
    if values.get("duration") is not None:
        values["duration"] = float(values["duration"])
    if values.get("language") is not None:
        values["language"] = language_tag(values["language"])
    if values.get("split") is None:
        values["split"] = part.split
    yield ManifestRow(where=entry.where, manifest=manifest, **values)


def _check_values(values: Mapping[str, Any], where: str) -> Iterator[Finding]:
    """Every rule that the values of one clip break, whatever the audio is."""
    for name in REQUIRED:
        if name not in values:
            yield error("missing-key", where, f"the key {name} must be there", "Add it.")
    for key, value in values.items():
        if value is None and key not in REQUIRED:
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
    elif key == "language":
        try:
            language_tag(value)
        except ValueError as reason:
            what, _, advice = str(reason).partition(". ")
            yield error("bad-language", where, what, advice)
    elif key == "speaker" and (bad := _UNSAYABLE.search(value)):
        what = (
            f"{key} must not hold control characters, halves of surrogate pairs, or U+FFFD, which "
            f"stands for what was lost, but holds U+{ord(bad.group()):04X}"
        )
        yield error("bad-characters", where, what, "Correct the text at its source.")
