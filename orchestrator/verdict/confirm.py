"""The finalists on set B: tested once, together, on texts and seeds that chose nothing."""

from collections.abc import Sequence

from orchestrator.verdict.outcome import Confirmation, Finding, Outcome, VariantRow
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.stats import better_than_base, holm
from orchestrator.verdict.table import Values


def confirm(
    rows: Sequence[VariantRow], gains: Sequence[Values], protocol: Protocol
) -> tuple[Confirmation, ...]:
    """Test every finalist against the base.

    Args:
        rows: the finalists' numbers on set B.
        gains: their paired differences to the base by prompt, positive is better.
        protocol: for its significance and smallest effect.
    """
    p_values = [better_than_base(gain) for gain in gains]
    return tuple(
        Confirmation(row, p, p_holm, _finding(row, p_holm, protocol))
        for row, p, p_holm in zip(rows, p_values, holm(p_values), strict=True)
    )


def without_winner(confirmed: Sequence[Confirmation]) -> Outcome:
    """What a sweep ends in whose finalists are none of them better."""
    if all(each.row.gain.high < 0 for each in confirmed):
        return "REGRESSION"
    if any(each.finding == "undecided" for each in confirmed):
        return "INCONCLUSIVE"
    return "DO-NOT-FINE-TUNE"


def _finding(row: VariantRow, p_holm: float, protocol: Protocol) -> Finding:
    if row.failures.violation or any(c.worsening.mean > c.margin for c in row.constraints):
        return "ruled out"
    if row.gain.high <= protocol.min_effect:
        return "no better"
    shown = p_holm < protocol.significance and row.gain.low > 0
    if shown and row.gain.mean >= protocol.min_effect and row.feasible:
        return "better"
    return "undecided"
