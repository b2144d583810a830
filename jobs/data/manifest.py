"""The list of a target's clips: JSON lines, audio paths relative to the file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from jobs.data.findings import Finding
from jobs.problems import InputError, Problem
from jobs.strict import Language, Strict

Split = Literal["train", "validation"]

_HINT = "See docs/data.md for the manifest's keys."


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """One clip of the target and what it says."""

    where: str
    """``manifest:line``, or the file that stands for the clip."""
    audio: str
    """An absolute path, or a URL under ``s3://``; it lies in the data root."""
    text: str
    speaker: str | None = None
    language: str | None = None
    ref_audio: str | None = None
    """Another recording of the speaker, as ``audio``."""
    duration: float | None = None
    """Seconds, as the manifest claims."""
    split: Split | None = None
    """None where the manifest leaves it to :mod:`jobs.data.split`."""


class _Line(Strict):
    audio: Path
    text: Annotated[str, Field(min_length=1)]
    speaker: Annotated[str, Field(min_length=1)] | None = None
    language: Language | None = None
    ref_audio: Path | None = None
    duration: Annotated[float, Field(gt=0)] | None = None
    split: Split | None = None


def read_manifest(path: Path) -> list[ManifestRow]:
    """Read every row.

    Raises:
        InputError: with every problem of the file: no JSON, unknown or missing keys, audio that
            does not exist, a split without clips.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem(str(path), f"cannot read it: {error}", _HINT)]) from None
    rows: list[ManifestRow] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines, start=1):
        row = _read_row(path, number, line)
        if isinstance(row, ManifestRow):
            rows.append(row)
        else:
            problems.append(row)
    if not problems:
        problems = _check_splits(path, rows)
    if problems:
        raise InputError(problems)
    return rows


def read_rows(manifest: str, root: str | None) -> Iterator[ManifestRow | Finding]:
    """One item a line, in order: a row, or what is wrong with the line.

    Raises:
        InputError: the manifest cannot be read at all.
    """
    path = Path(manifest)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem(str(path), f"cannot read it: {error}", _HINT)]) from None
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        try:
            row = _Line.model_validate_json(line)
        except ValidationError as error:
            what = "; ".join(map(_describe, error.errors()))
            yield Finding("line-malformed", "error", Problem(where, what, _HINT))
            continue
        folder = path.absolute().parent
        reference = row.ref_audio and str(folder / row.ref_audio)
        yield ManifestRow(
            where=where,
            audio=str(folder / row.audio),
            text=row.text,
            speaker=row.speaker,
            language=row.language,
            ref_audio=reference or None,
            duration=row.duration,
            split=row.split,
        )


def _check_splits(path: Path, rows: Sequence[ManifestRow]) -> list[Problem]:
    present = {row.split for row in rows}
    return [
        Problem(
            str(path),
            f"a manifest needs clips with split {split!r}, but it has none",
            "Mark about a fifth as validation.",
        )
        for split in ("train", "validation")
        if split not in present
    ]


def _read_row(path: Path, number: int, line: str) -> ManifestRow | Problem:
    where = f"{path}:{number}"
    try:
        row = _Line.model_validate_json(line)
    except ValidationError as error:
        return Problem(where, "; ".join(map(_describe, error.errors())), _HINT)
    audio = path.parent / row.audio
    if not audio.is_file():
        return Problem(where, f"audio must exist, but there is no {audio}", "Correct the path.")
    return ManifestRow(
        where=where,
        audio=str(audio.absolute()),
        text=row.text,
        speaker=row.speaker,
        language=row.language,
        duration=row.duration,
        split=row.split,
    )


def _describe(details: Any) -> str:  # noqa: ANN401 (pydantic's ErrorDetails)
    key = ".".join(map(str, details["loc"]))
    return f"{key}: {details['msg']}" if key else details["msg"]
