"""The words of a verdict: sentences with their numbers, for a person who was not there."""

from collections.abc import Mapping, Sequence

from orchestrator.verdict.gates import ConstraintCheck, FailureGate
from orchestrator.verdict.outcome import VariantRow
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.stats import Interval
from orchestrator.verdict.table import ClipKey, VariantInfo

BASE_INCOMPLETE = "nothing to compare with: the base lacks scores"


def effect(interval: Interval, confidence: float) -> str:
    """A signed mean with its interval and the number of prompts."""
    return (
        f"{interval.mean:+.3g} ({confidence:.0%} interval {interval.low:+.3g} to "
        f"{interval.high:+.3g} over {interval.n} {'prompt' if interval.n == 1 else 'prompts'})"
    )


def gate_reason(gate: FailureGate) -> str:
    """Too many failed clips."""
    return f"{gate.failed} of {gate.clips} clips failed, {gate.allowed} allowed"


def constraint_reason(check: ConstraintCheck) -> str:
    """A constraint that is broken."""
    return f"{compared(check)}: worse by {check.worsening.mean:.2g}, {check.margin:g} allowed"


def compared(check: ConstraintCheck) -> str:
    """A constraint's metric on the variant and on the base."""
    return f"{check.metric} {check.variant:.3g} (base {check.base:.3g})"


def no_gain_reason(gain: Interval, protocol: Protocol) -> str | None:
    """Why the gain is not enough, or None if it is."""
    if gain.mean < protocol.min_effect:
        return f"gain {gain.mean:+.3g} is below the smallest that counts, {protocol.min_effect:g}"
    if gain.low <= 0:
        return f"gain {gain.mean:+.3g} is not clear of 0 (interval from {gain.low:+.3g})"
    return None


def no_scores_reason(unscored: Mapping[ClipKey, str]) -> str:
    """No clip has all its scores; says the first clip's reason."""
    return f"none of its {len(unscored)} clips was scored: {next(iter(unscored.values()))}"


def absent_reason(metric: str) -> str:
    """A constraint's metric that only finalists have."""
    return f"not a finalist: {metric} was not measured"


def preferred_reason(gain: Interval, winners: Interval) -> str:
    """Why a variant that passed is not the winner."""
    if gain.mean > winners.mean:
        return "not told apart from the winner, which changes the model less"
    return "gains no more than the winner"


def promotion(winner: VariantRow, name: str, protocol: Protocol) -> str:
    """The sentence for a variant that won."""
    held = "".join(f"; {compared(check)}" for check in winner.constraints)
    return (
        f"Promote {name}, once listeners confirm it: {protocol.primary} is better than the base's "
        f"by {effect(winner.gain, protocol.confidence)}{held}."
    )


def refusal(best: VariantRow, name: str, rows: Sequence[VariantRow], protocol: Protocol) -> str:
    """The sentence for a sweep in which nothing beats the base; ``rows`` are those judged."""
    if not best.feasible:
        return (
            f"Do not fine-tune: every one of the {count(rows)} fails a gate or a constraint; "
            f"the nearest, {name}, has {'; '.join(best.reasons)}."
        )
    out = sum(not row.feasible for row in rows)
    others = f"; {out} failed a gate or a constraint" if out else ""
    return (
        f"Do not fine-tune: of {count(rows)} the best allowed, {name}, changes {protocol.primary} "
        f"for the better by {effect(best.gain, protocol.confidence)}, and "
        f"{no_gain_reason(best.gain, protocol)}{others}."
    )


def silence(variants: Sequence[VariantInfo]) -> str:
    """The sentence for a sweep without a variant and a base to compare."""
    return (
        f"No verdict: of {len(variants)} variants and the base, too few have every score that the "
        "protocol asks for; see the failures, then run the sweep again."
    )


def count(rows: Sequence[VariantRow]) -> str:
    """How many variants, in words that agree."""
    return f"{len(rows)} variant" if len(rows) == 1 else f"{len(rows)} variants"
