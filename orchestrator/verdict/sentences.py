"""The words of a verdict: sentences with their numbers, for a person who was not there."""

from collections.abc import Mapping, Sequence

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.columns import ClipKey
from orchestrator.verdict.outcome import (
    Confirmation,
    ConstraintCheck,
    GroupVerdict,
    Outcome,
    RecipeVerdict,
    VariantRow,
    Verdict,
)
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.stats import Interval
from orchestrator.verdict.table import VariantInfo

BASE_INCOMPLETE = "nothing to compare with: the base lacks scores"


def effect(interval: Interval, confidence: float) -> str:
    """A signed mean with its interval and the number of prompts."""
    return (
        f"{interval.mean:+.3g} ({confidence:.0%} interval {interval.low:+.3g} to "
        f"{interval.high:+.3g} over {_count(interval.n, 'prompt')})"
    )


def broken_rules(row: VariantRow) -> list[str]:
    """The failure gate and the constraints that do not hold."""
    gate, reasons = row.failures, []
    if gate.violation:
        reasons.append(f"{gate.failed} of {gate.clips} clips failed, {gate.allowed} allowed")
    return [*reasons, *map(broken_constraint, broken(row.constraints))]


def broken(checks: Sequence[ConstraintCheck]) -> list[ConstraintCheck]:
    """The constraints that do not hold."""
    return [check for check in checks if check.violation]


def broken_constraint(check: ConstraintCheck) -> str:
    """Why a constraint does not hold."""
    return (
        f"{compared(check)}: worse by {check.worsening.mean:.2g} and up to {check.bound:.2g}, "
        f"{check.margin:g} allowed"
    )


def compared(check: ConstraintCheck) -> str:
    """A constraint's metric on the variant and on the base."""
    return f"{check.metric} {check.variant:.3g} (base {check.base:.3g})"


DOES_NOTHING = "does nothing: every score is the base's"


def no_gain_reason(row: VariantRow, protocol: Protocol) -> str | None:
    """Why the gain is not enough, or None if it is."""
    return DOES_NOTHING if row.does_nothing else too_small_reason(row.gain, protocol)


def too_small_reason(gain: Interval, protocol: Protocol) -> str | None:
    """Why a gain is not enough, or None if it is."""
    if gain.mean < protocol.min_effect:
        return f"gain {gain.mean:+.3g} is below the smallest that counts, {protocol.min_effect:g}"
    if gain.low <= 0:
        return f"gain {gain.mean:+.3g} is not clear of 0 (interval from {gain.low:+.3g})"
    return None


def no_scores_reason(unscored: Mapping[ClipKey, str]) -> str:
    """No clip has all its scores; with the reason of the first clip."""
    return f"none of its {len(unscored)} clips was scored: {next(iter(unscored.values()))}"


def preferred_reason(gain: Interval, winners: Interval) -> str:
    """Why a finalist that was better than the base is not the winner."""
    if gain.mean > winners.mean:
        return "not told apart from the winner, which changes the model less"
    return "gains no more than the winner"


NOT_A_FINALIST = "not among the finalists: others of set A did as well or better"
NOT_SHORTLISTED = "not on the shortlist: enough others did better on the first part of set A"


def not_better_reasons(confirmed: Confirmation, protocol: Protocol) -> tuple[str, ...]:
    """Why set B did not show a finalist to be better."""
    # A gain that comes with failed clips or another voice is no news.
    reasons = broken_rules(confirmed.row)
    if not reasons and (no_gain := no_gain_reason(confirmed.row, protocol)):
        reasons = [no_gain]
    if not reasons and confirmed.p_holm >= protocol.significance:
        reasons = [f"p {confirmed.p_holm:.2g} after Holm is not below {protocol.significance:g}"]
    return tuple(f"set B: {reason}" for reason in reasons)


def promotion(winner: Confirmation, name: str, protocol: Protocol) -> str:
    """The sentence for a variant that won."""
    claimed, measured = winner.effect, f"{winner.row.gain.mean:+.3g}"
    selected = f"{claimed.mean:+.3g}" != measured
    reached = claimed.low >= protocol.min_effect
    parts = (
        f"Promote {name}, once listeners confirm it: on fresh prompts {protocol.primary} is better "
        f"than the base's by {effect(claimed, protocol.confidence)}",
        f" given that it was found better (measured {measured})" if selected else "",
        f", p {winner.p_holm:.2g}",
        "" if reached else f"; that it gains {protocol.min_effect:g} is not shown",
        *(f"; {compared(check)}" for check in winner.row.constraints),
    )
    return f"{''.join(parts)}."


def no_more_than(gain: Interval, protocol: Protocol) -> str:
    """Why a gain whose upper end is too small is none."""
    return f"gain of {gain.high:+.3g} at most, {protocol.min_effect:g} is the smallest that counts"


def seeds(winner: VariantInfo, recipe: RecipeVerdict | None) -> str:
    """What a promotion adds of the winner's hyperparameters: checkpoints are promoted, not them.

    Args:
        winner: the checkpoint at its scale.
        recipe: what its replicates show; None where there are none.
    """
    if recipe is None:
        if winner.is_unlisted:
            return ""  # who knows whether it was trained
        return (
            " This is of one training: whether its hyperparameters gain with another seed was not "
            "tested."
        )
    why = "; ".join(recipe.reasons)
    if recipe.gain is None or recipe.seed_sd is None:
        return f" Whether its recipe ({recipe.recipe}) is better is undecided: {why}."
    gain = recipe.claim or recipe.gain
    measured = f"{recipe.gain.mean:+.3g}"
    selected = f"{gain.mean:+.3g}" != measured
    found = (
        f"trained with {_count(len(recipe.replicates), 'other seed')} it gains "
        f"{gain.mean:+.3g} ({recipe.confidence:.0%} interval {gain.low:+.3g} to {gain.high:+.3g} "
        f"over seeds and prompts; between seeds sd {recipe.seed_sd:.2g})"
        + (f" given that it was found better (measured {measured})" if selected else "")
    )
    if recipe.finding == "better":
        return f" Its recipe ({recipe.recipe}) is better too: {found}."
    if recipe.finding == "only the checkpoint":
        return f" Only this checkpoint is better, not its recipe ({recipe.recipe}): {found}; {why}."
    return f" Whether its recipe ({recipe.recipe}) is better is undecided: {found}; {why}."


def unscored(clips: Mapping[str, int], of: str | None, outcome: Outcome, each: int) -> str:
    """What a verdict adds of the clips of set B that were not scored; empty without any.

    Args:
        clips: how many, by variant.
        of: the variant that the verdict speaks of; None where it speaks of none.
        outcome: the verdict.
        each: how many clips a variant has.
    """
    told = [
        f"{count} of {'the base' if name == BASE_VARIANT else name}'s"
        for name, count in clips.items()
        if name in (BASE_VARIANT, of)
    ]
    if not told:
        return ""
    against = "against" if outcome.startswith(("PROMOTE", "INCONCLUSIVE")) else "for"
    more = " Score them, then judge again." if outcome == "INCONCLUSIVE" else ""
    return (
        f" Not scored: {' and '.join(told)} {_count(each, 'clip')}; here they count {against} "
        f"the variant.{more}"
    )


def refusal(
    outcome: Outcome,
    best: Confirmation,
    name: str,
    finalists: int,
    needed: int | None,
    protocol: Protocol,
) -> str:
    """The sentence for a sweep whose finalists have scores of set B, and none was better."""
    if best.row.does_nothing:
        verdict = "Inconclusive" if outcome == "INCONCLUSIVE" else "Do not fine-tune"
        return (
            f"{verdict}: the first of {_count(finalists, 'finalist')}, {name}, does nothing: on "
            f"fresh prompts every score is the base's. A higher learning rate or more epochs may "
            f"change that."
        )
    of_best = (
        f"the first of {_count(finalists, 'finalist')}, {name}, changes {protocol.primary} for the "
        f"better by {effect(best.row.gain, protocol.confidence)}"
    )
    why = "; ".join(not_better_reasons(best, protocol))
    if outcome == "REGRESSION":
        return f"Fine-tuning made it worse: on fresh prompts {of_best}."
    if outcome == "DO-NOT-FINE-TUNE":
        return f"Do not fine-tune: on fresh prompts {of_best}; {why}."
    more = f" About {needed} prompts in set B would likely decide." if needed else ""
    return f"Inconclusive: on fresh prompts {of_best}; {why}.{more}"


def none_feasible(best: VariantRow, name: str, scored: int) -> str:
    """The sentence for a sweep in which no variant keeps the rules, ``best`` the nearest."""
    return (
        f"Do not fine-tune: every one of the {_count(scored, 'variant')} is shown to break a gate "
        f"or a constraint; the nearest, {name}, has {'; '.join(best.reasons)}."
    )


def too_few_scores(variants: Sequence[VariantInfo]) -> str:
    """The sentence for a sweep without a variant and a base to compare."""
    return (
        f"No verdict: of {len(variants)} variants and the base, too few have every score that the "
        "protocol asks for; `voxsweep status` says which trials failed."
    )


def scores_lacking(variants: Sequence[str], prompts: str) -> str:
    """The sentence for a sweep in which ``variants`` have no scores of prompts that decide."""
    return (
        f"No verdict: {', '.join(variants)} lack scores of {prompts}; "
        "score their clips of it, then judge again."
    )


def near_duplicates(protocol: Protocol) -> str:
    """What the sentence adds where set B, the prompts of ``protocol``, has near-duplicates."""
    texts, prompts = len(set(protocol.texts)), len(protocol.prompts)
    if texts == prompts:
        return ""
    return f" Set B has {prompts} prompts, which count as {texts}: near-duplicates count as one."


def of_groups(
    verdict: Verdict, of: str | None, variants: Mapping[str, VariantInfo], protocol: Protocol
) -> str:
    """What a verdict adds of languages and speakers; empty where all is as in the sweep.

    Args:
        verdict: with its groups.
        of: the variant that the sentence speaks of; None where it speaks of none.
        variants: by id.
        protocol: the rule.
    """
    worse, broken, not_shown, told = [], [], [], ""
    for each in verdict.groups:
        name, found = f"{each.group} {each.name}", {c.row.id: c for c in each.confirmed}
        if of in found and found[of].finding == "worse":
            worse.append(name)
        elif of in found and found[of].finding == "ruled out":
            broken.append(name)
        elif verdict.variant is not None and each.variant is None:
            not_shown.append(name)
        if each.variant is not None and each.variant != verdict.variant:
            winner = found[each.variant]
            told += (
                f" For {name} promote {variants[each.variant].name}, once listeners confirm it: "
                f"better by {effect(winner.effect, protocol.confidence)}, p {winner.p_holm:.2g}."
            )
    return (
        (f" But it is worse than the base for {', '.join(worse)}." if worse else "")
        + (f" But it breaks a rule for {', '.join(broken)}." if broken else "")
        + (f" A gain is not shown for {', '.join(not_shown)} alone." if not_shown else "")
        + told
    )


def own_finalist(group: GroupVerdict) -> str:
    """What set B shows of a variant that is the finalist of one language or speaker alone."""
    finding = next((c.finding for c in group.confirmed if c.row.id == group.own), "not scored")
    won = ", and the winner there" if group.variant == group.own else ""
    return f"the finalist of {group.group} {group.name} alone: {finding}{won}"


def used_before(protocol: Protocol) -> str:
    """What a verdict adds where set B has tested other finalists before; empty otherwise."""
    if not protocol.confirmed_before:
        return ""
    before = _count(len(protocol.confirmed_before), "other finalist")
    return f" Set B tested {before} before this sweep went on: p is adjusted for all of them."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
