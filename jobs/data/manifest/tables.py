"""Tables of text: CSV, TSV and LJSpeech's columns, with a header or without."""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from jobs.data.findings import Finding, error
from jobs.data.folding import folded
from jobs.data.manifest.keys import REQUIRED, Columns, Keys, match_columns, plain_name, tidy
from jobs.data.manifest.lines import Entry, read_text_lines, show
from jobs.data.texts import normalise_text
from jobs.problems import InputError, Problem
from jobs.spec.data import ClipKey

_Values = dict[str, str | float | None]

LJSPEECH = "|"
"""What separates the columns of LJSpeech's list; it has no header and no quoting."""
_NAMES = {",": "CSV", ";": "CSV", "\t": "TSV", LJSPEECH: "columns separated by |"}
_SOVITS: dict[ClipKey, int] = {"audio": 0, "speaker": 1, "language": 2, "text": 3}
"""The columns of the lists of GPT-SoVITS and Bert-VITS2."""
_SOVITS_LANGUAGE = re.compile(r"\s*(zh|ja|jp|en|ko|yue|auto)\s*", re.IGNORECASE)
"""What these have in their third column."""
_QUOTING = ",;"
"""What separates columns whose cells may be in double quotes."""
_SAMPLE = 200
"""Rows that a column is judged by."""
_LOOKED_UP = 10
"""Rows whose recordings are looked for."""
_MOST_LINES = 100
"""Lines of one quoted cell."""
_AGREE = 0.8
"""Share of the rows that must look like a normalised text for the column to be one."""
_SHARED_WORDS = 0.5
_LONGEST = 4.0
"""A normalised text has at most this many times the characters of what was written."""


@dataclass(frozen=True)
class TextTable:
    """How a list of columns is written."""

    delimiter: str
    names: tuple[str, ...]
    """Of the columns; their numbers where there is no header."""
    has_header: bool
    columns: dict[ClipKey, int]
    """By key the place of its column, from 0."""
    is_normalised: bool
    """Whether the third column has what is spoken, and the second where it is empty."""

    @property
    def name(self) -> str:
        """In words, for ``reads as``."""
        count = f"{len(self.names)} columns"
        if self.has_header:
            used = ", ".join(f"{key} from {self.names[at]}" for key, at in self.columns.items())
            return f"{_NAMES[self.delimiter]} with a header, {count} ({used})"
        kind = "LJSpeech" if self.delimiter == LJSPEECH else _NAMES[self.delimiter]
        if self.columns == _SOVITS:
            kind = "GPT-SoVITS"
        used = ", ".join(f"{key} in column {at + 1}" for key, at in self.columns.items())
        return f"{kind}, {count} ({used})"


def leads_to_audio(lines: Sequence[str], is_audio: Callable[[str], bool]) -> bool:
    """Whether half of the first lines or more begin with a cell that leads to a recording."""
    cells = [re.split(r"[|\t;,]", line, maxsplit=1) for line in lines if line.strip()][:_LOOKED_UP]
    return bool(cells) and _half(len(cell) > 1 and is_audio(cell[0].strip('"')) for cell in cells)


def recognise_table(
    lines: Sequence[str], columns: Columns, where: str, is_audio: Callable[[str], bool]
) -> TextTable | None:
    """What the first lines of a list say of it; None where they are no columns.

    ``is_audio`` says whether a name leads to a recording.

    Raises:
        InputError: it has columns, and which holds what is not clear.
    """
    lines = [line for line in lines if line.strip()][:_SAMPLE]
    if not lines:
        return None
    for delimiter in _NAMES:
        names = _cells(lines[0], delimiter)
        match = match_columns(names, {}, where)
        has_names = any(isinstance(each, str) for each in columns.values())
        known = {plain_name(name) for name in names}
        named = has_names and all(
            plain_name(each) in known for each in columns.values() if isinstance(each, str)
        )
        if len(names) > 1 and (named or match.keys() & REQUIRED) and not is_audio(names[0]):
            rows = [_cells(line, delimiter) for line in lines]
            return _with_header(delimiter, rows, columns, where, is_audio)
    for delimiter in (LJSPEECH, "\t", ";", ","):
        rows = [_cells(line, delimiter) for line in lines]
        if len(rows[0]) > 1 and _half(len(row) > 1 for row in rows):
            if not columns and _are_names(rows, is_audio):
                return _with_header(delimiter, rows, columns, where, is_audio)
            return _without_header(delimiter, rows, columns, where, is_audio)
    return None


def _are_names(rows: Sequence[Sequence[str]], is_audio: Callable[[str], bool]) -> bool:
    """Whether the first row names the columns: it leads to no recording, and the next rows do."""
    return _audio_column(rows[1:], is_audio) is not None and not any(map(is_audio, rows[0]))


def _audio_column(rows: Sequence[Sequence[str]], is_audio: Callable[[str], bool]) -> int | None:
    """The first column whose cells lead to recordings in half of a few rows or more."""
    rows = rows[:_LOOKED_UP]
    for at in range(min(map(len, rows), default=0)):
        if _half(is_audio(row[at]) for row in rows):
            return at
    return None


def _half(truths: Iterable[bool]) -> bool:
    found = list(truths)
    return sum(found) >= len(found) / 2


def _with_header(
    delimiter: str,
    rows: Sequence[list[str]],
    columns: Columns,
    where: str,
    is_audio: Callable[[str], bool],
) -> TextTable:
    names = rows[0]
    match = match_columns(names, columns, where)
    if "audio" not in match and (at := _audio_column(rows[1:], is_audio)) is not None:
        match["audio"] = names[at]
    if missing := [key for key in REQUIRED if key not in match]:
        told = " and the ".join(missing)
        what = f"a list must say which column holds the {told}, got the columns {names}"
        named = ", ".join(f"{key}: {_likely(key, rows, match)}" for key in missing)
        step = f"Set data.columns: {{{named}}} (check: --columns)."
        raise InputError([Problem(where, what, step)])
    places = {key: names.index(name) for key, name in match.items()}
    return TextTable(delimiter, tuple(names), True, places, False)


def _likely(key: str, rows: Sequence[Sequence[str]], match: dict[ClipKey, str]) -> str:
    """The column that may hold ``key``: of a text the first that reads like one."""
    for at, name in enumerate(rows[0]):
        cells = [row[at] for row in rows[1:] if at < len(row)]
        if key == "text" and name not in match.values() and _looks_like(cells) == "a text":
            return name
    return "NAME"


def _without_header(
    delimiter: str,
    rows: list[list[str]],
    columns: Columns,
    where: str,
    is_audio: Callable[[str], bool],
) -> TextTable:
    counts = Counter(len(row) for row in rows)
    if delimiter in _QUOTING and len(counts) > 1 and not columns:
        what = f"a list must have as many columns in each line, got {min(counts)} to {max(counts)}"
        step = f"Put a text that has a {delimiter} in double quotes, or separate columns by |."
        raise InputError([Problem(where, what, step)])
    count = max(counts, key=lambda each: (counts[each], each == len(rows[0])))
    names = tuple(str(number + 1) for number in range(count))
    rows = [row for row in rows if len(row) == count]
    if columns:
        match = match_columns(names, {"audio": 1, "text": 2, **columns}, where)
        return TextTable(delimiter, names, False, {k: int(v) - 1 for k, v in match.items()}, False)
    audio = _audio_column(rows, is_audio) or 0
    if count == 2:
        return TextTable(delimiter, names, False, {"audio": audio, "text": 1 - audio}, False)
    if audio:
        raise InputError([_ask(rows, audio, where)])
    third = [row[2] for row in rows]
    if count == 3 and not any(text.strip() for text in third):
        return TextTable(delimiter, names, False, {"audio": 0, "text": 1}, False)
    if count == 3 and is_normalised([row[1] for row in rows], third):
        return TextTable(delimiter, names, False, {"audio": 0, "text": 2}, True)
    if count == 4 and delimiter == LJSPEECH and all(map(_SOVITS_LANGUAGE.fullmatch, third)):
        return TextTable(delimiter, names, False, _SOVITS, False)
    raise InputError([_ask(rows, audio, where)])


def _ask(rows: Sequence[Sequence[str]], audio: int, where: str) -> Problem:
    """Which column holds what, with what each but ``audio`` looks like."""
    count = len(rows[0])
    looks = {at: _looks_like([row[at] for row in rows]) for at in range(count) if at != audio}
    example = next((row for row in rows if all(cell.strip() for cell in row)), rows[0])
    told = ", ".join(
        f"column {at + 1} looks like {look} ({show(example[at])})" for at, look in looks.items()
    )
    texts = [at for at, look in looks.items() if look == "a text"] or [min(looks)]
    named = {look.removeprefix("a "): at for at, look in reversed(looks.items())}
    more = "".join(
        f", {key}: {named[key] + 1}" for key in ("speaker", "duration", "language") if key in named
    )
    reason, first = "the last is no normalised text of the second", ""
    if audio:
        reason, first = f"the recordings are in column {audio + 1}", f"audio: {audio + 1}, "
    what = f"a list of {count} columns must say which is the text: {reason}; {told}"
    named_text = f"{first}text: {texts[0] + 1}{more}"
    step = f"Set data.columns: {{{named_text}}} (check: --columns), or another."
    return Problem(where, what, step)


def _looks_like(cells: Sequence[str]) -> str:
    """What a column holds, in words; an empty cell says nothing."""
    cells = [cell.strip() for cell in cells if cell.strip()]
    if not cells:
        return "nothing"
    if all(re.fullmatch(r"\d+", cell) for cell in cells):
        return "a speaker" if len(set(cells)) <= max(1, len(cells) // 3) else "a number"
    if all(re.fullmatch(r"\d*\.?\d+(e-?\d+)?", cell) for cell in cells):
        return "a duration"
    if all(re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z]{2,4})?", cell) for cell in cells):
        codes = {cell.casefold() for cell in cells}
        if len(codes) <= max(1, len(cells) // 3) and all(len(code) != 3 for code in codes):
            return "a language"
    if all(re.search(r"[a-zü]+[1-5](\s|$)", cell.casefold()) for cell in cells):
        return "pinyin"
    if all(" " not in cell for cell in cells) and len(set(cells)) <= max(1, len(cells) // 3):
        return "a speaker"
    return "a text"


def is_normalised(written: Sequence[str], spoken: Sequence[str]) -> bool:
    """Whether ``spoken`` reads like the texts ``written`` spelt out: shared words, script, length.

    A row of numbers alone has nothing to compare, unless they are English.
    """
    votes = [
        vote
        for one, other in zip(written, spoken, strict=True)
        if other.strip() and (vote := _reads_like(one, other)) is not None
    ]
    return bool(votes) and sum(votes) >= _AGREE * len(votes)


def _reads_like(written: str, spoken: str) -> bool | None:
    if folded(written) == folded(spoken):
        return True
    plain, said = normalise_text(written), normalise_text(spoken)
    if not said or not any(c.isalpha() for c in said):
        return False
    if len(said) > _LONGEST * len(plain) + 20 or len(plain) > _LONGEST * len(said):
        return False
    words = [word for word in plain.split() if word.isalpha() or not word.isdecimal()]
    if not any(c.isalpha() for word in words for c in word):
        return None
    if _script(plain) != _script(said):
        return False
    if _script(plain) in {"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"}:
        words, others = list("".join(words)), set(said)
    else:
        others = set(said.split())
    return sum(word in others for word in words) >= _SHARED_WORDS * len(words)


def _script(text: str) -> str:
    """The script that most letters of a text are of, by the first word of their names."""
    scripts = Counter(
        unicodedata.name(c, "?").partition(" ")[0]
        for c in text
        if unicodedata.category(c)[0] == "L"
    )
    return scripts.most_common(1)[0][0] if scripts else ""


def read_table(location: str, where: str, table: TextTable) -> Iterator[Entry | Finding]:
    """The rows of a list.

    Raises:
        SourceError: it cannot be read.
    """
    rows = _read_rows(location, where, table.delimiter)
    keys = Keys({key: at + 1 for key, at in table.columns.items()}, where)
    header_is_due = table.has_header
    for place, row in rows:
        if isinstance(row, Finding):
            yield row
        elif header_is_due:
            header_is_due = False
        elif len(row) != len(table.names) and not (table.is_normalised and len(row) == 2):
            wanted = f"{len(table.names)} columns" + " or 2" * table.is_normalised
            what = f"a line must have {wanted}, got {len(row)}: {show(table.delimiter.join(row))}"
            advice = "Correct the line"
            if table.delimiter in ",;":
                advice += f", or put a text that has a {table.delimiter} in double quotes"
            yield error("bad-columns", place, what, f"{advice}.")
        elif table.has_header:
            cells = dict(zip(table.names, row, strict=True))
            required = {table.names[table.columns[key]] for key in REQUIRED}
            at = table.columns.get("duration")
            number = None if at is None else table.names[at]
            yield from keys.apply(Entry(place, _as_values(cells, required, number)))
        else:
            cells = {key: row[at] for key, at in table.columns.items() if at < len(row)}
            if table.is_normalised and not cells.get("text", "").strip():
                cells["text"] = row[1]
            yield Entry(place, tidy(_as_values(cells, REQUIRED, "duration")))


def _read_rows(
    location: str, where: str, delimiter: str
) -> Iterator[tuple[str, list[str] | Finding]]:
    """The rows with their places; one whose quoted cells hold line feeds spans several lines."""
    held: list[tuple[str, str]] = []
    for place, line in read_text_lines(location, where):
        if isinstance(line, Finding):
            if line.rule != "blank-line" or not held:
                yield place, line
            continue
        held.append((place, line))
        if not (delimiter in _QUOTING and _is_open("\n".join(text for _, text in held), delimiter)):
            yield held[0][0], _cells("\n".join(text for _, text in held), delimiter)
            held.clear()
        elif len(held) == _MOST_LINES:
            yield from _unclosed(held, delimiter)
            held.clear()
    yield from _unclosed(held, delimiter)


def _unclosed(
    lines: Sequence[tuple[str, str]], delimiter: str
) -> Iterator[tuple[str, list[str] | Finding]]:
    """The lines from one on whose quote is not closed: that one is wrong, the others are rows."""
    for number, (place, line) in enumerate(lines):
        if number == 0:
            what = f"a cell that begins with a quote must end with one, got {show(line)}"
            yield place, error("bad-columns", place, what, "Close it, or double the quote.")
        else:
            yield place, _cells(line, delimiter)


def _is_open(text: str, delimiter: str) -> bool:
    """Whether a quoted cell of ``text`` is not closed yet."""
    split = re.escape(delimiter)
    closed = re.sub(rf'(^|{split}|\n)"(?:[^"]|"")*"(?={split}|$|\n)', r"\1", text)
    return re.search(rf'(?:^|{split}|\n)"', closed) is not None


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of a row. Commas quote as CSV does; tabs and bars only where all agrees with it."""
    if delimiter in _QUOTING:
        return next(csv.reader([line], delimiter=delimiter), [])
    return [_unquoted(cell) for cell in line.split(delimiter)]


def _unquoted(cell: str) -> str:
    """``cell`` as pandas reads it, if pandas can have written it; speech may begin with a quote."""
    inner = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '""' in inner
    is_written = quoted and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_written else cell


def _as_values(cells: dict[str, str], required: Iterable[str], number: str | None) -> _Values:
    """The cells by name: a line feed as a space, one that says nothing as None if it may."""
    values: _Values = {}
    for name, cell in cells.items():
        plain = cell.replace("\n", " ")
        values[name] = plain if plain.strip() or name in required else None
    with suppress(ValueError, KeyError):  # what is no number is told as what it is
        values[number or ""] = float(values[number or ""] or "")
    return values
