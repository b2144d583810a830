"""The finalists on set B: tested once, together, on texts and seeds that chose nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.verdict.outcome import Confirmation, Finding, Outcome, VariantRow
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.screen import bootstrap_of, gains, size
from orchestrator.verdict.stats import better_than_base, holm, prompts_needed
from orchestrator.verdict.table import ScoreTable
from orchestrator.verdict.variant_rows import row_of


@dataclass(frozen=True)
class Decision:
    """What a set of fresh prompts says of the finalists."""

    outcome: Outcome
    winner: Confirmation | None
    first: Confirmation
    """The winner, or else the finalist that set A put first."""
    confirmed: tuple[Confirmation, ...]
    prompts_needed: int | None
    """If inconclusive: how many such prompts would likely decide."""


def decide(table: ScoreTable, finalists: Sequence[str], protocol: Protocol) -> Decision:
    """Test every finalist against the base.

    Args:
        table: their scores and the base's on fresh prompts.
        finalists: in the order of set A's choice.
        protocol: over the prompts of ``table``.
    """
    by_prompt = {name: gains(table, name, protocol) for name in finalists}
    p_values = [better_than_base(gain) for gain in by_prompt.values()]
    confirmed = tuple(
        Confirmation(row, p, p_holm, _finding(row, p_holm, protocol))
        for row, p, p_holm in zip(
            (row_of(table, name, protocol) for name in finalists),
            p_values,
            holm(p_values),
            strict=True,
        )
    )
    winner = _most_modest(table, confirmed, protocol)
    outcome = "PROMOTE-PENDING-LISTENING" if winner else _without_winner(confirmed)
    # Without a winner the one that set A put first: to take the best on set B is to choose again.
    first = winner or confirmed[0]
    needed = None
    if outcome == "INCONCLUSIVE":
        spread = float(by_prompt[first.row.id].std(ddof=1))
        needed = _enough_prompts(first.row, spread, len(finalists), protocol)
    return Decision(outcome, winner, first, confirmed, needed)


def _finding(row: VariantRow, p_holm: float, protocol: Protocol) -> Finding:
    if row.failures.violation or any(c.worsening.mean > c.margin for c in row.constraints):
        return "ruled out"
    if row.gain.high <= protocol.min_effect:
        return "no better"
    shown = p_holm < protocol.significance and row.gain.low > 0
    if shown and row.gain.mean >= protocol.min_effect and row.feasible:
        return "better"
    return "undecided"


def _most_modest(
    table: ScoreTable, confirmed: Sequence[Confirmation], protocol: Protocol
) -> Confirmation | None:
    """Of the finalists that are better, the smallest change that cannot be told from the best."""
    better = [each for each in confirmed if each.finding == "better"]
    if not better:
        return None
    best = max(better, key=lambda each: each.row.gain.mean)
    of_best = gains(table, best.row.id, protocol)
    tied = [
        each
        for each in better
        if bootstrap_of(protocol)
        .interval(of_best - gains(table, each.row.id, protocol))
        .includes_zero
    ]
    return min(tied, key=lambda e: (*size(table.variants[e.row.id]), -e.row.gain.mean, e.row.id))


def _without_winner(confirmed: Sequence[Confirmation]) -> Outcome:
    if all(each.row.gain.high < 0 for each in confirmed):
        return "REGRESSION"
    if any(each.finding == "undecided" for each in confirmed):
        return "INCONCLUSIVE"
    return "DO-NOT-FINE-TUNE"


def _enough_prompts(
    row: VariantRow, spread: float, finalists: int, protocol: Protocol
) -> int | None:
    """How many prompts would likely decide on the variant; None if no more of them would."""
    counts = []
    if (effect := protocol.min_effect or row.gain.mean) > 0:
        counts.append(prompts_needed(spread, effect, finalists, protocol.significance))
    for check in row.constraints:
        room = check.margin - check.worsening.mean
        if check.violation and room > 0:
            # A bound comes nearer to its mean with the root of the number of prompts.
            nearer = (check.bound - check.worsening.mean) / room
            counts.append(math.ceil(row.gain.n * nearer**2))
    needed = max(counts, default=0)
    return needed if needed > row.gain.n else None
