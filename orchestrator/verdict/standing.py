"""How a variant stands on what was heard of it: what a search is told."""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.verdict.gates import (
    check_constraints,
    check_failures,
    counted,
    total_violation,
)
from orchestrator.verdict.protocol import GATE_METRICS, Protocol
from orchestrator.verdict.screen import bootstrap_of, feasible_first, gains
from orchestrator.verdict.table import ScoreTable

FAILED_CLIPS = "failed_clips"
"""The constraint of the gates, beside those of the protocol, which bear their metric's name."""


@dataclass(frozen=True)
class Standing:
    """One variant's place."""

    variant: str
    objective: float
    """See :func:`orchestrator.verdict.screen.objective`."""
    promise: float
    """The gain less what is broken, as a share of its range, in the primary metric's unit.

    Early epochs break constraints that later ones keep: while a model learns a voice it stumbles
    over words first. An objective cannot tell such a variant from one without hope.
    """
    measured: Mapping[str, float]
    """Each metric's mean over prompts, in its unit; where a metric decides, failed clips count."""
    constraints: Mapping[str, float]
    """By how much each is broken: 0 or less where it holds. Clips of the gates, else the
    metric's unit."""


def standing(table: ScoreTable, variant: str, protocol: Protocol) -> Standing:
    """How ``variant`` stands. Raises KeyError: no such variant in the table."""
    failures = check_failures(table, variant, protocol)
    checks = check_constraints(table, variant, protocol, bootstrap_of(protocol))
    gain = float(gains(table, variant, protocol).mean())
    violation = total_violation(failures, checks)
    span = table.metrics[protocol.primary].span
    # What is broken by less than rounding is not broken: the violation has the last word.
    broken = {c.metric: c.bound - c.margin for c in checks}
    holds = {c.metric for c in checks if c.violation == 0}
    return Standing(
        variant=variant,
        objective=feasible_first(gain, violation, span),
        promise=gain - violation * span,
        measured={
            name: float(counted(table, variant, name, protocol).mean())
            for name in table.values[variant]
            if name not in GATE_METRICS
        },
        constraints={
            FAILED_CLIPS: float(failures.failed - failures.allowed),
            **{name: min(value, 0.0) if name in holds else value for name, value in broken.items()},
        },
    )
