"""The screen on set A: how good every variant is, and which few are worth confirming on set B."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.gates import (
    check_constraints,
    check_failures,
    counted,
    total_violation,
    unscored_clips,
)
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.stats import PairedBootstrap
from orchestrator.verdict.table import ScoreTable, Values, VariantInfo


def bootstrap_of(protocol: Protocol) -> PairedBootstrap:
    """The draws that all intervals of a table under ``protocol`` share."""
    return _bootstrap(
        len(protocol.prompts), protocol.bootstrap_resamples, protocol.confidence, protocol.seed
    )


# Set A's, its first part's and set B's; those of languages and speakers come and go.
_bootstrap = lru_cache(maxsize=4)(PairedBootstrap)


def gains(table: ScoreTable, variant: str, protocol: Protocol) -> Values:
    """Paired differences to the base, shape (prompts,), signed so that positive is better."""
    ours, base = (counted(table, of, protocol.primary, protocol) for of in (variant, BASE_VARIANT))
    return ours - base if table.metrics[protocol.primary].direction == "higher" else base - ours


def objective(table: ScoreTable, variant: str, protocol: Protocol) -> float:
    """How good a variant is, always to be maximised and always finite.

    The mean gain in the primary metric if the gates and constraints hold. If not, a value below
    every possible gain, falling with the violation (the feasibility rules of Deb 2000, "An
    efficient constraint handling method for genetic algorithms", section 3), so that a search can
    still tell which way leads out. A constraint on a metric that only finalists get is left out
    while the variant does not have it.

    Raises:
        KeyError: no such variant in the table.
    """
    violation = _violation(table, variant, protocol, bootstrap_of(protocol))
    gain = float(gains(table, variant, protocol).mean())
    return feasible_first(gain, violation, table.metrics[protocol.primary].span)


def feasible_first(gain: float, violation: float, span: float) -> float:
    """The objective from its parts; ``span`` is the range of the primary metric."""
    # No gain is below -span: both means lie within the primary metric's bounds.
    return max(gain, -span) if violation == 0 else -span - violation


SHORTLISTED = 3
"""One in so many variants says the rest of set A: successive halving with eta 3 (Jamieson and
Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization")."""


def choose_shortlist(table: ScoreTable, protocol: Protocol) -> list[str]:
    """The variants that say the rest of set A, the best first; none if it has no rest.

    The best third by :func:`objective`, and the best of each rank, so that no rank is given up
    after a few prompts.

    Args:
        table: of what every variant says.
        protocol: over all of set A.
    """
    if not protocol.rest:
        return []
    first = protocol.screening()
    scored = [v for v in table.adapted if not is_silent(table, v.id, first)]
    value = {v.id: objective(table, v.id, first) for v in scored}
    ordered = sorted(scored, key=lambda v: (-value[v.id], v.id))
    best_of_rank: dict[int | None, VariantInfo] = {}
    for variant in ordered:
        best_of_rank.setdefault(variant.rank, variant)
    kept = {v.id for v in (*ordered[: -(-len(ordered) // SHORTLISTED)], *best_of_rank.values())}
    return [v.id for v in ordered if v.id in kept]


def choose_finalists(table: ScoreTable, protocol: Protocol) -> list[str]:
    """The variants to confirm on set B, the best first; none if none is feasible.

    One of each trial, since others of it would cost a test and hardly differ: of what cannot be
    told apart from the trial's best variant, the earliest epoch, and there the middle of the
    stretch of scales that does as well. Of these the best ``protocol.finalists``, without those
    that are clearly worse than the best: each more makes every test stricter.
    """
    bootstrap = bootstrap_of(protocol)
    scored = [v for v in table.adapted if not is_silent(table, v.id, protocol)]
    feasible = [v for v in scored if _violation(table, v.id, protocol, bootstrap) == 0]
    gain = {v.id: gains(table, v.id, protocol) for v in feasible}

    def equal_to_best(variants: Iterable[VariantInfo]) -> list[VariantInfo]:
        among = sorted(variants, key=lambda v: (-gain[v.id].mean(), v.id))
        best = gain[among[0].id]
        return [v for v in among if bootstrap.interval(best - gain[v.id]).includes_zero]

    of_trials = [
        _steadiest(equal_to_best(variants), feasible)
        for _, variants in groupby(sorted(feasible, key=_trial), key=_trial)
    ]
    if not of_trials:
        return []
    return [v.id for v in equal_to_best(of_trials)[: protocol.finalists]]


def _steadiest(equals: Sequence[VariantInfo], feasible: Sequence[VariantInfo]) -> VariantInfo:
    """Of a trial's best variants the one whose neighbours in scale do as well.

    A scale at the edge of what works owes more to luck than one in the middle.
    """
    epoch = min(v.epoch for v in equals)
    best = next(v for v in equals if v.epoch == epoch)
    scales = sorted(
        (v for v in feasible if (_trial(v), v.epoch) == (_trial(best), epoch)),
        key=lambda v: v.lora_scale,
    )
    first = last = scales.index(best)
    while first > 0 and scales[first - 1] in equals:
        first -= 1
    while last < len(scales) - 1 and scales[last + 1] in equals:
        last += 1
    return scales[(first + last) // 2]


def is_silent(table: ScoreTable, variant: str, protocol: Protocol) -> bool:
    """Whether no clip of the variant has the scores that decide."""
    return len(unscored_clips(table, variant, protocol)) == len(table.keys)


def _violation(
    table: ScoreTable, variant: str, protocol: Protocol, bootstrap: PairedBootstrap
) -> float:
    checks = check_constraints(table, variant, protocol, bootstrap)
    return total_violation(check_failures(table, variant, protocol), checks)


def _trial(variant: VariantInfo) -> str:
    return variant.trial or variant.id


def size(variant: VariantInfo) -> tuple[float, int]:
    """How much a variant changes the model; the smaller of two that are equal is preferred."""
    return math.inf if variant.rank is None else variant.rank, variant.epoch
