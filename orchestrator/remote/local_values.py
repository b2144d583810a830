"""Values of a spec that mean something on this machine alone."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jobs.spec import EMBEDDED
from jobs.speech.items import read_items
from jobs.speech.prompts import read_prompts
from orchestrator.spec.document import Location

SENT_FILES: Mapping[tuple[str, str], Callable[[Path], object]] = {
    ("variants", "prompts"): read_prompts,
    ("variants", "confirmation_prompts"): read_prompts,
    ("variants", "items"): partial(read_items, part="a"),
    ("variants", "confirmation_items"): partial(read_items, part="b"),
}
"""Keys whose files are sent with the sweep, each with what reads its file or raises InputError."""
_NOT_OPENED = (("data", "consent"),)
"""Keys whose text may look like a path, but is never used as one."""
_LOCAL = ("/", "file:", "sqlite:")
"""Prefixes of a value that means something on this machine alone."""
_ELSEWHERE = {
    ("data",): "Copy it to a bucket and name that (`aws s3 sync`)",
    ("base", "source"): "Name a model of the hub (hub:ID)",
    ("base", "codec"): f"Use {EMBEDDED}",
    ("scoring",): "Name a model of the hub",
    ("records",): "Name a server",
}
"""What to write instead, by the first part or parts of a key."""


def texts(value: Any, location: Location = ()) -> Iterator[tuple[Location, str]]:  # noqa: ANN401 (JSON)
    """Every text of a spec's JSON that is no file to be sent, with its key."""
    if isinstance(value, str) and location not in (*SENT_FILES, *_NOT_OPENED):
        yield location, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from texts(each, (*location, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from texts(each, (*location, index))


def is_local(value: str) -> bool:
    """Whether a text of a valid spec, whose paths are absolute, leads to this machine."""
    return value.startswith(_LOCAL)


def what_instead(location: Location) -> str:
    """The next step for a local value at ``location``, without a full stop."""
    steps = (step for key, step in _ELSEWHERE.items() if location[: len(key)] == key)
    return next(steps, "Name another place")
