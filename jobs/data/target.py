"""The rows of all manifests that a target's data names."""

from collections.abc import Iterator

from jobs.data.findings import Finding
from jobs.data.manifest import ManifestRow, read_rows
from jobs.data.spec import DataSpec
from jobs.embedded import VOICE_DIR
from jobs.problems import InputError, Problem
from jobs.strict import EMBEDDED


def target_rows(data: DataSpec) -> list[ManifestRow | Finding]:
    """One item a line, manifest after manifest.

    Raises:
        InputError: a manifest cannot be read at all; with the problem of each such.
    """
    items: list[ManifestRow | Finding] = []
    problems: list[Problem] = []
    for manifest in data.manifest:
        try:
            items += _rows(manifest, data.root)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return items


def _rows(manifest: str, root: str | None) -> Iterator[ManifestRow | Finding]:
    if manifest == EMBEDDED:
        return read_rows(str(VOICE_DIR / "manifest.jsonl"), None)
    return read_rows(manifest, root)
