"""What listeners say of the winner: without them no verdict is ``PROMOTE``."""

from dataclasses import replace

import numpy as np

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict import sentences
from orchestrator.verdict.listening import Ratings, pooled_wilcoxon, two_way_interval
from orchestrator.verdict.outcome import ListeningReport, Outcome, Verdict
from orchestrator.verdict.protocol import Listening, Protocol


def hear(verdict: Verdict, ratings: Ratings, protocol: Protocol) -> Verdict:
    """Let a listening test between winner and base decide on the promotion that is pending.

    ``PROMOTE`` when enough raters and sentences give a two-way interval above 0 and a gain of
    ``listening.min_effect``; ``REGRESSION`` when the interval lies below 0; ``DO-NOT-FINE-TUNE``
    when its upper end is too small a gain. Otherwise the promotion stays pending.

    Args:
        verdict: of the metrics. One without a winner has nothing to confirm and stays as it is.
        ratings: of the winner and the base, by prompt id and variant id.
        protocol: under which the verdict was reached.

    Raises:
        ValueError: the winner and the base were not rated by two raters on two sentences.
    """
    if verdict.variant is None:
        return verdict
    differences = ratings.differences(verdict.variant, BASE_VARIANT)
    paired = ~np.isnan(differences)
    report = ListeningReport(
        difference=two_way_interval(
            differences, protocol.seed, protocol.bootstrap_resamples, protocol.confidence
        ),
        mos=ratings.mos(verdict.variant),
        base_mos=ratings.mos(BASE_VARIANT),
        raters=int(paired.any(axis=1).sum()),
        sentences=int(paired.any(axis=0).sum()),
        pooled_p=pooled_wilcoxon(differences),
        alpha=ratings.agreement("ordinal"),
    )
    outcome = _outcome(report, protocol.listening)
    confirmed = outcome.startswith("PROMOTE")
    return replace(
        verdict,
        verdict=outcome,
        sentence=sentences.heard(outcome, report, verdict.sentence, protocol),
        variant=verdict.variant if confirmed else None,
        runner_up=verdict.runner_up if confirmed else verdict.variant,
        listening=report,
    )


def _outcome(report: ListeningReport, rule: Listening) -> Outcome:
    difference = report.difference
    if report.raters < rule.raters or report.sentences < rule.sentences:
        return "PROMOTE-PENDING-LISTENING"
    if difference.high < 0:
        return "REGRESSION"
    if difference.high <= rule.min_effect:
        return "DO-NOT-FINE-TUNE"
    if difference.low > 0 and difference.mean >= rule.min_effect:
        return "PROMOTE"
    return "PROMOTE-PENDING-LISTENING"
