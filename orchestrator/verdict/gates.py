"""What a variant must not do, whatever its mean: fail clips, or get worse in other ways."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.protocol import (
    CLIPPING,
    DURATION,
    END_OF_SPEECH_FAILURE,
    GATE_METRICS,
    RATIO_SOURCES,
    TAIL_SILENCE,
    Constraint,
    Gates,
    Protocol,
)
from orchestrator.verdict.stats import Interval, PairedBootstrap
from orchestrator.verdict.table import ClipKey, ScoreTable, Values

_ROUNDING = 1e-9
"""Being exactly at a margin is allowed, whatever the last bit of a mean says."""


@dataclass(frozen=True)
class FailedClip:
    """A clip that counts as failed, and every reason it does."""

    prompt: str
    seed: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class FailureGate:
    """Failed clips of a variant against the number it may have."""

    failed: int
    allowed: int
    clips: int

    @property
    def violation(self) -> float:
        """Share of clips beyond what is allowed; 0 when the gate holds."""
        return max(0, self.failed - self.allowed) / self.clips


@dataclass(frozen=True)
class ConstraintCheck:
    """A constraint met or broken: means in the metric's unit, ``worsening`` towards the worse."""

    metric: str
    base: float
    variant: float
    worsening: Interval
    bound: float
    """The one-sided upper bound of the worsening; it decides."""
    margin: float
    violation: float
    """How far beyond the margin, as a share of the metric's range; 0 when the constraint holds."""


def failed_clips(table: ScoreTable, variant: str, protocol: Protocol) -> tuple[FailedClip, ...]:
    """Every clip of ``variant`` that has no score or fails a gate, in the order of the prompts."""
    unscored = unscored_clips(table, variant, protocol)
    columns = table.values[variant]
    lost = _fails_a_gate(columns, protocol.gates)
    if unscored:
        lost |= np.array([key in unscored for key in table.keys])
    failed = []
    for clip in np.flatnonzero(lost):
        key, value = table.keys[clip], {name: float(columns[name][clip]) for name in columns}
        reasons = [unscored[key]] if key in unscored else _gate_reasons(value, protocol.gates)
        failed.append(FailedClip(*key, tuple(reasons)))
    return tuple(failed)


def unscored_clips(table: ScoreTable, variant: str, protocol: Protocol) -> dict[ClipKey, str]:
    """Clips without a value in a metric that decides, with the reason.

    A metric that is only reported may be missing: it costs the clip that metric, not its place.
    """
    missing = table.missing[variant]
    reasons: dict[ClipKey, list[str]] = {}
    for metric in sorted(_deciding(protocol) & missing.keys()):
        for key, why in missing[metric].items():
            reasons.setdefault(key, []).append(f"{metric}: {why}")
    return {key: f"no score ({'; '.join(why)})" for key, why in reasons.items()}


def _deciding(protocol: Protocol) -> set[str]:
    names = {protocol.primary, *(constraint.metric for constraint in protocol.constraints)}
    return {*GATE_METRICS, *(RATIO_SOURCES.get(name, name) for name in names)}


def _fails_a_gate(value: Mapping[str, Values], gates: Gates) -> NDArray[np.bool_]:
    """Whether each clip has a reason below; most have none, and sentences take time."""
    low, high = gates.duration_ratio
    ratio = value["duration_ratio"]
    fails: NDArray[np.bool_] = (
        (value[END_OF_SPEECH_FAILURE] > 0)
        | (ratio < low)
        | (ratio > high)
        | (value[TAIL_SILENCE] > gates.tail_silence)
        | (value[CLIPPING] > gates.clipping)
    )
    return fails


def _gate_reasons(value: Mapping[str, float], gates: Gates) -> Iterator[str]:
    if value[END_OF_SPEECH_FAILURE] > 0:
        yield "no end of speech before the length limit"
    low, high = gates.duration_ratio
    if not low <= value["duration_ratio"] <= high:
        yield (
            f"{value[DURATION]:.1f} s, {value['duration_ratio']:.2f} x the base "
            f"(allowed {low:g} to {high:g})"
        )
    if value[TAIL_SILENCE] > gates.tail_silence:
        yield f"{value[TAIL_SILENCE]:.1f} s silence at the end (allowed {gates.tail_silence:g} s)"
    if value[CLIPPING] > gates.clipping:
        yield f"{value[CLIPPING]:.1%} of samples clipped (allowed {gates.clipping:.1%})"


def check_failures(table: ScoreTable, variant: str, protocol: Protocol) -> FailureGate:
    """Count failed clips against the base's: a few more are chance, more than that are not."""
    clips = len(table.keys)
    tolerance = max(1, int(protocol.gates.excess_failures * clips + _ROUNDING))
    allowed = len(failed_clips(table, BASE_VARIANT, protocol)) + tolerance
    return FailureGate(len(failed_clips(table, variant, protocol)), allowed, clips)


def counted(table: ScoreTable, variant: str, metric: str, protocol: Protocol) -> Values:
    """What each prompt counts for, shape (prompts,): mean over seeds, failed clips at the worst.

    A perceptual predictor barely notices a cut-off or runaway clip (DNSMOS even rewards some), so a
    clip that fails a gate does not keep its score where scores decide: in the primary metric and
    the constraints. A metric without a better direction keeps what was measured.
    """
    values = table.values[variant][metric]
    decides = {protocol.primary, *(constraint.metric for constraint in protocol.constraints)}
    if metric in decides and table.metrics[metric].direction != "neither":
        failed = {(clip.prompt, clip.seed) for clip in failed_clips(table, variant, protocol)}
        if failed:
            lost = np.array([key in failed for key in table.keys])
            values = np.where(lost, table.metrics[metric].worst, values)
    return table.by_prompt(values)


def check_constraints(
    table: ScoreTable, variant: str, protocol: Protocol, bootstrap: PairedBootstrap
) -> tuple[ConstraintCheck, ...]:
    """Every constraint whose metric was measured on both the variant and the base."""
    return tuple(
        _check(table, variant, constraint, protocol, bootstrap)
        for constraint in protocol.constraints
        if all(constraint.metric in table.values[of] for of in (variant, BASE_VARIANT))
    )


def _check(
    table: ScoreTable,
    variant: str,
    constraint: Constraint,
    protocol: Protocol,
    bootstrap: PairedBootstrap,
) -> ConstraintCheck:
    name, metric = constraint.metric, table.metrics[constraint.metric]
    base, ours = (counted(table, of, name, protocol) for of in (BASE_VARIANT, variant))
    change = ours - base
    towards_worse = {"lower": [change], "higher": [-change], "neither": [change, -change]}
    worst = max(towards_worse[metric.direction], key=bootstrap.upper)
    bound = bootstrap.upper(worst)
    excess = bound - constraint.margin
    return ConstraintCheck(
        metric=name,
        base=float(base.mean()),
        variant=float(ours.mean()),
        worsening=bootstrap.interval(worst),
        bound=bound,
        margin=constraint.margin,
        violation=0.0 if excess < _ROUNDING else excess / metric.span,
    )


def total_violation(failures: FailureGate, constraints: Iterable[ConstraintCheck]) -> float:
    """By how much a variant is infeasible: shares of clips and of metric ranges, summed."""
    return failures.violation + sum(check.violation for check in constraints)
