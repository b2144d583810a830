"""The words of a verdict: sentences with their numbers, for a person who was not there."""

from collections.abc import Mapping, Sequence

from orchestrator.verdict.gates import ConstraintCheck, FailureGate
from orchestrator.verdict.outcome import (
    Confirmation,
    GroupVerdict,
    ListeningReport,
    Outcome,
    VariantRow,
)
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
    return (
        f"{compared(check)}: worse by {check.worsening.mean:.2g} and up to {check.bound:.2g}, "
        f"{check.margin:g} allowed"
    )


def broken_rules(row: VariantRow) -> list[str]:
    """The failure gate and the constraints that do not hold."""
    gate = [gate_reason(row.failures)] if row.failures.violation else []
    return [*gate, *(constraint_reason(check) for check in row.constraints if check.violation)]


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


def preferred_reason(gain: Interval, winners: Interval) -> str:
    """Why a finalist that was better than the base is not the winner."""
    if gain.mean > winners.mean:
        return "not told apart from the winner, which changes the model less"
    return "gains no more than the winner"


NOT_A_FINALIST = "not among the finalists: others of set A did as well or better"
NOT_SHORTLISTED = "not on the shortlist: enough others did better on the first part of set A"


def on_all_of_a(row: VariantRow) -> tuple[str, ...]:
    """The reasons of a variant on the shortlist."""
    return tuple(f"all of set A: {reason}" for reason in row.reasons)


def finding_reasons(confirmed: Confirmation, protocol: Protocol) -> tuple[str, ...]:
    """Why set B did not show a finalist to be better."""
    row = confirmed.row
    no_gain = (no_gain_reason(row.gain, protocol), _p_reason(confirmed, protocol))
    gain = [reason for reason in no_gain if reason]
    # A gain that comes with failed clips or another voice is no news.
    return tuple(f"set B: {reason}" for reason in (broken_rules(row) or gain[:1]))


def _p_reason(confirmed: Confirmation, protocol: Protocol) -> str | None:
    if confirmed.p_holm < protocol.significance:
        return None
    return f"p {confirmed.p_holm:.2g} after Holm is not below {protocol.significance:g}"


def promotion(winner: Confirmation, name: str, protocol: Protocol) -> str:
    """The sentence for a variant that won."""
    held = "".join(f"; {compared(check)}" for check in winner.row.constraints)
    return (
        f"Promote {name}, once listeners confirm it: on fresh prompts {protocol.primary} is better "
        f"than the base's by {effect(winner.row.gain, protocol.confidence)}, "
        f"p {winner.p_holm:.2g}{held}."
    )


def refusal(
    outcome: Outcome,
    best: Confirmation,
    name: str,
    confirmed: Sequence[Confirmation],
    needed: int | None,
    protocol: Protocol,
) -> str:
    """The sentence for a sweep whose finalists were heard on set B, and none was better."""
    finalists = "finalist" if len(confirmed) == 1 else "finalists"
    of_best = (
        f"the first of {len(confirmed)} {finalists}, {name}, changes {protocol.primary} for the "
        f"better by {effect(best.row.gain, protocol.confidence)}"
    )
    why = "; ".join(finding_reasons(best, protocol))
    if outcome == "REGRESSION":
        return f"Fine-tuning made it worse: on fresh prompts {of_best}."
    if outcome == "DO-NOT-FINE-TUNE":
        return f"Do not fine-tune: on fresh prompts {of_best}; {why}."
    more = f" About {needed} prompts in set B would likely decide." if needed else ""
    return f"Inconclusive: on fresh prompts {of_best}; {why}.{more}"


def heard(outcome: Outcome, report: ListeningReport, before: str, protocol: Protocol) -> str:
    """The sentence after a listening test; ``before`` is the metrics' own."""
    rule, difference = protocol.listening, report.difference
    of_test = (
        f"{report.raters} listeners over {report.sentences} sentences rate it {report.mos:.2f} and "
        f"the base {report.base_mos:.2f}, a difference of {difference.mean:+.2f} points "
        f"({protocol.confidence:.0%} two-way interval {difference.low:+.2f} to "
        f"{difference.high:+.2f})"
    )
    if outcome == "PROMOTE":
        return f"{before.replace(', once listeners confirm it', '', 1)} {of_test}."
    if outcome == "REGRESSION":
        return (
            f"Listeners hear that fine-tuning made it worse: {of_test}. The metrics said: {before}"
        )
    if outcome == "DO-NOT-FINE-TUNE":
        return (
            f"Do not fine-tune: {of_test}, below the smallest gain that counts, "
            f"{rule.min_effect:g}. The metrics said: {before}"
        )
    if report.raters < rule.raters or report.sentences < rule.sentences:
        wanted = f"{rule.raters} listeners and {rule.sentences} sentences decide"
    else:
        wanted = f"that decides neither way ({rule.min_effect:g} counts); ask more listeners"
    return f"{before} So far {of_test}; {wanted}."


def none_allowed(best: VariantRow, name: str, rows: Sequence[VariantRow]) -> str:
    """The sentence for a sweep in which no variant keeps the rules; ``rows`` are those scored."""
    return (
        f"Do not fine-tune: every one of the {count(rows)} fails a gate or a constraint; "
        f"the nearest, {name}, has {'; '.join(best.reasons)}."
    )


def silence(variants: Sequence[VariantInfo]) -> str:
    """The sentence for a sweep without a variant and a base to compare."""
    return (
        f"No verdict: of {len(variants)} variants and the base, too few have every score that the "
        "protocol asks for; see the failures, then run the sweep again."
    )


def unheard(lacking: Sequence[str], prompts: str) -> str:
    """The sentence for a sweep in which not all said what they were to be chosen by."""
    return (
        f"No verdict: {', '.join(lacking)} lack scores of {prompts}; "
        "score their clips of it, then judge again."
    )


def warning(groups: Sequence[GroupVerdict]) -> str:
    """What must be said beside a verdict of languages and speakers that got worse."""
    worse = [f"{each.group} {each.name}" for each in groups if each.verdict == "REGRESSION"]
    return f" But it is worse than the base for {', '.join(worse)}." if worse else ""


def count(rows: Sequence[VariantRow]) -> str:
    """How many variants, in words that agree."""
    return f"{len(rows)} variant" if len(rows) == 1 else f"{len(rows)} variants"
