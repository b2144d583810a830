"""Lists of clips in JSON: a line for each, or one list or object with all of them."""

import codecs
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cluster.sources.reading import open_binary
from jobs.data.findings import Finding, error
from jobs.data.manifest.keys import REQUIRED, Columns, Keys, match_columns
from jobs.data.manifest.lines import Entry, decode_text, load_json, parse_json, read_entries, show
from jobs.problems import InputError, Problem

_MAX_BYTES = 2**28
"""Of a list that is read at once; JSON lines may be longer."""
_KINDS = {
    "audio_filepath": "NeMo's manifest",
    "file_name": "Hugging Face AudioFolder, ",
    "audio_codes": "Qwen3-TTS's training data, ",
    "dataset_id": "VoxCPM's training data, ",
}
"""By a key what a list was written for; with a comma, its form follows."""


def is_json_lines(lines: Sequence[str], columns: Columns, where: str) -> bool:
    """Whether the first lines of a file that begins with { are clips, and not of one value."""
    try:
        first, *others = (line for line in lines if line.strip())
        keys = list(json.loads(first))
    except (ValueError, RecursionError):
        return False
    if others and others[0].lstrip().startswith("{"):
        return True
    return bool(match_columns(keys, columns, where, is_strict=False).keys() & REQUIRED)


def name_json_lines(lines: Sequence[str], columns: Columns, where: str) -> str:
    """What JSON lines were written for, by the keys of the first."""
    try:
        keys = list(json.loads(next(line for line in lines if line.strip())))
    except (ValueError, StopIteration, RecursionError, TypeError):
        keys = []
    return _in_words(list(map(str, keys)), "JSON lines", columns, where)


def _in_words(keys: Sequence[str], form: str, columns: Columns, where: str) -> str:
    kind = next((kind for key, kind in _KINDS.items() if key in keys), "")
    name = kind + form if not kind or kind.endswith(", ") else kind
    match = match_columns(keys, columns, where, is_strict=False)
    other = ", ".join(f"{key} from {name}" for key, name in match.items() if key != name)
    return f"{name} ({other})" if other else name


def read_json_lines(location: str, where: str, columns: Columns) -> Iterator[Entry | Finding]:
    """The rows of JSON lines, one at a time.

    Raises:
        SourceError: the file cannot be read.
    """
    keys = Keys(columns, where)
    for item in read_entries(location, where, parse_json):
        if isinstance(item, Finding):
            yield item
        else:
            yield from keys.apply(item)


def open_json(
    location: str, where: str, columns: Columns, is_audio: Callable[[str], bool]
) -> tuple[str, Iterator[Entry | Finding]]:
    """What a file of one JSON value is, in words, and its rows.

    Rows are a list of objects, alone or under one key of an object, or an object by the names of
    recordings, which ``is_audio`` knows: of their texts, or of objects.

    Raises:
        SourceError: the file cannot be read, or has more than 256 MiB.
        InputError: it is no JSON, has no such rows, or no key of theirs is known for audio or text.
    """
    with open_binary(location, _MAX_BYTES) as file:
        text = decode_text(file.read().removeprefix(codecs.BOM_UTF8), where)
    if isinstance(text, Finding):
        raise InputError([text.problem])
    try:
        value, repeated = load_json(text)
    except ValueError as reason:
        what = f"a list must be JSON, but: {reason}"
        step = "Correct it; objects over several lines become lines by jq -c . FILE > NEW."
        raise InputError([Problem(where, what, step)]) from None
    form, rows = _rows(value, where, is_audio)
    keys = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
    match = match_columns(keys, columns, where)
    if missing := [key for key in REQUIRED if key not in match]:
        what = f"{form} must say which key holds the {' and the '.join(missing)}, got {keys}"
        step = f"Set data.columns: {{{', '.join(f'{key}: NAME' for key in missing)}}}."
        raise InputError([Problem(where, what, step)])
    return _in_words(keys, form, columns, where), _read(rows, repeated, where, columns)


def _rows(value: object, where: str, is_audio: Callable[[str], bool]) -> tuple[str, list[Any]]:
    """What a value is called that has rows, and these."""
    kind, step = show(value), "Write a list of objects with audio and text, or a line for each."
    if value == []:
        kind = "an empty list"
    if isinstance(value, list):
        if any(isinstance(row, dict) for row in value):
            return "a JSON list", value
        if any(isinstance(row, list) for row in value):
            kind, step = "a list of lists", "Write a table: jq -r '.[] | @tsv' FILE > NEW.tsv"
    elif isinstance(value, dict):
        lists = [
            key
            for key, each in value.items()
            if isinstance(each, list) and any(isinstance(row, dict) for row in each)
        ]
        if len(lists) == 1:
            return f"a JSON list under {lists[0]!r}", value[lists[0]]
        if value and is_audio(next(iter(value))):
            rows = [
                {"audio": name, **(each if isinstance(each, dict) else {"text": each})}
                for name, each in value.items()
            ]
            return "a JSON object by recordings", rows
        kind = f"an object with {', '.join(map(repr, list(value)[:6]))}" + ", ..." * (
            len(value) > 6
        )
        if lists:
            step = f"Write a file for each: jq '.[{json.dumps(lists[0])}]' FILE > NEW"
    what = f"JSON must have a list of objects, but this is {kind}"
    raise InputError([Problem(where, what, step)])


def _read(
    rows: Sequence[Any], repeated: Sequence[str], where: str, columns: Columns
) -> Iterator[Entry | Finding]:
    for key in repeated:
        what = f"a key must stand once in an object: {show(key)}"
        yield error("duplicate-key", where, what, "Delete one.")
    keys = Keys(columns, where)
    for number, row in enumerate(rows, start=1):
        place = f"{where} row {number}"
        if isinstance(row, dict):
            yield from keys.apply(Entry(place, row))
        else:
            what = f"a row must be a JSON object, got {show(row)}"
            yield error("not-an-object", place, what, "Correct it, or delete it.")
