"""The words of a listening test: what its panels found, for a person who was not there."""

from collections.abc import Mapping, Sequence

from orchestrator.verdict.outcome import ListeningReport, Outcome, PanelResult, Verdict
from orchestrator.verdict.protocol import Listening, Protocol

_NAMED = 3
"""Excluded raters that a sentence names; ``verdict.json`` and the report have all."""
_FINDINGS: Mapping[Outcome, str] = {
    "PROMOTE": "better",
    "DO-NOT-FINE-TUNE": "no gain that counts",
    "REGRESSION": "worse",
}


def after_listening(
    outcome: Outcome,
    verdict: Verdict,
    reports: Sequence[ListeningReport],
    unheard: Mapping[str, Outcome | None],
    winner: str | None,
    protocol: Protocol,
) -> str:
    """The sentence after a listening test.

    Args:
        outcome: of metrics and listeners together.
        verdict: of the metrics, with their sentence.
        reports: of the panels, those of languages where there are several.
        unheard: languages without a report, with the metrics' refusal, or None where it is awaited.
        winner: the finalist that listeners chose, where one was.
        protocol: the rule.
    """
    before = verdict.sentence
    finalists = [report for report in reports if report.group is None]
    panels = [
        f"{report.variant}: {_panel(report, protocol)}"
        if len(finalists) > 1 and report.group is None
        else _panel(report, protocol)
        for report in reports
    ]
    panels += [
        f"language {name}: {f'{refusal} by the metrics' if refusal else 'nobody has rated it'}"
        for name, refusal in unheard.items()
    ]
    told = "; ".join(panels)
    confirmed = before.replace(", once listeners confirm it", "", 1)
    if outcome == "PROMOTE" and winner not in (None, verdict.variant):
        return f"Promote {winner}, which listeners chose. {told}. The metrics said: {before}"
    if outcome == "PROMOTE":
        return f"{confirmed} {told}."
    if outcome == "PROMOTE-BY-LANGUAGE":
        for_it = [r.group[1] for r in reports if r.group and r.verdict == "PROMOTE"]
        return f"Promote for {', '.join(for_it)} alone. {told}. The metrics said: {before}"
    if outcome == "REGRESSION":
        return f"Listeners hear that fine-tuning made it worse: {told}. The metrics said: {before}"
    if outcome == "DO-NOT-FINE-TUNE":
        return (
            f"Do not fine-tune: {told}, below the smallest gain that counts, "
            f"{protocol.listening.min_effect:g}. The metrics said: {before}"
        )
    if outcome == "PROMOTE-PENDING-LISTENING":
        return f"{before} So far {told}."
    if verdict.variant is not None:
        return f"Inconclusive: {told}. The metrics said: {before}"
    return f"{before} Listeners: {told}."


def not_chosen(winner: str) -> str:
    """Why the metrics' winner is none."""
    return f"listeners chose {winner}"


def excluded_raters(report: ListeningReport) -> list[str]:
    """Each rater who does not count, with the reason."""
    return [f"{each.rater} {each.reason}" for each in report.excluded]


def _panel(report: ListeningReport, protocol: Protocol) -> str:
    listeners = "listener" if report.raters == 1 else "listeners"
    told = f"{report.raters} {listeners} over {report.sentences} sentences"
    if report.result:
        told += f" {_difference(report.result, report.confidence)}"
    elif report.raters == 1:
        preferred = report.preferred
        told += (
            f" prefers it in {preferred.variant} and the base in {preferred.base}, "
            "which is one person's taste and tells nothing of others"
        )
    if report.group:
        finding = _FINDINGS.get(report.verdict, "undecided")
        told = f"{report.group[0]} {report.group[1]}: {finding}, {told}"
    if undecided := _undecided(report, protocol.listening):
        told += f", {undecided}"
    if names := excluded_raters(report):
        more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
        told += f" (not counted: {'; '.join([*names[:_NAMED], *more])})"
    return told


def _difference(result: PanelResult, confidence: float) -> str:
    difference = result.difference
    by = "prefer it to the base by "
    if result.mos is not None:
        by = f"rate it {result.mos:.2f} and the base {result.base_mos:.2f}, a difference of "
    told = (
        f"{by}{difference.mean:+.2f} points ({100 * confidence:.3g}% two-way interval "
        f"{difference.low:+.2f} to {difference.high:+.2f}"
    )
    if means := [part.mean for part in result.without.values()]:
        told += f"; without any one listener {min(means):+.2f} to {max(means):+.2f}"
    return f"{told})"


def _undecided(report: ListeningReport, rule: Listening) -> str:
    """What a panel lacks; empty where it has decided."""
    if report.raters < rule.raters or report.sentences < rule.sentences:
        return f"where {rule.raters} listeners and {rule.sentences} sentences decide"
    if report.turns_on:
        return f"which turns on {' or '.join(report.turns_on)}: ask more listeners"
    if report.verdict == "PROMOTE-PENDING-LISTENING":
        return f"which decides neither way ({rule.min_effect:g} counts): ask more listeners"
    return ""
