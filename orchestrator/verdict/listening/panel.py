"""A panel of listeners: whose ratings count, and what they decide of a variant.

Rules for exclusion are the protocol's, fixed before anybody rates, and look at no preference: how
a rater answers traps and repeats, how much they rated, whether they are another rater again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening.panel_stats import Scores, pooled_wilcoxon, two_way_interval
from orchestrator.verdict.listening.ratings import Ratings
from orchestrator.verdict.outcome import (
    AGAINST,
    ExcludedRater,
    ExclusionRule,
    ListeningReport,
    Outcome,
    PanelResult,
    PreferenceCounts,
)
from orchestrator.verdict.protocol import GroupName, Listening, Protocol
from orchestrator.verdict.stats import Interval

PENDING: Outcome = "PROMOTE-PENDING-LISTENING"
COPY_DIFFERS = 0.3
"""Two people differ in at least this share of their scores, each up to a constant. At 0.7 points of
noise in a score, they differ in six of ten; at 0.35, a steadier ear than any panel's, in four."""
COPY_LEVEL = 0.01
"""Chance, for a whole panel of people who differ no more than that, of taking two for one."""
_Exclusion = tuple[int, ExclusionRule, str]
"""The place of a rater, the rule that excludes them, and the figures."""


def hear(
    ratings: Ratings, variant: str, protocol: Protocol, group: GroupName | None = None
) -> ListeningReport:
    """What a panel decides of ``variant`` against the base, by the raters who count.

    ``PROMOTE`` when enough raters and sentences give a two-way interval above 0 and a gain of
    ``listening.min_effect``; ``REGRESSION`` when the interval lies below 0; ``DO-NOT-FINE-TUNE``
    when its upper end is too small a gain; and each of them only if it is so without any one of
    the raters as well. Otherwise the promotion stays pending.

    Args:
        ratings: of the sentences that the panel decides.
        variant: to be compared with the base.
        protocol: the rule.
        group: the language or speaker of the sentences; None for all.

    Raises:
        ValueError: nobody rated the variant and the base on one sentence.
    """
    ratings.differences(variant, BASE_VARIANT)
    rule = protocol.listening
    excluded, sentences = count_raters(ratings, variant, rule)
    left_out = {each.rater for each in excluded}
    counted = ratings.only(sentences, [name for name in ratings.raters if name not in left_out])
    raters = len(counted.raters)
    signs = np.sign(counted.differences(variant, BASE_VARIANT) if raters and sentences else [])
    report = ListeningReport(
        group=group,
        variant=variant,
        verdict=PENDING,
        confidence=protocol.confidence,
        raters=raters,
        sentences=len(sentences),
        excluded=excluded,
        preferred=PreferenceCounts(*(int((signs == sign).sum()) for sign in (1, 0, -1))),
        turns_on=(),
        result=None,
    )
    if min(raters, len(sentences)) < 2:
        return report
    differences = counted.differences(variant, BASE_VARIANT)
    whole, preference, *parts = (
        two_way_interval(part, protocol.seed, protocol.bootstrap_resamples, protocol.confidence)
        for part in (differences, (1 + signs) / 2, *without_one(differences))
    )
    without = dict(zip(counted.raters, parts, strict=False))
    report = replace(
        report,
        result=PanelResult(
            difference=whole,
            without=without,
            preference=preference,
            axes=tuple(counted.by_axis(variant, BASE_VARIANT)),
            mos=counted.mos(variant),
            base_mos=counted.mos(BASE_VARIANT),
            pooled_p=pooled_wilcoxon(differences),
            alpha=counted.agreement(),
        ),
    )
    if raters < rule.raters or len(sentences) < rule.sentences:
        return report
    outcome = _outcome(whole, rule)
    others = {name: _outcome(part, rule) for name, part in without.items()}
    if outcome in AGAINST and set(others.values()) <= {*AGAINST}:
        # One rater may make the difference between worse and no better: then it is no better.
        return replace(report, verdict=max(outcome, *others.values(), key=AGAINST.index))
    # Of those who keep a panel from deciding, none is named: nobody is to be left out for that.
    turns_on = tuple(n for n, other in others.items() if outcome != PENDING and other != outcome)
    return replace(report, verdict=PENDING if turns_on else outcome, turns_on=turns_on)


def without_one(differences: Scores) -> Iterator[Scores]:
    """The same without each rater in turn, where at least two are left."""
    if len(differences) > 2:
        yield from (np.delete(differences, place, axis=0) for place in range(len(differences)))


def _outcome(difference: Interval, rule: Listening) -> Outcome:
    if difference.high < 0:
        return "REGRESSION"
    if difference.high <= rule.min_effect:
        return "DO-NOT-FINE-TUNE"
    if difference.low > 0 and difference.mean >= rule.min_effect:
        return "PROMOTE"
    return PENDING


def count_raters(
    ratings: Ratings, variant: str, rule: Listening
) -> tuple[tuple[ExcludedRater, ...], tuple[str, ...]]:
    """The raters who do not count, each by the first rule that they break, and the sentences that
    count.

    Args:
        ratings: of the sentences of one panel.
        variant: that is compared with the base; ratings of other systems play no part.
        rule: the protocol's.
    """
    cells = ratings.cells(variant, BASE_VARIANT)
    paired = np.asarray(~np.isnan(cells).any(axis=(2, 3)))
    excluded: dict[int, ExcludedRater] = {}

    def exclude(found: Iterable[_Exclusion]) -> NDArray[np.bool_]:
        for place, which, reason in found:
            excluded.setdefault(place, ExcludedRater(ratings.raters[place], which, reason))
        return np.array([place not in excluded for place in range(len(ratings.raters))])

    counts = exclude(_failed_checks(ratings, rule))
    sentences, found = _covered(paired, counts, rule)
    counts = exclude(found)
    counts = exclude(_copies(ratings, cells, counts))
    # Without the copies fewer raters share a sentence.
    sentences, found = _covered(paired, counts, rule)
    exclude(found)
    return (
        tuple(excluded[place] for place in sorted(excluded)),
        tuple(name for name, has in zip(ratings.sentences, sentences, strict=True) if has),
    )


def _failed_checks(ratings: Ratings, rule: Listening) -> Iterator[_Exclusion]:
    for place, ((answered, missed), change) in enumerate(
        zip(ratings.traps, ratings.repeat_change, strict=True)
    ):
        if missed > rule.missed_traps:
            told = f"missed {missed} of {answered} traps, {rule.missed_traps} allowed"
            yield place, "traps", told
        elif change > rule.repeat_change:
            told = (
                f"repeats are {change:.2g} points from the first scores on average, "
                f"{rule.repeat_change:g} allowed"
            )
            yield place, "repeats", told


def _covered(
    paired: NDArray[np.bool_], counts: NDArray[np.bool_], rule: Listening
) -> tuple[NDArray[np.bool_], list[_Exclusion]]:
    """The sentences that enough raters share, and the raters who rated too few of them.

    What remains is the largest part of the table in which every rater has rated their share of the
    sentences, and half of the raters every sentence. While less was rated than the protocol asks
    for, shares are of what was rated.
    """
    rated = paired[counts].any(axis=0)
    # 0.7 of 10 is 7, and in floating point a little more.
    of_rater = ceil(round(rule.coverage * min(rule.sentences, int(rated.sum())), 9))
    raters = counts & (paired.sum(axis=1) >= of_rater)
    of_sentence = ceil(min(rule.raters, int(raters.sum())) / 2)
    sentences = np.asarray(rated)
    while True:
        kept = np.asarray(rated & (paired[raters].sum(axis=0) >= of_sentence))
        if (kept == sentences).all():
            break
        sentences = kept
        raters = raters & (paired[:, sentences].sum(axis=1) >= of_rater)
    found: list[_Exclusion] = [
        (
            int(place),
            "coverage",
            f"rated both systems on {paired[place, sentences].sum()} of the {sentences.sum()} "
            f"sentences that at least {of_sentence} share; {of_rater} are needed",
        )
        for place in np.flatnonzero(counts & ~raters)
    ]
    return sentences, found


def _copies(ratings: Ratings, cells: Scores, counts: NDArray[np.bool_]) -> Iterator[_Exclusion]:
    """Raters who are an earlier one again, as far as chance does not explain it.

    Two raters agree up to a constant where their scores differ by what they differ most often by.
    Where both gave the same end of the scale they agree for want of a further point, and where both
    heard no difference between two clips there may be none: those scores tell nothing, unless the
    two agree in all of them.
    """
    tell_nothing = [ratings.scale[0], ratings.scale[-1]] + [0] * ratings.are_comparisons
    flat = cells.reshape(len(cells), -1)
    places = np.flatnonzero(counts)
    level = COPY_LEVEL / max(1, len(places) * (len(places) - 1) // 2)
    copies: set[int] = set()
    for first, second in combinations(places.tolist(), 2):
        if first in copies or second in copies:
            continue
        both = ~np.isnan(flat[[first, second]]).any(axis=0)
        one, other = flat[first, both], flat[second, both]
        if (one != other).any():
            left_out = (one == other) & np.isin(one, tell_nothing)
            one, other = one[~left_out], other[~left_out]
        often = np.bincount((one - other).astype(int) + len(ratings.scale))
        differ = len(one) - often.max(initial=0)
        if bdtr(differ, len(one), COPY_DIFFERS) < level:
            copies.add(second)
            told = f"is {ratings.raters[first]} again: of {len(one)} scores {differ} differ"
            yield second, "copy", told
