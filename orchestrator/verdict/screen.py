"""The screen on set A: which few variants are worth confirming on set B."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.table import VariantInfo

SHORTLISTED = 3
"""One in so many variants speaks the rest of set A: successive halving with eta 3 (Jamieson and
Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization")."""


def choose_shortlist(screen: Comparison, protocol: Protocol) -> list[str]:
    """The variants that speak the rest of set A, the best first; none if it has no rest.

    The best third by objective, and the best of each rank, so that no rank is given up after a
    few prompts.

    Args:
        screen: over the prompts that every variant speaks.
        protocol: over all of set A.
    """
    if not protocol.rest:
        return []
    scored = [v for v in screen.table.adapted if screen.has_scores(v.id)]
    ordered = sorted(scored, key=lambda v: (-screen.assess(v.id).objective, v.id))
    best_of_rank: dict[int | None, VariantInfo] = {}
    for variant in ordered:
        best_of_rank.setdefault(variant.rank, variant)
    kept = {v.id for v in (*ordered[: -(-len(ordered) // SHORTLISTED)], *best_of_rank.values())}
    return [v.id for v in ordered if v.id in kept]


def choose_finalists(screen: Comparison) -> list[str]:
    """The variants to confirm on set B, the best first; none if none is feasible.

    One of each trial, since others of it would cost a test and hardly differ: of what cannot be
    told apart from the trial's best variant, the earliest epoch, and there the middle of the
    stretch of scales that does as well. Of these the best ``protocol.finalists``, without those
    that are clearly worse than the best: each more makes every test stricter.

    Args:
        screen: over all of set A.
    """
    feasible = [
        v for v in screen.table.adapted if screen.has_scores(v.id) and screen.violation(v.id) == 0
    ]

    def tied_with_best(variants: Iterable[VariantInfo]) -> list[VariantInfo]:
        among = sorted(variants, key=lambda v: (-screen.gains(v.id).mean(), v.id))
        return [v for v in among if screen.is_tied(among[0].id, v.id)]

    of_trials = [
        _middle_of_tied_scales(tied_with_best(variants), feasible)
        for _, variants in groupby(sorted(feasible, key=_trial), key=_trial)
    ]
    if not of_trials:
        return []
    return [v.id for v in tied_with_best(of_trials)[: screen.protocol.finalists]]


def _middle_of_tied_scales(
    tied: Sequence[VariantInfo], feasible: Sequence[VariantInfo]
) -> VariantInfo:
    """Of a trial's best variants the one whose neighbours in scale do as well.

    A scale at the edge of what works owes more to luck than one in the middle.
    """
    epoch = min(v.epoch for v in tied)
    best = next(v for v in tied if v.epoch == epoch)
    scales = sorted(
        (v for v in feasible if (_trial(v), v.epoch) == (_trial(best), epoch)),
        key=lambda v: v.lora_scale,
    )
    first = last = scales.index(best)
    while first > 0 and scales[first - 1] in tied:
        first -= 1
    while last < len(scales) - 1 and scales[last + 1] in tied:
        last += 1
    return scales[(first + last) // 2]


def _trial(variant: VariantInfo) -> str:
    return variant.trial or variant.id
