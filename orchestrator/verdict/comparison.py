"""Each variant of a score table against the base: gains, failed clips, constraints."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict import sentences
from orchestrator.verdict.columns import ClipKey, Values
from orchestrator.verdict.outcome import (
    ConstraintCheck,
    FailedClip,
    FailureGate,
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

FAILED_CLIPS = "failed_clips"
"""The constraint of the gates, beside those of the protocol, which bear their metric's name."""

_ROUNDING = 1e-9
"""A mean exactly at its margin is allowed, whatever its last bit."""

# Set A's, its first part's and set B's; those of languages and speakers come and go.
_bootstrap = lru_cache(maxsize=4)(PairedBootstrap)


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

    Every method that takes a variant's id raises KeyError where the table does not have it.

    Args:
        table: scores of the base and of the variants.
        protocol: over the prompts of ``table``.
    """

    def __init__(self, table: ScoreTable, protocol: Protocol) -> None:
        self.table = table
        self.protocol = protocol
        self._failed: dict[str, tuple[FailedClip, ...]] = {}
        self._scores: dict[tuple[str, str], Values] = {}
        self._checks: dict[str, tuple[ConstraintCheck, ...]] = {}

    def only(self, prompts: Sequence[Prompt]) -> "Comparison":
        """The same comparison on these of its prompts alone."""
        protocol = self.protocol.model_copy(update={"prompts": tuple(prompts)})
        return Comparison(self.table.only({prompt.id for prompt in prompts}), protocol)

    @property
    def bootstrap(self) -> PairedBootstrap:
        """The draws that all intervals under this protocol share."""
        of = self.protocol
        return _bootstrap(len(set(of.texts)), of.bootstrap_resamples, of.confidence, of.seed)

    def gains(self, variant: str) -> Values:
        """Paired differences to the base, shape (texts,), signed so that positive is better."""
        primary = self.protocol.primary
        ours, base = self.scores(variant, primary), self.scores(BASE_VARIANT, primary)
        return ours - base if self.table.metrics[primary].direction == "higher" else base - ours

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
        if (variant, metric) not in self._scores:
            values, of = self.table.values[variant][metric], self.table.metrics[metric]
            decides = metric in self.protocol.deciding_metrics
            failed = self.failed_clips(variant) if decides and of.direction != "neither" else ()
            if failed:
                keys = {(clip.prompt, clip.seed) for clip in failed}
                values = np.where([key in keys for key in self.table.keys], of.worst, values)
            self._scores[variant, metric] = self._by_text(self.table.by_prompt(values))
        return self._scores[variant, metric]

    def _by_text(self, values: Values) -> Values:
        """Average the prompts of each text: shape (prompts,) to (texts,)."""
        texts = self.protocol.texts
        return np.bincount(texts, weights=values) / np.bincount(texts)

    def failed_clips(self, variant: str) -> tuple[FailedClip, ...]:
        """Every clip that has no score or fails a gate, in the order of the prompts."""
        if variant not in self._failed:
            self._failed[variant] = tuple(self._failures(variant))
        return self._failed[variant]

    def _failures(self, variant: str) -> Iterator[FailedClip]:
        unscored, gates = self.unscored_clips(variant), self.protocol.gates
        columns, keys = self.table.values[variant], self.table.keys
        failed = _fails_a_gate(columns, gates) | [key in unscored for key in keys]
        for clip in np.flatnonzero(failed):
            value = {name: float(column[clip]) for name, column in columns.items()}
            unscored_reason = unscored.get(keys[clip])
            reasons = [unscored_reason] if unscored_reason else _gate_reasons(value, gates)
            yield FailedClip(*keys[clip], tuple(reasons))

    def unscored_clips(self, variant: str) -> dict[ClipKey, str]:
        """Clips without a value in a metric that decides, with the reason.

        A metric that is only reported may be missing: it costs the clip that metric, not its
        place.
        """
        missing = self.table.missing[variant]
        names = self.protocol.deciding_metrics
        deciding = {*GATE_METRICS, *(RATIO_SOURCES.get(name, name) for name in names)}
        reasons: dict[ClipKey, list[str]] = {}
        for metric in sorted(deciding & missing.keys()):
            for key, why in missing[metric].items():
                reasons.setdefault(key, []).append(f"{metric}: {why}")
        return {key: f"no score ({'; '.join(why)})" for key, why in reasons.items()}

    def has_scores(self, variant: str) -> bool:
        """Whether any clip of the variant has the scores that decide."""
        return len(self.unscored_clips(variant)) < len(self.table.keys)

    def failure_gate(self, variant: str) -> FailureGate:
        """Count failed clips against the base's: a few more are chance, more than that are not."""
        clips = len(self.table.keys)
        tolerance = max(1, int(self.protocol.gates.excess_failures * clips + _ROUNDING))
        allowed = len(self.failed_clips(BASE_VARIANT)) + tolerance
        return FailureGate(len(self.failed_clips(variant)), allowed, clips)

    def constraint_checks(self, variant: str) -> tuple[ConstraintCheck, ...]:
        """Every constraint whose metric was measured on both the variant and the base."""
        if variant not in self._checks:
            measured = self.table.values[variant].keys() & self.table.values[BASE_VARIANT]
            self._checks[variant] = tuple(
                self._check(variant, constraint)
                for constraint in self.protocol.constraints
                if constraint.metric in measured
            )
        return self._checks[variant]

    def _check(self, variant: str, constraint: Constraint) -> ConstraintCheck:
        name, metric = constraint.metric, self.table.metrics[constraint.metric]
        base, ours = self.scores(BASE_VARIANT, name), self.scores(variant, name)
        change = ours - base
        towards_worse = {"lower": [change], "higher": [-change], "neither": [change, -change]}
        worst = max(towards_worse[metric.direction], key=self.bootstrap.upper)
        bound = self.bootstrap.upper(worst)
        excess = bound - constraint.margin
        return ConstraintCheck(
            metric=name,
            base=float(base.mean()),
            variant=float(ours.mean()),
            worsening=self.bootstrap.interval(worst),
            bound=bound,
            margin=constraint.margin,
            violation=0.0 if excess < _ROUNDING else excess / metric.span,
        )

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
                for name in self.table.values[variant]
                if name not in GATE_METRICS
            },
            constraints={
                FAILED_CLIPS: float(gate.failed - gate.allowed),
                **{name: min(by, 0.0) if name in holds else by for name, by in excess.items()},
            },
        )

    def row(self, variant: str) -> VariantRow:
        """All numbers of the variant, and what the rule objects to."""
        table, base = self.table, self.table.values[BASE_VARIANT]
        scores = {metric: self.scores(variant, metric) for metric in table.values[variant]}
        row = VariantRow(
            id=variant,
            standing="base" if variant == BASE_VARIANT else "passed",
            reasons=(),
            means={metric: float(values.mean()) for metric, values in scores.items()},
            differences={
                metric: self.bootstrap.interval(values - self.scores(BASE_VARIANT, metric))
                for metric, values in scores.items()
                if metric in base
            },
            gain=self.bootstrap.interval(self.gains(variant)),
            objective=self.assess(variant).objective,
            failures=self.failure_gate(variant),
            missing={metric: len(clips) for metric, clips in table.missing[variant].items()},
            failed_clips=self.failed_clips(variant),
            constraints=self.constraint_checks(variant),
        )
        reasons = () if variant == BASE_VARIANT else tuple(self._objections(row))
        return replace(row, standing="rejected", reasons=reasons) if reasons else row

    def _objections(self, row: VariantRow) -> Iterator[str]:
        if not self.has_scores(row.id):
            yield sentences.no_scores_reason(self.unscored_clips(row.id))
        elif broken := sentences.broken_rules(row):
            # A gain that comes with failed clips or another voice is no news: leave it out.
            yield from broken
        elif no_gain := sentences.no_gain_reason(row.gain, self.protocol):
            yield no_gain


def _fails_a_gate(value: Mapping[str, Values], gates: Gates) -> NDArray[np.bool_]:
    """Whether each clip has a reason below; most have none, and sentences take time."""
    low, high = gates.duration_ratio
    ratio = value["duration_ratio"]
    fails: NDArray[np.bool_] = (
        (value[END_OF_SPEECH_FAILURE] > 0)
        | (ratio < low)
        | (ratio > high)
        | (value[TAIL_SILENCE] > gates.tail_silence)
        | (value[CLIPPING] > gates.clipping)
    )
    return fails


def _gate_reasons(value: Mapping[str, float], gates: Gates) -> Iterator[str]:
    if value[END_OF_SPEECH_FAILURE] > 0:
        yield "no end of speech before the length limit"
    low, high = gates.duration_ratio
    if not low <= value["duration_ratio"] <= high:
        yield (
            f"{value[DURATION]:.1f} s, {value['duration_ratio']:.2f} x the base "
            f"(allowed {low:g} to {high:g})"
        )
    if value[TAIL_SILENCE] > gates.tail_silence:
        yield f"{value[TAIL_SILENCE]:.1f} s silence at the end (allowed {gates.tail_silence:g} s)"
    if value[CLIPPING] > gates.clipping:
        yield f"{value[CLIPPING]:.1%} of samples clipped (allowed {gates.clipping:.1%})"
