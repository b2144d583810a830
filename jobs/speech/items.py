"""Sets of text items: what every variant answers."""

import json
from pathlib import Path

from jobs.spec.items import TextItem, text_item
from jobs.speech.sets import read_set

_HINT = (
    'Each line is {"question": "...", "choices": ["...", "..."], "answer": 0}, as in MMLU, and may '
    'have "subject"; or {"text": "..."}. Both may have "id".'
)


def read_items(path: Path, part: str) -> list[TextItem]:
    """Read a JSONL set of text items; raises as :func:`~jobs.speech.sets.read_set`.

    ``part`` is the set's letter, in the id of an item without one: ``item-a-0001`` on line 1.
    """

    def item(line: str, number: int) -> TextItem:
        row, named = json.loads(line), {"id": f"item-{part}-{number:04d}"}
        return text_item({**named, **row} if isinstance(row, dict) else row)

    return read_set(path, "text item", _HINT, item)
