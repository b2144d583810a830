"""Which versions of a registered model were champion, and why: events in the model's tags."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

HISTORY_TAG = "voxsweep.history."
"""Before the number of an event, from 0001 on."""

EventKind = Literal["champion", "demoted", "rollback"]


@dataclass(frozen=True)
class RegistryEvent:
    """Something that happened to the alias ``champion``."""

    at: str
    """UTC, as ISO 8601 writes it."""
    event: EventKind
    version: str
    reason: str


def read_history(tags: Mapping[str, str]) -> list[RegistryEvent]:
    """The events among a registered model's tags, in their order."""
    keys = sorted(key for key in tags if key.startswith(HISTORY_TAG))
    return [RegistryEvent(**json.loads(tags[key])) for key in keys]


def next_key(tags: Mapping[str, str]) -> str:
    """The key of the next event."""
    numbers = [int(key.removeprefix(HISTORY_TAG)) for key in tags if key.startswith(HISTORY_TAG)]
    return f"{HISTORY_TAG}{max(numbers, default=0) + 1:04d}"


def former_champions(events: Iterable[RegistryEvent]) -> list[str]:
    """Versions that a rollback can go back to, the latest last; a demoted one is not among them.

    >>> events = [RegistryEvent("", "champion", v, "") for v in ("1", "2", "3")]
    >>> former_champions([*events, RegistryEvent("", "rollback", "2", "")])
    ['1', '2']
    >>> former_champions([*events, RegistryEvent("", "demoted", "3", "")])
    ['1', '2']
    """
    stack: list[str] = []
    for event in events:
        if event.event == "rollback":
            while stack and stack[-1] != event.version:
                stack.pop()
        stack = [version for version in stack if version != event.version]
        if event.event != "demoted":
            stack.append(event.version)
    return stack
