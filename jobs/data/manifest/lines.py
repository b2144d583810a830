"""Lines of a manifest, as text and as JSON objects; what is wrong with one is a finding."""

import codecs
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cluster.sources.reading import read_lines, read_start
from jobs.data.findings import Finding, error, warning

MAX_LINE_BYTES = 2**20
"""Of a line, or of a text file: a clip's text has thousands at most."""

_AS_JSON = 'Write one JSON object a line: {"audio": "a.wav", "text": "..."}.'
_MOST_BLANK = 1000
"""Blank lines in a row that are told one by one."""
_SHOWN = 60
"""Characters of a value that a finding shows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The values of one clip by key; not checked yet."""

    where: str
    values: dict[str, Any]
    findings: tuple[Finding, ...] = ()
    """Findings of the parsing."""
    holds_cells: bool = False
    """Whether its recordings may be cells of a table, as locations, and not names."""


def read_entries(
    location: str, where: str, parse: Callable[[str, str], Entry | Finding]
) -> Iterator[Entry | Finding]:
    """What ``parse`` makes of each line of a text file, given its place and its text.

    Raises:
        SourceError: the file cannot be read.
    """
    for place, line in read_text_lines(location, where):
        yield line if isinstance(line, Finding) else parse(place, line)


def read_text_lines(location: str, where: str) -> Iterator[tuple[str, str | Finding]]:
    """The lines of a UTF-8 or UTF-16 file with their places, in order, one at a time in memory.

    A byte order mark or CRLF ends are warned of once and taken off. Blank lines at the end are
    left out.

    Raises:
        SourceError: the file cannot be read.
    """
    crlf_is_new = True
    blank: list[tuple[str, Finding]] = []
    utf_16 = read_start(location, 2).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for number, line in enumerate(read_lines(location, MAX_LINE_BYTES, utf_16=utf_16), start=1):
        place = f"{where}:{number}"
        if number == 1 and utf_16:
            what = "a list should be UTF-8, but is UTF-16"
            yield place, warning("utf-16", place, what, "It is read all the same.")
        if line is None:
            what = f"a line must have at most {MAX_LINE_BYTES:,} bytes, this one has more"
            yield place, error("line-too-long", place, what, "Put one clip on a line.")
            continue
        if number == 1 and line.startswith(codecs.BOM_UTF8):
            line = line.removeprefix(codecs.BOM_UTF8)
            yield place, byte_order_mark(place)
        if line.endswith(b"\r"):
            line = line.removesuffix(b"\r")
            if crlf_is_new:
                crlf_is_new = False
                what = "lines should end in LF, but end in CR LF, from here on"
                yield place, warning("crlf", place, what, "It is read all the same.")
        text = decode_text(line, place)
        if isinstance(text, str) and not text.strip():
            what = "a line must hold a clip, but this one is blank"
            blank.append((place, error("blank-line", place, what, "Delete the line.")))
            del blank[_MOST_BLANK:]
            continue
        yield from blank
        blank.clear()
        yield place, text


def byte_order_mark(where: str) -> Finding:
    """That a text begins with one; the mark itself is taken off."""
    what = "a list should be UTF-8 without a byte order mark, but begins with one"
    return warning("byte-order-mark", where, what, "It is read all the same.")


def decode_text(data: bytes, where: str) -> str | Finding:
    """``data`` as UTF-8, or as UTF-16 where it begins with a byte order mark."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and len(data) % 2 == 0:
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        byte = data[problem.start]
        what = f"text must be UTF-8, but byte {problem.start + 1} (0x{byte:02x}) is not"
        western = bytes([byte]).decode("cp1252", "replace")
        hint = "Save the file as UTF-8: iconv -f ENCODING -t UTF-8 FILE > NEW"
        if western.isalpha() or western in "‘’“”–—…€«»¿¡°":
            what += f"; in Windows-1252 it is {western}"
            hint = "If that is right: iconv -f CP1252 -t UTF-8 FILE > NEW"
        return error("not-utf8", where, what, hint + ", and use NEW.")


def show(value: object) -> str:
    """A value of JSON as a finding shows it: its kind and itself, escaped and cut."""
    text = repr(value)
    if len(text) > _SHOWN:
        text = text[:_SHOWN] + "..."
    match value:
        case None:
            return "null"
        case bool():
            return text.lower()
        case str():
            return f"the string {text}"
        case int() | float():
            return f"the number {text}"
        case list():
            return "a list"
    return "an object"


def parse_json(where: str, line: str) -> Entry | Finding:
    """The object that a line of JSON is."""
    try:
        values, repeated = load_json(line)
    except ValueError as reason:
        return error("not-json", where, f"a line must be JSON, but: {reason}", _AS_JSON)
    if not isinstance(values, dict):
        what = f"a line must be a JSON object, got {show(values)}"
        return error("not-an-object", where, what, _AS_JSON)
    findings = tuple(
        error("duplicate-key", where, f"a key must stand once: {show(key)}", "Delete one.")
        for key in repeated
    )
    return Entry(where, values, findings)


def load_json(text: str) -> tuple[Any, list[str]]:
    """A value of JSON, and the keys that stand more than once in an object of it.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or has a number with thousands of digits,
            which Python does not read.
    """
    repeated: dict[str, None] = {}

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            if key in values:
                repeated[key] = None
            values[key] = value
        return values

    try:
        return json.loads(text, object_pairs_hook=collect), list(repeated)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
