"""Sets in JSONL of which each line has an id: prompts, and text items."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import ValidationError

from jobs.problems import InputError, Problem, read_text


class _Named(Protocol):
    @property
    def id(self) -> str: ...


Entry = TypeVar("Entry", bound=_Named)


def read_set(path: Path, kind: str, hint: str, parse: Callable[[str, int], Entry]) -> list[Entry]:
    """Read a set, an entry a line.

    Args:
        path: the file.
        kind: what an entry is, for messages.
        hint: how a line is written.
        parse: makes an entry of a line and its number, or raises ValidationError or ValueError.

    Raises:
        InputError: with every line that is no entry and every id used twice, or because the file
            is empty or cannot be read.
    """
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    # Not splitlines: a text may have U+2028 and such.
    lines = read_text(path, hint).rstrip().split("\n")
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        where = f"{path}:{number}"
        try:
            entry = parse(line, number)
        except ValidationError as error:
            first = error.errors()[0]
            key = "".join(f"{part}: " for part in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            problems.append(Problem(where, f"not a {kind}: {key}{reason}", hint))
            continue
        except ValueError as error:
            problems.append(Problem(where, f"not a {kind}: {error}", hint))
            continue
        if entry.id in entries:
            what = f"ids must be unique, but {entry.id!r} was used before"
            problems.append(Problem(where, what, "Rename it."))
        entries[entry.id] = entry
    if not entries and not problems:
        problems.append(Problem(str(path), f"a set needs at least one {kind}", hint))
    if problems:
        raise InputError(problems)
    return list(entries.values())
