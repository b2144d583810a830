"""The names under which a trial tells Ray Tune, and so the study, what became of an epoch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.spec.model import OBJECTIVE, SECONDS
from orchestrator.verdict.protocol import Protocol

TRIAL = "trial"
"""A trial's id in Ray Tune's configs and results, and as an attribute of the study's trials."""
PROMISE = "promise"
"""Of the epoch's best variant: its gain, less what it breaks."""
MEASURED = "measured"
"""That variant's mean in each metric, by name, and what it cost."""
CONSTRAINTS = "constraints"
"""By how much that variant breaks each constraint; 0 or less where it holds."""


def measure(name: str) -> str:
    """The key of an objective in Ray Tune's flattened result."""
    return name if name == OBJECTIVE else f"{MEASURED}/{name}"


def told(result: Mapping[str, Any], of: str) -> Iterator[tuple[str, float]]:
    """Names and numbers under ``of`` in a flattened result."""
    start = f"{of}/"
    for key, value in result.items():
        if key.startswith(start):
            yield key.removeprefix(start), value


FEASIBILITY = "constraints"
"""The attribute in which Optuna and optuna-dashboard look for a list of what is broken: above 0.
Optuna 5 has names for them too (``Trial.set_constraint``), but optuna-dashboard 0.21 sees no such
trial as infeasible."""


def named_constraints(constraints: Mapping[str, float]) -> dict[str, float]:
    """The same as attributes that a person reads."""
    return {f"constraint {name}": value for name, value in constraints.items()}


def directions(objectives: Sequence[str], protocol: Protocol) -> dict[str, str]:
    """``max`` or ``min`` by objective."""
    ways = {name: metric.direction for name, metric in protocol.judged_metrics().items()}
    ways |= {OBJECTIVE: "higher", SECONDS: "lower"}
    return {name: "max" if ways[name] == "higher" else "min" for name in objectives}
