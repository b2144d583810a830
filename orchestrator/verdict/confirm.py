"""The tests on set B: finalists against the base, and a challenger against the champion."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scipy.special import ndtri

from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict import sentences
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.outcome import Confirmation, FinalistFinding, Outcome, VariantRow
from orchestrator.verdict.protocol import GROWING, LABELS, Protocol
from orchestrator.verdict.stats import (
    Interval,
    better_than_base,
    given_selection,
    holm,
    prompts_needed,
    prompts_to_clear,
)
from orchestrator.verdict.table import ScoreTable, VariantInfo


@dataclass(frozen=True)
class Decision:
    """The outcome of testing the finalists on fresh prompts."""

    outcome: Outcome
    winner: Confirmation | None
    first: Confirmation
    """The winner, or else the finalist that set A put first."""
    confirmed: tuple[Confirmation, ...]
    prompts_needed: int | None
    """If inconclusive: how many such prompts would likely decide."""


def decide(fresh: Comparison, finalists: Sequence[str]) -> Decision:
    """Test every finalist against the base.

    Args:
        fresh: the finalists and the base on prompts that chose nothing.
        finalists: in the order of set A's choice.
    """
    rule = fresh.protocol
    p_values = [better_than_base(fresh.gains(name)) for name in finalists]
    confirmed = []
    for name, p, p_holm in zip(finalists, p_values, holm(p_values), strict=True):
        row = fresh.row(name)
        finding = _finding(fresh, row, p_holm)
        level = rule.significance / sum(other >= p for other in p_values)
        claim = _claim(row.gain, level, rule) if finding == "better" else None
        confirmed.append(Confirmation(row, p, p_holm, finding, claim))
    winner = _smallest_tied_with_best(fresh, confirmed)
    outcome = "PROMOTE-PENDING-LISTENING" if winner else _without_winner(fresh, confirmed)
    # Without a winner the one that set A put first: to take the best on set B is to choose again.
    first = winner or confirmed[0]
    needed = None
    if outcome == "INCONCLUSIVE":
        needed = _enough_prompts(fresh, first.row, len(finalists))
    return Decision(outcome, winner, first, tuple(confirmed), needed)


def _finding(fresh: Comparison, row: VariantRow, p_holm: float) -> FinalistFinding:
    rule = fresh.protocol
    if fresh.is_harmful(row.id):
        return "ruled out"
    if _most(fresh, row.id) <= rule.min_effect:
        return "no better"
    shown = p_holm < rule.significance and row.gain.low > 0
    if shown and row.gain.mean >= rule.min_effect and row.feasible:
        return "better"
    return "undecided"


def _most(fresh: Comparison, variant: str) -> float:
    """The upper end of a finalist's gain, whatever was not scored."""
    return fresh.bootstrap.interval(fresh.lenient.gains(variant)).high


def _claim(gain: Interval, level: float, rule: Protocol) -> Interval:
    """The gain of a finalist that was found better, given that it had to be found.

    Args:
        gain: on set B.
        level: of the finalist's own test in Holm's order.
        rule: of the verdict.
    """
    error = (gain.high - gain.low) / (2 * float(ndtri((1 + rule.confidence) / 2)))
    # The three conditions of a finding, each as the least mean that meets it.
    least = max(rule.min_effect, gain.mean - gain.low, float(ndtri(1 - level)) * error)
    return given_selection(gain, min(least, gain.mean), rule.confidence)


def _smallest_tied_with_best(
    fresh: Comparison, confirmed: Sequence[Confirmation]
) -> Confirmation | None:
    """Of the finalists that are better, the smallest change that cannot be told from the best."""
    better = [each for each in confirmed if each.finding == "better"]
    if not better:
        return None
    best = max(better, key=lambda each: each.row.gain.mean)

    def size(each: Confirmation) -> tuple[float, int, float, str]:
        variant = fresh.table.variants[each.row.id]
        rank = math.inf if variant.rank is None else variant.rank
        return rank, variant.epoch, -each.row.gain.mean, variant.id

    return min((each for each in better if fresh.is_tied(best.row.id, each.row.id)), key=size)


def _without_winner(fresh: Comparison, confirmed: Sequence[Confirmation]) -> Outcome:
    if all(_most(fresh, each.row.id) < 0 for each in confirmed):
        return "REGRESSION"
    if any(each.finding == "undecided" for each in confirmed):
        return "INCONCLUSIVE"
    return "DO-NOT-FINE-TUNE"


def _enough_prompts(fresh: Comparison, row: VariantRow, finalists: int) -> int | None:
    """How many prompts would likely decide on the variant; None if no more of them would."""
    if fresh.lenient is not fresh:
        return None  # The scores that are missing may decide.
    rule, n = fresh.protocol, row.gain.n
    spread = float(fresh.gains(row.id).std(ddof=1))
    counts: list[int | None] = [
        prompts_needed(spread, rule.min_effect, finalists, rule.significance)
    ]
    gate = row.failures
    if gate.violation:
        half, room = gate.excess.high - gate.excess.mean, gate.tolerance - gate.excess.mean
        counts.append(prompts_to_clear(half, room, n, (1 + rule.confidence) / 2))
    for check in row.constraints:
        if check.violation:
            half, room = check.bound - check.worsening.mean, check.margin - check.worsening.mean
            counts.append(prompts_to_clear(half, room, n, rule.confidence))
    if None in counts:
        return None
    needed = max(count for count in counts if count is not None)
    return needed if needed > n else None


_CHAMPION, _CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Contest:
    """How a challenger fared against the champion."""

    difference: Interval
    """Challenger minus champion in the primary metric, over prompts; positive is better."""
    wins: bool
    reason: str
    """Why the challenger wins, or why not."""


def contest(
    champion: Sequence[ClipScores], challenger: Sequence[ClipScores], protocol: Protocol
) -> Contest:
    """Whether the challenger is better: its interval lies above 0 and no rule is broken.

    Args:
        champion: scores of the champion and its base on the prompts.
        challenger: those of the new voice and its base.
        protocol: the rule of both, over these prompts.

    Raises:
        ScoreTableError: the scores cannot be paired.
    """
    rows = [
        *(row for row in challenger if row.variant == BASE_VARIANT),
        *_renamed(_CHALLENGER, challenger),
        *_renamed(_CHAMPION, champion),
    ]
    infos = [VariantInfo.unlisted(name) for name in (BASE_VARIANT, _CHAMPION, _CHALLENGER)]
    both = Comparison(ScoreTable.build(infos, rows, protocol), protocol)
    difference = both.bootstrap.interval(both.lead(_CHALLENGER, _CHAMPION))
    measured = (
        f"{protocol.primary} against the champion's is {difference.mean:+.3g} "
        f"({difference.low:+.3g} to {difference.high:+.3g} over {difference.n} prompts)"
    )
    if broken := sentences.broken_rules(both.row(_CHALLENGER)):
        return Contest(difference, False, "; ".join(broken))
    if difference.low <= 0:
        return Contest(difference, False, f"not shown to be better: {measured}")
    return Contest(difference, True, f"better: {measured}")


def differing_keys(one: Protocol, other: Protocol) -> tuple[str, ...]:
    """The fields in which two protocols differ; none where voices under them compare.

    What a sweep grew by since changes no score.
    """
    grown = (*GROWING, *LABELS, "confirmed_before", "added_after")
    differing = [
        name
        for name in type(one).model_fields
        if name not in grown and getattr(one, name) != getattr(other, name)
    ]
    shared = min(len(one.prompts), len(other.prompts))
    if one.prompts[:shared] != other.prompts[:shared]:
        differing.append("prompts")
    return tuple(differing)


def _renamed(name: str, rows: Iterable[ClipScores]) -> list[ClipScores]:
    return [replace(row, variant=name) for row in rows if row.variant != BASE_VARIANT]
