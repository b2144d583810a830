"""The tests on set B: finalists against the base, and a challenger against the champion."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from scipy.special import ndtri

from jobs.metrics.base import ClipScores
from jobs.spec.items import ITEM_METRICS
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
    holm_steps,
    prompts_needed,
    prompts_to_clear,
)
from orchestrator.verdict.table import ScoreTable, VariantInfo


@dataclass(frozen=True)
class Final:
    """Finalists to be tested against the base on prompts that chose nothing."""

    fresh: Comparison
    shares: Mapping[str, float]
    """Of the significance, by finalist, in the order of set A's choice. Those of all finals of a
    sweep are 1 together."""

    @property
    def is_scored(self) -> bool:
        """Whether there are finalists, and all of them and the base have scores here."""
        wanted = (BASE_VARIANT, *self.shares)
        return len(wanted) > 1 and all(map(self.fresh.has_scores, wanted))


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


def decide(finals: Sequence[Final]) -> list[Decision | None]:
    """Test all finalists against the base, on all prompts and on those of each group.

    All tests together err at one level. Where a group cannot tell the winner of the first final
    from its own best, that is its winner too: one voice for all.

    Args:
        finals: of the sweep, then of its languages and speakers.

    Returns:
        One for each final; None where it has no finalists, or not the scores of all.
    """
    tests = [(final, name) for final in finals for name in final.shares]
    p_values = [
        better_than_base(final.fresh.gains(name)) if final.is_scored else 1.0
        for final, name in tests
    ]
    shares = [final.shares[name] for final, name in tests]
    tested = zip(p_values, holm(p_values, shares), holm_steps(p_values, shares), strict=True)
    decisions: list[Decision | None] = []
    preferred = None
    for final in finals:
        of_final = [*islice(tested, len(final.shares))]
        decision = _decide(final, of_final, preferred) if final.is_scored else None
        decisions.append(decision)
        if final is finals[0] and decision and decision.winner:
            preferred = decision.winner.row.id
    return decisions


def _decide(
    final: Final, tested: Sequence[tuple[float, float, float]], preferred: str | None
) -> Decision:
    """The outcome of one final, of each finalist's p, adjusted p, and share of the level."""
    fresh, rule, confirmed = final.fresh, final.fresh.protocol, []
    for name, (p, p_holm, step) in zip(final.shares, tested, strict=True):
        row = fresh.row(name)
        finding = _finding(fresh, row, p_holm)
        claim = _claim(row.gain, step * rule.significance, rule) if finding == "better" else None
        confirmed.append(Confirmation(row, p, p_holm, finding, claim))
    winner = _smallest_tied_with_best(fresh, confirmed, preferred)
    outcome = "PROMOTE-PENDING-LISTENING" if winner else _without_winner(fresh, confirmed)
    # Without a winner the one that set A put first: to take the best on set B is to choose again.
    first = winner or confirmed[0]
    needed = None
    if outcome == "INCONCLUSIVE":
        needed = _enough_prompts(fresh, first.row, final.shares[first.row.id] * rule.significance)
    return Decision(outcome, winner, first, tuple(confirmed), needed)


def _finding(fresh: Comparison, row: VariantRow, p_holm: float) -> FinalistFinding:
    rule, most = fresh.protocol, fresh.most(row.id)
    if fresh.is_harmful(row.id):
        return "ruled out"
    if most < 0:
        return "worse"
    if most <= rule.min_effect:
        return "no better"
    shown = p_holm < rule.significance and row.gain.low > 0
    if shown and row.gain.mean >= rule.min_effect and row.feasible:
        return "better"
    return "undecided"


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
    fresh: Comparison, confirmed: Sequence[Confirmation], preferred: str | None
) -> Confirmation | None:
    """Of the finalists that are better, one that cannot be told from the best.

    The ``preferred``, or else the smallest change.
    """
    better = [each for each in confirmed if each.finding == "better"]
    if not better:
        return None
    best = max(better, key=lambda each: each.row.gain.mean)

    def size(each: Confirmation) -> tuple[bool, float, int, float, str]:
        variant = fresh.table.variants[each.row.id]
        rank = math.inf if variant.rank is None else variant.rank
        return variant.id != preferred, rank, variant.epoch, -each.row.gain.mean, variant.id

    return min((each for each in better if fresh.is_tied(best.row.id, each.row.id)), key=size)


def _without_winner(fresh: Comparison, confirmed: Sequence[Confirmation]) -> Outcome:
    if all(fresh.most(each.row.id) < 0 for each in confirmed):
        return "REGRESSION"
    if any(each.finding == "undecided" for each in confirmed):
        return "INCONCLUSIVE"
    return "DO-NOT-FINE-TUNE"


def _enough_prompts(fresh: Comparison, row: VariantRow, level: float) -> int | None:
    """How many prompts would likely decide on the variant, which is tested at ``level``.

    None if no more of them would.
    """
    if fresh.lenient is not fresh:
        return None  # The scores that are missing may decide.
    rule, n = fresh.protocol, row.gain.n
    spread = float(fresh.gains(row.id).std(ddof=1))
    counts: list[int | None] = [prompts_needed(spread, rule.min_effect, level)]
    gate = row.failures
    if gate.violation:
        half, room = gate.excess.high - gate.excess.mean, gate.tolerance - gate.excess.mean
        counts.append(prompts_to_clear(half, room, n, (1 + rule.confidence) / 2))
    for check in row.constraints:
        if check.violation and check.metric in ITEM_METRICS:
            counts.append(None)  # more prompts tell nothing of text
        elif check.violation:
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
    protocol = protocol.of_clips()  # the verdicts of both have heard what they answer
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
