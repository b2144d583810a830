"""A listening test of several finalists: which of them listeners confirm, and which one wins."""

from collections.abc import Sequence

import numpy as np

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening.panel import PENDING, hear, without_one
from orchestrator.verdict.listening.panel_stats import two_way_interval
from orchestrator.verdict.listening.ratings import Ratings
from orchestrator.verdict.outcome import ListeningReport, Outcome, Verdict
from orchestrator.verdict.protocol import Protocol


def to_hear(verdict: Verdict) -> tuple[str, ...]:
    """The finalists that listeners may choose from: those that the metrics found better.

    The winner of the metrics is the first. Where languages are decided apart, each hears one
    variant, and this is empty; as it is without a winner.
    """
    if verdict.variant is None or any(each.group == "language" for each in verdict.groups):
        return ()
    better = [each.row.id for each in verdict.confirmed if each.finding == "better"]
    return tuple(dict.fromkeys((verdict.variant, *better)))


def hear_finalists(ratings: Ratings, verdict: Verdict, protocol: Protocol) -> list[ListeningReport]:
    """What the panel decides of each finalist that it heard; nothing where not of the winner.

    Holm's procedure: of k finalists that are not confirmed yet, each is judged at a k-th of the
    level, by :func:`hear`; whoever is confirmed leaves the others a larger part. So at most one in
    1 / (1 - confidence) tests confirms any finalist that is no better. Holm (1979), "A simple
    sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2).

    Args:
        ratings: of the panel.
        verdict: of the metrics.
        protocol: the rule.
    """
    rated = {name for name in to_hear(verdict) if _is_rated(ratings, name)}
    if verdict.variant not in rated:
        return []
    left = [name for name in to_hear(verdict) if name in rated]
    reports: dict[str, ListeningReport] = {}
    while left:
        confidence = 1 - (1 - protocol.confidence) / len(left)
        rule = protocol.model_copy(update={"confidence": confidence})
        reports |= {name: hear(ratings, name, rule) for name in left}
        others = [name for name in left if reports[name].verdict != "PROMOTE"]
        if len(others) == len(left):
            break
        left = others
    return [reports[name] for name in to_hear(verdict) if name in reports]


def _is_rated(ratings: Ratings, variant: str) -> bool:
    try:
        ratings.differences(variant, BASE_VARIANT)
    except ValueError:
        return False
    return True


def together(reports: Sequence[ListeningReport]) -> Outcome:
    """What the panel makes of the promotion: one finalist that is confirmed is enough."""
    outcomes = {report.verdict for report in reports}
    if "PROMOTE" in outcomes:
        return "PROMOTE"
    if PENDING in outcomes or not outcomes:
        return PENDING
    return "REGRESSION" if outcomes == {"REGRESSION"} else "DO-NOT-FINE-TUNE"


def choose(
    reports: Sequence[ListeningReport], ratings: Ratings, winner: str, protocol: Protocol
) -> str | None:
    """The finalist to promote: the ``winner`` of the metrics, unless listeners choose another.

    They do where they do not confirm it, or where they like another that they confirm so much more
    that the two-way interval of the difference lies above 0, also without any one of them.

    Returns:
        A variant, or None where none was confirmed.
    """
    means = {
        report.variant: report.result.difference.mean
        for report in reports
        if report.verdict == "PROMOTE" and report.result
    }
    best = max(means, key=lambda name: means[name], default=None)
    if best is None or best == winner or winner not in means:
        return best
    out = {each.rater for r in reports if r.variant in (best, winner) for each in r.excluded}
    counted = ratings.only(ratings.sentences, [name for name in ratings.raters if name not in out])
    lead = np.subtract(*(counted.differences(name, BASE_VARIANT) for name in (best, winner)))
    lows = [
        two_way_interval(part, protocol.seed, protocol.bootstrap_resamples, protocol.confidence).low
        for part in (lead, *without_one(lead))
    ]
    return best if min(lows) > 0 else winner
