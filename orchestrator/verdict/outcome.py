"""The verdict, and every variant's numbers behind it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from typing import Literal

from pydantic import TypeAdapter

from orchestrator.verdict.protocol import Group, GroupName, MetricVersion
from orchestrator.verdict.stats import Interval

Outcome = Literal[
    "PROMOTE",
    "PROMOTE-BY-LANGUAGE",
    "PROMOTE-PENDING-LISTENING",
    "DO-NOT-FINE-TUNE",
    "INCONCLUSIVE",
    "REGRESSION",
    "NO-VERDICT",
]
"""Automatic metrics alone never promote: listeners have yet to confirm. They may confirm some
languages and refute others: then the promotion is by language, and ``groups`` says which."""

AGAINST: tuple[Outcome, ...] = ("REGRESSION", "DO-NOT-FINE-TUNE")
"""Outcomes against a variant, the weaker claim last."""

FinalistFinding = Literal["better", "no better", "worse", "ruled out", "undecided"]
"""What set B shows of a finalist: ``ruled out`` if it is shown to break a gate or a constraint;
else ``worse`` if even its upper bound is below 0, ``no better`` if that is too small a gain, and
``undecided`` if nothing is shown."""
REFUSED: tuple[FinalistFinding, ...] = ("no better", "worse", "ruled out")
"""Findings after which a finalist is not promoted on these prompts."""

Standing = Literal["base", "winner", "passed", "rejected"]

RecipeFinding = Literal["better", "only the checkpoint", "undecided"]
"""What other seeds show of the winner's hyperparameters: that they gain, or that they do not gain
what counts or break a rule, so that the winner owes its gain to its own seed; or neither."""

ROUNDING = 1e-9
"""A mean exactly at its margin is allowed, whatever its last bit."""


@dataclass(frozen=True)
class FailedClip:
    """A clip that counts as failed, and every reason it does."""

    prompt: str
    seed: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class FailureGate:
    """Failed clips of a variant against the number it may have."""

    failed: int
    """With the ``unscored``, which may have failed."""
    unscored: int
    """Clips that fail no gate and lack a score that decides."""
    allowed: int
    clips: int
    excess: Interval
    """By what share of the clips the variant fails more often than the base."""
    tolerance: float
    """What share is allowed."""

    @property
    def violation(self) -> float:
        """Share of clips beyond what is allowed; 0 when the gate holds."""
        return max(0, self.failed - self.allowed) / self.clips


@dataclass(frozen=True)
class ConstraintCheck:
    """A constraint met or broken: means in the metric's unit, ``worsening`` towards the worse."""

    metric: str
    base: float
    variant: float
    worsening: Interval
    bound: float
    """The one-sided upper bound of the worsening; it decides."""
    margin: float
    violation: float
    """How far beyond the margin, as a share of the metric's range; 0 when the constraint holds."""

    @classmethod
    def of(
        cls,
        metric: MetricVersion,
        *,
        base: float,
        variant: float,
        worsening: Interval,
        bound: float,
        margin: float,
    ) -> "ConstraintCheck":
        """The check of these numbers."""
        excess = bound - margin
        violation = 0.0 if excess < ROUNDING else excess / metric.span
        return cls(metric.name, base, variant, worsening, bound, margin, violation)


def total_violation(failures: FailureGate, constraints: Iterable[ConstraintCheck]) -> float:
    """By how much a variant is infeasible: shares of clips and of metric ranges, summed."""
    return failures.violation + sum(check.violation for check in constraints)


@dataclass(frozen=True)
class VariantRow:
    """One variant in numbers. Means and differences are over prompts, in each metric's unit."""

    id: str
    standing: Standing
    reasons: tuple[str, ...]
    """Why it was rejected, or why another variant was preferred to it."""
    means: dict[str, float]
    differences: dict[str, Interval]
    """Variant minus base, by metric."""
    gain: Interval
    """The primary metric's difference, signed so that positive is better."""
    objective: float
    failures: FailureGate
    missing: dict[str, int]
    """Clips without a value, by metric. In ``means`` they count against the variants: at the
    metric's worst bound, or at its best where they are the base's."""
    failed_clips: tuple[FailedClip, ...]
    constraints: tuple[ConstraintCheck, ...]

    @property
    def does_nothing(self) -> bool:
        """Whether every metric is the base's on every prompt: the adapter changes nothing."""
        return any(self.means.values()) and all(
            difference.mean == difference.low == difference.high == 0
            for difference in self.differences.values()
        )

    @property
    def feasible(self) -> bool:
        """Whether the failure gate and every constraint that was measured hold."""
        return total_violation(self.failures, self.constraints) == 0


@dataclass(frozen=True)
class Confirmation:
    """A finalist on set B, whose texts and seeds chose nothing."""

    row: VariantRow
    p: float
    """Of the one-sided paired signed-rank test that it is better than the base."""
    p_holm: float
    """Adjusted for all tests of the sweep: of its finalists on all prompts of set B, and of those
    of each language and speaker on theirs."""
    finding: FinalistFinding
    claim: Interval | None
    """The gain of a finalist that is better, less what is owed to having been found so: estimates
    that pass a threshold are too high. ``row.gain`` is as measured."""

    @property
    def effect(self) -> Interval:
        """The gain as claimed, where there is a claim, else as measured."""
        return self.claim or self.row.gain


@dataclass(frozen=True)
class GroupLoss:
    """Validation loss over one language or speaker alone: beside its verdict, never part of it.

    ``loss`` is that of the verdict's variant, or else of the first finalist. ``lowest`` is the
    checkpoint, as trained, with the lowest; ``lowest_rank`` its place by gain on the group's
    prompts of set A among the ``variants`` judged, None where set A has none of them.
    """

    loss: float | None
    lowest: str
    lowest_loss: float
    lowest_rank: int | None
    variants: int


@dataclass(frozen=True)
class GroupVerdict:
    """The verdict of one language's or one speaker's prompts of set B alone."""

    group: Group
    name: str
    own: str | None
    """Its own finalist, the best on its prompts of set A; None where those name none that breaks
    no rule."""
    verdict: Outcome
    variant: str | None
    """The winner here, which another group may not share."""
    effect: Interval | None
    """The gain of the winner, as claimed, or else of its own finalist, as measured."""
    prompts_needed: int | None
    confirmed: tuple[Confirmation, ...]
    """Its own finalist, then the sweep's."""
    loss: GroupLoss | None = None
    """None where no validation clips are known to be the group's, apart from another's."""


@dataclass(frozen=True)
class ErrorRate:
    """Word or character errors of a variant on set B, as shares.

    ``macro`` is the mean over prompts of each clip's rate, at most 1 a clip, and 1 where there is
    no score. ``corpus`` is all edits over all words or characters of the texts, where a clip
    without a score got them all wrong; None where no clip has a count.
    """

    variant: str
    metric: str
    language: str | None
    """None for all prompts."""
    macro: float
    corpus: float | None
    prompts: int


ExclusionRule = Literal["traps", "repeats", "coverage", "copy"]


@dataclass(frozen=True)
class ExcludedRater:
    """A rater whose ratings do not count, by which rule of the protocol, and the figures."""

    rater: str
    rule: ExclusionRule
    reason: str


@dataclass(frozen=True)
class AxisMeans:
    """What one axis says of a variant and the base, in points; positive is better."""

    axis: str
    difference: float
    variant: float | None
    """Its mean opinion score, as ``base`` is the base's; None where they were compared directly."""
    base: float | None


@dataclass(frozen=True)
class PreferenceCounts:
    """Pairs of one rater and one sentence, by which system the rater scored higher."""

    variant: int
    neither: int
    base: int


@dataclass(frozen=True)
class PanelResult:
    """What the raters who count say of a variant and the base."""

    difference: Interval
    """In points of the scale, over pairs; positive is better. It decides."""
    without: dict[str, Interval]
    """The same without one rater, by rater."""
    preference: Interval
    """Share of pairs in which the variant is preferred; no preference counts half."""
    axes: tuple[AxisMeans, ...]
    mos: float | None
    """Mean of the axes, as ``base_mos`` is the base's; None where they were compared directly."""
    base_mos: float | None
    pooled_p: float
    """Of the paired Wilcoxon test over all pairs, common in the field; it does not decide."""
    alpha: float | None
    """Krippendorff's, ordinal; below 0.4 raters hardly agree."""


@dataclass(frozen=True)
class ListeningReport:
    """How one panel of listeners rated a variant against the base."""

    group: GroupName | None
    """The language or speaker of the sentences; None for all of set B."""
    variant: str
    verdict: Outcome
    confidence: float
    """Of the intervals. Of several finalists that one panel hears, each has Holm's part of what the
    protocol leaves to error."""
    raters: int
    sentences: int
    """That count, as ``raters``."""
    excluded: tuple[ExcludedRater, ...]
    preferred: PreferenceCounts
    """By the raters and over the sentences that count."""
    turns_on: tuple[str, ...]
    """Raters without any one of whom the others would decide otherwise: the panel is undecided."""
    result: PanelResult | None
    """None where fewer than two raters, or two sentences, count."""


@dataclass(frozen=True)
class Divergence:
    """Two checkpoints of a trial, one after the other: the loss fell, and the sound got worse."""

    trial: str
    since: int
    """The epoch of the earlier."""
    until: int
    """That of the later, of the lower loss."""
    losses: tuple[float, float]
    fall: Interval
    """How much better the earlier sounds, in the primary metric's unit, over prompts; wholly above
    0, with that of every other pair of the sweep (Bonferroni's inequality)."""


@dataclass(frozen=True)
class LossReport:
    """How well validation loss would have chosen: one point a checkpoint, as trained.

    ``spearman`` is between loss and the primary metric's mean, None where undefined; a loss that
    chooses well has it near -1 for a metric whose higher is better. ``lowest_rank`` is the place
    of the lowest-loss variant by gain among the ``variants`` judged, 1 for the best.
    """

    spearman: float | None
    checkpoints: int
    lowest: str
    lowest_rank: int
    variants: int
    divergences: tuple[Divergence, ...] = ()
    """Where loss and sound part, by trial and epoch."""


@dataclass(frozen=True)
class Replicate:
    """A training of the winner's hyperparameters with another seed, as set B shows it."""

    variant: str
    """Of the winner's epoch and lora_scale."""
    gain: Interval
    """Over the base, over prompts: of this training alone."""
    failed: int
    """Failed clips."""


@dataclass(frozen=True)
class RecipeVerdict:
    """Whether the winner's hyperparameters are better, or only its checkpoint.

    It never changes whether the checkpoint is promoted.
    """

    variant: str
    """The winner, which counts in none of the numbers: it was chosen for its own."""
    recipe: str
    """Its hyperparameters, as a person names them."""
    finding: RecipeFinding
    reasons: tuple[str, ...]
    """Why the recipe is not shown to be better."""
    asked: int
    """Replicates that the protocol asks for."""
    replicates: tuple[Replicate, ...]
    """Those with scores."""
    confidence: float
    """Of the intervals over replicates and prompts: each end is a test at the protocol's level."""
    gain: Interval | None
    """Mean over replicates and prompts, with the interval for other seeds and other prompts
    (:func:`orchestrator.verdict.stats.crossed_mean`); None where replicates lack scores."""
    claim: Interval | None
    """The gain of a recipe that is better, given that it was found so; as a confirmation's."""
    seed_sd: float | None
    """Standard deviation of the true gain between seeds, estimated, in the metric's unit."""
    constraints: tuple[ConstraintCheck, ...]
    """On the means over replicates."""


_ENCODER = json.JSONEncoder(indent=2, allow_nan=False, default=vars)
"""A dataclass is an object of its fields, in their order."""


@dataclass(frozen=True)
class Verdict:
    """The chosen variant or the reason for none."""

    verdict: Outcome
    sentence: str
    variant: str | None
    runner_up: str | None
    """The next best, preferably of another trial; without a winner, the best of all."""
    protocol_hash: str
    primary: str
    effect: Interval | None
    """On set B, the gain of the winner, as claimed, or else of the first finalist, as measured;
    positive is better."""
    prompts_needed: int | None
    """If inconclusive: how many prompts in set B would likely decide."""
    rows: tuple[VariantRow, ...]
    """Every variant on the prompts of set A that all speak. Gains are biased: they chose the
    finalists."""
    shortlisted: tuple[VariantRow, ...]
    """The shortlist on all of set A; empty where every variant speaks all of it."""
    confirmed: tuple[Confirmation, ...]
    """The sweep's finalists on all of set B, in the order of set A's choice."""
    groups: tuple[GroupVerdict, ...]
    """By language, then by speaker; empty where prompts of set B name no two of them."""
    error_rates: tuple[ErrorRate, ...]
    """Of the base and the finalists, for each metric that counts words or characters."""
    unscored: dict[str, int]
    """Clips of set B that lack a score that decides, of the base and the finalists that have
    such clips: they count against the finalists in what promotes, and for them in what refuses."""
    listening: tuple[ListeningReport, ...]
    """One a panel: each language's own, or else that of all sentences, one for each finalist that
    it heard, the metrics' winner first, and those of the speakers who have a winner of their own.
    Empty until something was rated."""
    loss: LossReport | None
    """None when no scored variant has a validation loss."""
    recipe: RecipeVerdict | None = None
    """None without a winner, and where no other seeds were asked for."""

    @property
    def finalists(self) -> tuple[str, ...]:
        """All variants with scores of set B: the sweep's finalists, then those of groups alone."""
        confirmed = [self.confirmed, *(group.confirmed for group in self.groups)]
        return tuple(dict.fromkeys(each.row.id for of in confirmed for each in of))

    def variant_for(self, group: GroupVerdict) -> str | None:
        """What a language or speaker may hear: its own winner, or else the sweep's.

        None where the group's prompts refuse the sweep's winner, or all finalists.
        """
        if group.variant is not None or group.verdict in AGAINST:
            return group.variant
        findings = {each.row.id: each.finding for each in group.confirmed}
        refused = self.variant is not None and findings.get(self.variant) in REFUSED
        return None if refused else self.variant

    def row(self, variant: str) -> VariantRow:
        """The numbers of ``variant``.

        Raises:
            KeyError: no such variant was judged.
        """
        return {row.id: row for row in self.rows}[variant]

    def to_json(self) -> str:
        """The text of ``verdict.json``."""
        text = StringIO()  # not a list of its pieces: of many variants they are many
        text.writelines(_ENCODER.iterencode(vars(self)))
        return text.getvalue()

    @classmethod
    def from_json(cls, text: str) -> "Verdict":
        """The inverse of :meth:`to_json`.

        Raises:
            pydantic.ValidationError: naming each field that is missing or of another type.
        """
        return TypeAdapter(cls).validate_json(text)
