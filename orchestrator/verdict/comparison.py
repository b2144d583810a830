"""Each variant of a score table against the base: gains, failed clips, constraints."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict import sentences
from orchestrator.verdict.columns import ClipKey, Values
from orchestrator.verdict.outcome import (
    ROUNDING,
    ConstraintCheck,
    FailedClip,
    FailureGate,
    Standing,
    VariantRow,
    total_violation,
)
from orchestrator.verdict.protocol import (
    CLIPPING,
    DURATION,
    END_OF_SPEECH_FAILURE,
    GATE_METRICS,
    RATIO_SOURCES,
    TAIL_SILENCE,
    Constraint,
    Gates,
    Prompt,
    Protocol,
)
from orchestrator.verdict.stats import PairedBootstrap
from orchestrator.verdict.table import ScoreTable
from orchestrator.verdict.yardstick import Yardsticks

FAILED_CLIPS = "failed_clips"
"""The constraint of the gates, beside those of the protocol, which bear their metric's name."""

# Set A's, its first part's and set B's, and those of the items of both by two metrics; those of
# languages and speakers come and go.
_bootstrap = lru_cache(maxsize=8)(PairedBootstrap)


@dataclass(frozen=True)
class Assessment:
    """How well a variant does, in the numbers that a search maximises and constrains."""

    variant: str
    objective: float
    """How good the variant is: to be maximised, always finite.

    The mean gain in the primary metric if the gates and constraints hold. If not, a value below
    every possible gain, falling with the violation (the feasibility rules of Deb 2000, "An
    efficient constraint handling method for genetic algorithms", section 3), so that a search can
    still follow a falling violation. A constraint on a metric that only finalists get is left out
    while the variant does not have it.
    """
    promise: float
    """The gain less the violation, as a share of its range, in the primary metric's unit.

    Early epochs break constraints that later ones keep: a model that learns a voice makes more
    word errors at first. The objective ranks such a variant with the hopeless ones.
    """
    measured: Mapping[str, float]
    """Each metric's mean over prompts, in its unit; where a metric decides, failed clips count."""
    constraints: Mapping[str, float]
    """By how much each is broken: 0 or less where it holds. Clips of the gates, else the
    metric's unit."""


class Comparison:
    """The variants of ``table`` against its base, by the rule of ``protocol``.

    A clip that was not scored may have been good or bad. It counts against the variants: at the
    metric's worst bound where it is a variant's, at the best where it is the base's. In
    :attr:`lenient` it counts for them. What holds in both holds whatever the scores would have
    been (the bounds of Manski 1989, "Anatomy of the selection problem").

    Every method that takes a variant's id raises KeyError where the table does not have it.

    Args:
        table: scores of the base and of the variants.
        protocol: over the prompts of ``table``.
        yardsticks: of a table that has these prompts; those of ``table`` itself if None.
        is_lenient: whether what was not scored counts for the variants.
        beside: how many such comparisons are made side by side, each on prompts of its own: what
            excludes or refuses is adjusted for them.
    """

    def __init__(
        self,
        table: ScoreTable,
        protocol: Protocol,
        *,
        yardsticks: Yardsticks | None = None,
        is_lenient: bool = False,
        beside: int = 1,
    ) -> None:
        self.table = table
        self.protocol = protocol
        self._of_items = {m: rule.texts for m, rule in protocol.over_items().items()}
        """Of each metric of text items, which text each of its items says."""
        self._yardsticks = yardsticks or Yardsticks.of(table, protocol)
        self._is_lenient = is_lenient
        self._beside = beside
        self._failed: dict[str, NDArray[np.bool_]] = {}
        self._unscored: dict[str, dict[ClipKey, str]] = {}
        self._filled: dict[tuple[str, str, float], Values] = {}
        self._gates: dict[str, FailureGate] = {}
        self._checks: dict[str, tuple[ConstraintCheck, ...]] = {}
        self._harmful: dict[str, bool] = {}

    def only(self, prompts: Sequence[Prompt], beside: int = 1) -> "Comparison":
        """The same comparison on these of its prompts alone, one of so many ``beside``."""
        protocol = self.protocol.model_copy(update={"prompts": tuple(prompts)})
        part = self.table.only({prompt.id for prompt in prompts})
        return Comparison(part, protocol, yardsticks=self._yardsticks, beside=beside)

    @cached_property
    def lenient(self) -> "Comparison":
        """The same comparison, where what was not scored counts for the variants."""
        answers = self.table.items.values()
        lacks_any = any(map(self.unscored_clips, self.table.variants)) or any(
            any(part.missing.values()) for part in answers
        )
        if self._is_lenient or not lacks_any:
            return self
        return Comparison(
            self.table,
            self.protocol,
            yardsticks=self._yardsticks,
            is_lenient=True,
            beside=self._beside,
        )

    @property
    def bootstrap(self) -> PairedBootstrap:
        """The draws that all intervals over clips share under this protocol."""
        return self.bootstrap_of(self.protocol.primary)

    def bootstrap_of(self, metric: str) -> PairedBootstrap:
        """The draws of a metric: those over clips, or over the text items that it measures."""
        of, texts = self.protocol, self._texts(metric)
        return _bootstrap(len(set(texts)), of.bootstrap_resamples, of.confidence, of.seed)

    def _texts(self, metric: str) -> tuple[int, ...]:
        """Which text each prompt says, or each item that the metric measures."""
        return self._of_items.get(metric) or self.protocol.texts

    def gains(self, variant: str) -> Values:
        """Paired differences to the base, shape (texts,), signed so that positive is better."""
        return -self._worsening(variant, self.protocol.primary, self._worse_way)

    def most(self, variant: str) -> float:
        """The upper end of a variant's gain, whatever was not scored."""
        return self.bootstrap.interval(self.lenient.gains(variant), self._beside).high

    def lead(self, one: str, other: str) -> Values:
        """Gains of a variant over another, shape (texts,): the least that they may be."""
        primary = self.protocol.primary
        more = self.scores(one, primary) - self.lenient.scores(other, primary)
        return -self._worse_way * more

    @property
    def _worse_way(self) -> int:
        """1 where more of the primary metric is worse, else -1."""
        return 1 if self.table.metrics[self.protocol.primary].direction == "lower" else -1

    def is_tied(self, one: str, other: str) -> bool:
        """Whether the gains of two variants cannot be told apart."""
        return self.bootstrap.interval(self.gains(one) - self.gains(other)).includes_zero

    def scores(self, variant: str, metric: str) -> Values:
        """What each text counts for, shape (texts,): its prompts' mean, failed clips at the worst.

        The text is the unit of analysis: prompts that are near-duplicates are not independent of
        each other, nor are the seeds of a prompt, which are averaged first.

        A perceptual predictor barely notices a cut-off or runaway clip (DNSMOS even rewards some),
        so a clip that fails a gate does not keep its score where scores decide: in the primary
        metric and the constraints. A metric without a better direction keeps what was measured.
        """
        of = self.table.metrics[metric]
        at_best = (variant == BASE_VARIANT) != self._is_lenient and of.direction != "neither"
        return self._with_unscored_at(of.best if at_best else of.worst, variant, metric)

    def _worsening(self, variant: str, metric: str, way: int) -> Values:
        """Variant less base, shape (texts,), times ``way``: 1 where more is worse, else -1."""
        of = self.table.metrics[metric]
        up = (way > 0) != self._is_lenient
        ours, base = (of.high, of.low) if up else (of.low, of.high)
        return way * (
            self._with_unscored_at(ours, variant, metric)
            - self._with_unscored_at(base, BASE_VARIANT, metric)
        )

    def _with_unscored_at(self, bound: float, variant: str, metric: str) -> Values:
        """As :meth:`scores`, with ``bound`` for what was not scored."""
        key = variant, metric, bound
        if key not in self._filled:
            of = self.table.metrics[metric]
            values = np.where(self.lacks(variant, metric), bound, self.clips(variant, metric))
            decides = metric in self.protocol.deciding_metrics and of.direction != "neither"
            if decides and metric not in self._of_items:
                values = np.where(self._fails(variant), of.worst, values)
            self._filled[key] = self._by_text(values, metric)
        return self._filled[key]

    def _by_text(self, values: Values, metric: str = DURATION) -> Values:
        """Average seeds, then the prompts, or the items, of each text: (clips,) to (texts,)."""
        texts, by_prompt = self._texts(metric), self.table.over(metric).by_prompt
        return np.bincount(texts, weights=by_prompt(values)) / np.bincount(texts)

    def metrics(self, variant: str) -> list[str]:
        """Everything that the variant was measured by, and its ratios to the base."""
        columns, known = self.table.values[variant], self.table.metrics
        ratios = [name for name, of in RATIO_SOURCES.items() if name in known and of in columns]
        answered = [name for name, of in self.table.items.items() if of.values[variant]]
        return list(dict.fromkeys((*columns, *ratios, *answered)))

    def clips(self, variant: str, metric: str) -> Values:
        """What was measured of each clip, shape (clips,); meaningless where it :meth:`lacks`."""
        if metric in RATIO_SOURCES:
            return self._yardsticks.ratio(self.table, variant, metric)
        return self.table.over(metric).values[variant][metric]

    def lacks(self, variant: str, metric: str) -> NDArray[np.bool_]:
        """Which clips have no value of a metric, shape (clips,)."""
        source = RATIO_SOURCES.get(metric)
        if source is None:
            return self.table.over(metric).lacks(variant, metric)
        if variant == BASE_VARIANT:
            return np.zeros(len(self.table.keys), bool)
        return self.table.lacks(variant, source) | self.table.lacks(BASE_VARIANT, source)

    def _fails(self, variant: str) -> NDArray[np.bool_]:
        """Which clips fail a gate by what was measured of them, shape (clips,)."""
        if variant not in self._failed:
            gates, value = self.protocol.gates, partial(self.clips, variant)
            low, high = gates.duration_ratio
            ratio, silence = value("duration_ratio"), value(TAIL_SILENCE)
            beyond = {
                END_OF_SPEECH_FAILURE: value(END_OF_SPEECH_FAILURE) > 0,
                DURATION: (ratio < low) | (ratio > high),
                TAIL_SILENCE: (silence > gates.tail_silence) | (silence >= value(DURATION)),
                CLIPPING: value(CLIPPING) > gates.clipping,
            }
            failed = self._among(self.table.broken(variant))
            for name, fails in beyond.items():
                failed |= fails & ~self.table.lacks(variant, name)
            self._failed[variant] = failed
        return self._failed[variant]

    def failed_clips(self, variant: str) -> tuple[FailedClip, ...]:
        """Every clip that fails a gate, in the order of the prompts."""
        columns = {name: self.clips(variant, name) for name in (*GATE_METRICS, "duration_ratio")}
        missing, broken = self.table.missing[variant], self.table.broken(variant)
        found = []
        for clip in np.flatnonzero(self._fails(variant)):
            key = self.table.keys[clip]
            value = {
                name: float(column[clip])
                for name, column in columns.items()
                if key not in missing.get(RATIO_SOURCES.get(name, name), {})
            }
            yardstick = "the text takes" if self._yardsticks.is_text(key[0]) else "the base"
            reasons = [broken[key]] if key in broken else []
            reasons += _gate_reasons(value, self.protocol.gates, yardstick)
            found.append(FailedClip(*key, tuple(reasons)))
        return tuple(found)

    def unscored_clips(self, variant: str) -> dict[ClipKey, str]:
        """Clips that fail no gate and lack a value in a metric that decides, with the reason.

        A metric that is only reported may be missing: it costs the clip that metric, not its
        place.
        """
        if variant not in self._unscored:
            self._unscored[variant] = self._find_unscored(variant)
        return self._unscored[variant]

    def _find_unscored(self, variant: str) -> dict[ClipKey, str]:
        missing = self.table.missing[variant]
        if not missing:
            return {}
        names = self.protocol.deciding_metrics
        deciding = {*GATE_METRICS, *(RATIO_SOURCES.get(name, name) for name in names)}
        reasons: dict[ClipKey, list[str]] = {}
        for metric in sorted(deciding & missing.keys()):
            for key, why in missing[metric].items():
                reasons.setdefault(key, []).append(f"{metric}: {why}")
        failed = dict(zip(self.table.keys, self._fails(variant), strict=True))
        return {
            key: f"no score ({'; '.join(why)})" for key, why in reasons.items() if not failed[key]
        }

    def has_scores(self, variant: str) -> bool:
        """Whether any clip of the variant has the scores that decide."""
        return len(self.unscored_clips(variant)) < len(self.table.keys)

    def failure_gate(self, variant: str) -> FailureGate:
        """Count failed clips against the base's: a few more are chance, more than that are not."""
        if variant not in self._gates:
            self._gates[variant] = self._gate(variant)
        return self._gates[variant]

    def _gate(self, variant: str) -> FailureGate:
        ours = self._counts_as_failed(variant)
        base = self._counts_as_failed(BASE_VARIANT)
        tolerance = max(1, int(self.protocol.gates.excess_failures * len(ours) + ROUNDING))
        return FailureGate(
            failed=int(ours.sum()),
            unscored=len(self.unscored_clips(variant)),
            allowed=int(base.sum()) + tolerance,
            clips=len(ours),
            excess=self.bootstrap.interval(self._excess_failures(variant)),
            tolerance=tolerance / len(ours),
        )

    def _excess_failures(self, variant: str) -> Values:
        """By what share of its clips each text fails more often than the base's, shape (texts,)."""
        ours, base = map(self._counts_as_failed, (variant, BASE_VARIANT))
        return self._by_text(ours.astype(float) - base.astype(float))

    def _counts_as_failed(self, variant: str) -> NDArray[np.bool_]:
        """What was not scored may have failed, shape (clips,): a variant's did, the base's not."""
        failed, unscored = self._fails(variant), self.unscored_clips(variant)
        if not unscored or (variant == BASE_VARIANT) != self._is_lenient:
            return failed
        return np.logical_or(failed, self._among(unscored))

    def _among(self, clips: Collection[ClipKey]) -> NDArray[np.bool_]:
        """Which clips are among these, shape (clips,)."""
        return np.fromiter((key in clips for key in self.table.keys), bool, len(self.table.keys))

    def constraint_checks(self, variant: str) -> tuple[ConstraintCheck, ...]:
        """Every constraint whose metric was measured on both the variant and the base."""
        if variant not in self._checks:
            self._checks[variant] = tuple(
                self._check(variant, constraint) for constraint in self._measured(variant)
            )
        return self._checks[variant]

    def _measured(self, variant: str) -> list[Constraint]:
        known = {*self.metrics(variant)} & {*self.metrics(BASE_VARIANT)}
        return [each for each in self.protocol.constraints if each.metric in known]

    def worsenings(self, variant: str, metric: str) -> list[Values]:
        """How much worse than the base each text is, shape (texts,), in each way that is worse."""
        ways = {"lower": (1,), "higher": (-1,), "neither": (1, -1)}
        direction = self.table.metrics[metric].direction
        return [self._worsening(variant, metric, way) for way in ways[direction]]

    def _worst_way(self, variant: str, metric: str) -> Values:
        one, *other = self.worsenings(variant, metric)
        return max(one, *other, key=self.bootstrap_of(metric).upper) if other else one

    def _check(self, variant: str, constraint: Constraint) -> ConstraintCheck:
        name, metric = constraint.metric, self.table.metrics[constraint.metric]
        worst, bootstrap = self._worst_way(variant, name), self.bootstrap_of(name)
        return ConstraintCheck.of(
            metric,
            base=float(self.scores(BASE_VARIANT, name).mean()),
            variant=float(self.scores(variant, name).mean()),
            worsening=bootstrap.interval(worst),
            bound=bootstrap.upper(worst),
            margin=constraint.margin,
        )

    def is_harmful(self, variant: str) -> bool:
        """Whether a gate or a constraint is shown to be broken, whatever was not scored.

        The whole interval of the worsening lies beyond what is allowed. The intervals of all rules
        hold together: a variant that breaks none is seldom excluded, however many there are.
        """
        if variant not in self._harmful:
            seen = self.lenient
            excess, gate = seen._excess_failures(variant), seen.failure_gate(variant)
            rules = [(excess, gate.tolerance, self.bootstrap)]
            rules += [
                (seen._worst_way(variant, each.metric), each.margin, self.bootstrap_of(each.metric))
                for each in seen._measured(variant)
            ]
            beside = len(rules) * self._beside
            self._harmful[variant] = any(
                worsening.mean() > allowed + ROUNDING  # below its mean an interval begins anyway
                and bootstrap.interval(worsening, beside).low > allowed + ROUNDING
                for worsening, allowed, bootstrap in rules
            )
        return self._harmful[variant]

    def is_plausible(self, variant: str) -> bool:
        """Whether gates and constraints hold by the means alone, which their bounds may not."""
        checks = self.constraint_checks(variant)
        within = (check.worsening.mean <= check.margin + ROUNDING for check in checks)
        return not self.failure_gate(variant).violation and all(within)

    def violation(self, variant: str) -> float:
        """By how much the variant breaks gates and constraints; 0 when all hold."""
        return total_violation(self.failure_gate(variant), self.constraint_checks(variant))

    def assess(self, variant: str) -> Assessment:
        """How well the variant does, for a search."""
        gain, violation = float(self.gains(variant).mean()), self.violation(variant)
        span = self.table.metrics[self.protocol.primary].span
        gate, checks = self.failure_gate(variant), self.constraint_checks(variant)
        # A bound beyond its margin by less than rounding is not broken, as in the violation.
        excess = {c.metric: c.bound - c.margin for c in checks}
        holds = {c.metric for c in checks if c.violation == 0}
        return Assessment(
            variant=variant,
            # No gain is below -span: both means lie within the primary metric's bounds.
            objective=max(gain, -span) if violation == 0 else -span - violation,
            promise=gain - violation * span,
            measured={
                name: float(self.scores(variant, name).mean())
                for name in self.metrics(variant)
                if name not in GATE_METRICS
            },
            constraints={
                FAILED_CLIPS: float(gate.failed - gate.allowed),
                **{name: min(by, 0.0) if name in holds else by for name, by in excess.items()},
            },
        )

    def row(self, variant: str) -> VariantRow:
        """All numbers of the variant, and what the rule objects to."""
        base = self.metrics(BASE_VARIANT)
        scores = {metric: self.scores(variant, metric) for metric in self.metrics(variant)}
        row = VariantRow(
            id=variant,
            standing="passed",
            reasons=(),
            means={metric: float(values.mean()) for metric, values in scores.items()},
            differences={
                metric: self.bootstrap_of(metric).interval(
                    values - self.scores(BASE_VARIANT, metric)
                )
                for metric, values in scores.items()
                if metric in base
            },
            gain=self.bootstrap.interval(self.gains(variant)),
            objective=self.assess(variant).objective,
            failures=self.failure_gate(variant),
            missing={
                metric: len(clips)
                for of in (self.table, *self.table.items.values())
                for metric, clips in of.missing[variant].items()
            },
            failed_clips=self.failed_clips(variant),
            constraints=self.constraint_checks(variant),
        )
        standing, reasons = self._objections(row)
        return replace(row, standing=standing, reasons=reasons)

    def _objections(self, row: VariantRow) -> tuple[Standing, tuple[str, ...]]:
        """Whether set A rules the variant out, and what it objects to."""
        if row.id == BASE_VARIANT:
            return "base", ()
        if not self.has_scores(row.id):
            return "rejected", (sentences.no_scores_reason(self.unscored_clips(row.id)),)
        if broken := sentences.broken_rules(row):
            # A gain that comes with failed clips or another voice is no news: leave it out.
            return "rejected" if self.is_harmful(row.id) else "passed", tuple(broken)
        if no_gain := sentences.no_gain_reason(row, self.protocol):
            return "rejected", (no_gain,)
        return "passed", ()


def _gate_reasons(value: Mapping[str, float], gates: Gates, yardstick: str) -> Iterator[str]:
    """Every gate that a clip fails, by what was measured of it."""
    if value.get(END_OF_SPEECH_FAILURE, 0.0) > 0:
        yield "no end of speech before the length limit"
    low, high = gates.duration_ratio
    if not low <= (ratio := value.get("duration_ratio", 1.0)) <= high:
        yield f"{value[DURATION]:.1f} s, {ratio:.2f} x {yardstick} (allowed {low:g} to {high:g})"
    silence = value.get(TAIL_SILENCE, 0.0)
    if silence > gates.tail_silence:
        yield f"{silence:.1f} s silence at the end (allowed {gates.tail_silence:g} s)"
    elif silence >= value.get(DURATION, math.inf):
        yield f"no speech in {silence:.1f} s"
    if (clipped := value.get(CLIPPING, 0.0)) > gates.clipping:
        yield f"{clipped:.1%} of samples clipped (allowed {gates.clipping:.1%})"
