"""Sets of text items: what every variant answers."""

import json
from pathlib import Path

from pydantic import ValidationError

from jobs.problems import InputError, Problem, read_text
from jobs.spec.items import TextItem, text_item

_HINT = (
    'Each line is {"question": "...", "choices": ["...", "..."], "answer": 0}, as in MMLU, and may '
    'have "subject"; or {"text": "..."}. Both may have "id".'
)


def read_items(path: Path, part: str) -> list[TextItem]:
    """Read a JSONL set of text items.

    Args:
        path: the file.
        part: the set's letter, in the id of an item without one: ``item-a-0001`` on line 1.

    Raises:
        InputError: with every line that is no item and every id used twice, or because the file
            is empty or cannot be read.
    """
    items: dict[str, TextItem] = {}
    problems: list[Problem] = []
    # Not splitlines: a text may have U+2028 and such.
    lines = read_text(path, _HINT).rstrip().split("\n")
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
            named = {"id": f"item-{part}-{number:04d}"}
            item = text_item({**named, **row} if isinstance(row, dict) else row)
        except ValidationError as error:
            first = error.errors()[0]
            key = "".join(f"{part}: " for part in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            problems.append(Problem(where, f"not a text item: {key}{reason}", _HINT))
            continue
        except json.JSONDecodeError as error:
            problems.append(Problem(where, f"not a text item: {error}", _HINT))
            continue
        if item.id in items:
            what = f"ids must be unique, but {item.id!r} was used before"
            problems.append(Problem(where, what, "Rename it."))
        items[item.id] = item
    if not items and not problems:
        problems.append(Problem(str(path), "a set of items needs at least one item", _HINT))
    if problems:
        raise InputError(problems)
    return list(items.values())
