"""Whether the winner's hyperparameters gain with other seeds too, or its one checkpoint alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict import sentences
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.outcome import ROUNDING, ConstraintCheck, RecipeVerdict, Replicate
from orchestrator.verdict.protocol import LEAST_SEEDS, Constraint, Protocol
from orchestrator.verdict.stats import Interval, crossed_mean, given_selection


def judge_recipe(fresh: Comparison, winner: str) -> RecipeVerdict:
    """Judge the winner's recipe by its replicates, and by nothing that the winner itself scored.

    The winner was chosen for its scores; new trainings were not. Each end of the interval is a
    one-sided test at the protocol's level: that the recipe gains, and that it does not gain what
    counts. Nothing of this changes the promotion of the checkpoint.

    Args:
        fresh: the base, the winner and its replicates on set B.
        winner: the variant that set B confirmed.
    """
    rule, of = fresh.protocol, fresh.table.variants[winner]
    names = [
        info.id
        for info in fresh.table.adapted
        if info.is_replicate_of(of) and fresh.has_scores(info.id)
    ]
    verdict = RecipeVerdict(
        variant=winner,
        recipe=of.recipe,
        finding="undecided",
        reasons=(),
        asked=rule.confirm_seeds,
        replicates=tuple(
            Replicate(name, _alone(fresh, name), fresh.failure_gate(name).failed) for name in names
        ),
        confidence=_confidence(rule),
        gain=None,
        claim=None,
        seed_sd=None,
        constraints=(),
    )
    if len(names) < max(rule.confirm_seeds, LEAST_SEEDS):
        heard = f"{len(names)} of {rule.confirm_seeds} replicates have scores of set B"
        return replace(verdict, reasons=(heard,))
    gain, seed_sd = crossed_mean(np.stack([fresh.gains(n) for n in names]), verdict.confidence)
    most, _ = crossed_mean(np.stack([fresh.lenient.gains(n) for n in names]), verdict.confidence)
    checks = tuple(_check(fresh, names, constraint) for constraint in rule.constraints)
    verdict = replace(verdict, gain=gain, seed_sd=seed_sd, constraints=checks)
    # The intervals of all rules hold together, as those by which a variant is shown to break one.
    together = _confidence(rule, beside=len(rule.constraints))
    is_harmful = any(
        _worsening(fresh.lenient, names, each, together).low > each.margin + ROUNDING
        for each in rule.constraints
    )
    if is_harmful or most.high <= rule.min_effect:
        reasons = tuple(_objections(fresh, verdict)) or (sentences.no_more_than(most, rule),)
        return replace(verdict, finding="only the checkpoint", reasons=reasons)
    if reasons := tuple(_objections(fresh, verdict)):
        return replace(verdict, reasons=reasons)
    # As for a finalist that is better: it had to pass.
    least = max(rule.min_effect, gain.mean - gain.low)
    claim = given_selection(gain, min(least, gain.mean), verdict.confidence)
    return replace(verdict, finding="better", claim=claim)


def _confidence(rule: Protocol, beside: int = 1) -> float:
    """Of an interval each end of which is one of ``beside`` one-sided tests at the level."""
    return 1 - 2 * rule.significance / max(1, beside)


def _alone(fresh: Comparison, replicate: str) -> Interval:
    """The gain of one training, over prompts."""
    return fresh.bootstrap.interval(fresh.gains(replicate))


def _worsening(
    fresh: Comparison, replicates: Sequence[str], constraint: Constraint, confidence: float
) -> Interval:
    """How much worse than the base the replicates are, in the way that is worse."""
    of_each = [fresh.worsenings(name, constraint.metric) for name in replicates]
    ways = [crossed_mean(np.stack(way), confidence)[0] for way in zip(*of_each, strict=True)]
    return max(ways, key=lambda each: each.high)


def _check(fresh: Comparison, replicates: Sequence[str], constraint: Constraint) -> ConstraintCheck:
    """A constraint on the mean over replicates."""
    name = constraint.metric
    worsening = _worsening(fresh, replicates, constraint, _confidence(fresh.protocol))
    means = [float(fresh.scores(replicate, name).mean()) for replicate in replicates]
    return ConstraintCheck.of(
        fresh.table.metrics[name],
        base=float(fresh.scores(BASE_VARIANT, name).mean()),
        variant=float(np.mean(means)),
        worsening=worsening,
        bound=worsening.high,
        margin=constraint.margin,
    )


def _objections(fresh: Comparison, verdict: RecipeVerdict) -> Iterator[str]:
    """Why the recipe is not shown to be better; nothing where it is."""
    gates = [fresh.failure_gate(each.variant) for each in verdict.replicates]
    failed = float(np.mean([gate.failed for gate in gates]))
    if failed > gates[0].allowed:
        yield f"{failed:.3g} of {gates[0].clips} clips fail on average, {gates[0].allowed} allowed"
    yield from map(sentences.broken_constraint, sentences.broken(verdict.constraints))
    if verdict.gain and (no_gain := sentences.too_small_reason(verdict.gain, fresh.protocol)):
        yield no_gain
