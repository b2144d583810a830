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

    The best third by gain, and the best of each rank, so that no rank is given up after a few
    prompts. Those that break a rule by their means come after those that do not, and those that
    are shown to break one come last.

    Args:
        screen: over the prompts that every variant speaks.
        protocol: over all of set A.
    """
    if not protocol.rest:
        return []
    scored = [v for v in screen.table.adapted if screen.has_scores(v.id)]

    def preference(variant: VariantInfo) -> tuple[bool, bool, float, str]:
        harmful, found = screen.is_harmful(variant.id), screen.assess(variant.id)
        good = found.objective if harmful else float(screen.gains(variant.id).mean())
        return harmful, not screen.is_plausible(variant.id), -good, variant.id

    ordered = sorted(scored, key=preference)
    best_of_rank: dict[int | None, VariantInfo] = {}
    for variant in ordered:
        best_of_rank.setdefault(variant.rank, variant)
    kept = {v.id for v in (*ordered[: -(-len(ordered) // SHORTLISTED)], *best_of_rank.values())}
    return [v.id for v in ordered if v.id in kept]


def choose_finalists(screen: Comparison) -> list[str]:
    """The variants to confirm on set B, the best first; none if each is shown to break a rule.

    One of each trial, since others of it would cost a test and hardly differ: of what cannot be
    told apart from the trial's best variant, the earliest epoch, and there the middle of the
    stretch of scales that does as well. Of these the best ``protocol.finalists``, without those
    that are clearly worse than the best: each more makes every test stricter. Those of
    ``protocol.confirmed_before`` are finalists too, behind the others.

    They are taken from the variants that are shown to keep every rule; without any, from those
    that keep them by their means; without any, from those that are not shown to break one. A
    variant that is held back for lack of precision alone, and clearly better than the finalists,
    is confirmed too, last: set B has more prompts to tell.

    Args:
        screen: over all of set A.
    """
    chosen = _choose(screen)
    before = screen.protocol.confirmed_before if chosen else ()
    return [*chosen, *(variant for variant in before if variant not in chosen)]


def _choose(screen: Comparison) -> list[str]:
    """The finalists of set A's scores alone."""
    held, plausible, open_ = [], [], []
    for variant in screen.table.adapted:
        if not screen.has_scores(variant.id) or screen.is_harmful(variant.id):
            continue
        if screen.violation(variant.id) == 0:
            held.append(variant)
        elif screen.is_plausible(variant.id):
            plausible.append(variant)
        else:
            open_.append(variant)
    first, *others = [
        _best_of_trials(screen, tier) for tier in (held, plausible, open_) if tier
    ] or [[]]
    finalists = first[: screen.protocol.finalists]
    for best, *_ in others:
        ahead = screen.bootstrap.interval(screen.lead(best, first[0])).low > 0
        if ahead and screen.protocol.finalists > 1:
            return [*finalists[: screen.protocol.finalists - 1], best]
    return finalists


def _best_of_trials(screen: Comparison, tier: Sequence[VariantInfo]) -> list[str]:
    """One of each trial, the best first, without those that are clearly worse than the best."""

    def tied_with_best(variants: Iterable[VariantInfo]) -> list[VariantInfo]:
        among = sorted(variants, key=lambda v: (-screen.gains(v.id).mean(), v.id))
        return [v for v in among if screen.is_tied(among[0].id, v.id)]

    of_trials = [
        _middle_of_tied_scales(tied_with_best(variants), tier)
        for _, variants in groupby(sorted(tier, key=_trial), key=_trial)
    ]
    return [v.id for v in tied_with_best(of_trials)]


def _middle_of_tied_scales(tied: Sequence[VariantInfo], tier: Sequence[VariantInfo]) -> VariantInfo:
    """Of a trial's best variants the one whose neighbours in scale do as well.

    A scale at the edge of what works owes more to luck than one in the middle.
    """
    epoch = min(v.epoch for v in tied)
    best = next(v for v in tied if v.epoch == epoch)
    scales = sorted(
        (v for v in tier if (_trial(v), v.epoch) == (_trial(best), epoch)),
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
