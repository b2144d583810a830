"""The screen on set A: which few variants are worth confirming on set B."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.protocol import GroupName, Protocol
from orchestrator.verdict.table import VariantInfo

SHORTLISTED = 3
"""One in so many variants speaks the rest of set A: successive halving with eta 3 (Jamieson and
Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization")."""


@dataclass(frozen=True)
class Finalists:
    """The variants to confirm on set B."""

    sweep: tuple[str, ...]
    """On all prompts, the best first."""
    own: Mapping[GroupName, str]
    """On the prompts of one language or speaker: its own finalist, which may be another's too."""

    @property
    def all(self) -> list[str]:
        """Every finalist once: all of them, and the base, speak set B."""
        return list(dict.fromkeys([*self.sweep, *self.own.values()]))


def shortlisted(variants: int, ranks: int, groups: int) -> int:
    """How many variants are on the shortlist at most, as :func:`choose_shortlist` takes them."""
    return min(variants, max(2, -(-variants // SHORTLISTED)) + ranks + groups)


def choose_shortlist(screen: Comparison, protocol: Protocol) -> list[str]:
    """The variants that speak the rest of set A, the best first; none if it has no rest.

    A third of them, two at least: by turns the best by gain of those that keep every rule by their
    means, and of those that are not shown to break one. A few prompts measure a gain well, and
    hardly whether a narrow margin is kept. Then the best of each rank, so that no rank is given up
    after a few prompts, and the best by gain of each language and speaker. Those that are shown to
    break a rule come last everywhere.

    Args:
        screen: over the prompts that every variant speaks.
        protocol: over all of set A.
    """
    if not protocol.rest:
        return []
    scored = _scored(screen)

    def by_gain(variant: VariantInfo) -> tuple[bool, float, str]:
        return _by_gain(screen, variant)

    def by_means(variant: VariantInfo) -> tuple[bool, bool, float, str]:
        harmful, good, name = by_gain(variant)
        return harmful, not screen.is_plausible(variant.id), good, name

    ordered = sorted(scored, key=by_means)
    third = max(2, -(-len(ordered) // SHORTLISTED))
    by_turns = dict.fromkeys(
        v.id for v in chain(*zip(ordered, sorted(scored, key=by_gain), strict=True))
    )
    best_of_rank: dict[int | None, str] = {}
    for variant in ordered:
        best_of_rank.setdefault(variant.rank, variant.id)
    kept = {*list(by_turns)[:third], *best_of_rank.values()}
    for part in _parts(screen).values():
        kept |= {min(_scored(part), key=lambda v: _by_gain(part, v)).id} if _scored(part) else set()
    return [v.id for v in ordered if v.id in kept]


def _by_gain(screen: Comparison, variant: VariantInfo) -> tuple[bool, float, str]:
    """What sorts variants: those shown to break a rule last and by how far, then by gain."""
    harmful = screen.is_harmful(variant.id)
    good = screen.assess(variant.id).objective if harmful else screen.gains(variant.id).mean()
    return harmful, -float(good), variant.id


def _parts(screen: Comparison) -> dict[GroupName, Comparison]:
    """Set A's prompts of each language and speaker that has a verdict of its own."""
    groups = screen.protocol.confirming().groups()
    named = {group: screen.protocol.in_group(group) for group in groups}
    return {group: screen.only(prompts) for group, prompts in named.items() if prompts}


def _scored(screen: Comparison) -> list[VariantInfo]:
    return [v for v in screen.table.adapted if screen.has_scores(v.id)]


def choose_finalists(screen: Comparison) -> Finalists:
    """The variants to confirm on set B; none if each is shown to break a rule.

    One of each trial, since others of it would cost a test and hardly differ: of what cannot be
    told apart from the trial's best variant, the earliest epoch, and there the middle of the
    stretch of scales that does as well. Of these the best ``protocol.finalists``, without those
    that are clearly worse than the best: each more makes every test stricter. Those of
    ``protocol.confirmed_before`` are finalists too, behind the others.

    They are taken from the variants that are shown to keep every rule; without any, from those
    that keep them by their means; without any, from those that are not shown to break one. A
    variant that is held back for lack of precision alone, and clearly better than the finalists,
    is confirmed too, last: set B has more prompts to tell.

    Each language and each speaker of set B has a finalist of its own besides: the one with the
    largest gain on its prompts of set A among those that keep every rule there by their means;
    without any, among those that are not shown to break one.

    Args:
        screen: over all of set A.
    """
    chosen = best_variants(screen)
    alone = {group: _best_alone(part) for group, part in _parts(screen).items()}
    own = {group: best for group, best in alone.items() if best is not None}
    before = screen.protocol.confirmed_before if chosen or own else ()
    return Finalists(tuple(dict.fromkeys([*chosen, *before])), own)


def _best_alone(part: Comparison) -> str | None:
    """The best variant on one group's prompts; None if each is shown to break a rule there."""
    sound = [v.id for v in _scored(part) if not part.is_harmful(v.id)]
    among = [name for name in sound if part.is_plausible(name)] or sound
    return min(among, key=lambda name: (-part.gains(name).mean(), name), default=None)


def best_variants(screen: Comparison) -> list[str]:
    """The finalists of set A's scores alone, without those of languages and speakers."""
    held, plausible, open_ = [], [], []
    for variant in _scored(screen):
        if screen.is_harmful(variant.id):
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

    A scale at the edge of what works owes more to luck than one in the middle. A variant with a
    decoding of its own has few neighbours: only what decodes alike is compared.
    """
    epoch = min(v.epoch for v in tied)
    best = next(v for v in tied if v.epoch == epoch)
    scales = sorted(
        (
            v
            for v in tier
            if (_trial(v), v.epoch, v.own_decoding) == (_trial(best), epoch, best.own_decoding)
        ),
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
