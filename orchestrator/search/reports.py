"""Keys of what a trial reports to Ray Tune after an epoch, which Tune flattens."""

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.spec.model import OBJECTIVE

TRIAL = "trial"
"""A trial's id in Ray Tune's configs and results, and as an attribute of the study's trials."""
REPEATS, REFUSED = "repeats", "refused"
"""Attributes of the study's trials that were not run: the id of one that had the same point, or why
the point is not in the space."""
PROMISE = "promise"
"""Of the epoch's best variant: its gain, less what it breaks."""
MEASURED = "measured"
"""The best variant's mean in each metric, by name, and its cost."""
CONSTRAINTS = "constraints"
"""By how much the best variant breaks each constraint; 0 or less where it holds."""
DAMAGED = "damaged"
"""Lines for people, of what a trial found damaged in the storage and made again."""


def objective_key(name: str) -> str:
    """The key of an objective in Ray Tune's flattened result."""
    return name if name == OBJECTIVE else f"{MEASURED}/{name}"


def entries_under(result: Mapping[str, Any], key: str) -> Iterator[tuple[str, float]]:
    """Names and values of the flattened result's entries under ``key``."""
    prefix = f"{key}/"
    for name, value in result.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), value
