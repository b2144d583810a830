"""What was measured: every variant's scores on the same clips, next to the base's."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.protocol import RATIO_SOURCES, RATIO_WORST, MetricVersion, Protocol

Values = NDArray[np.float64]
ClipKey = tuple[str, int]
"""Prompt id and seed."""
_Clips = Mapping[ClipKey, ClipScores]


class ScoreTableError(ValueError):
    """Scores that cannot be compared; the message lists every problem, one a line."""


@dataclass(frozen=True)
class VariantInfo:
    """An adapter at one epoch and lora_scale. The base has id ``base``, no trial and scale 0."""

    id: str
    trial: str | None
    epoch: int
    lora_scale: float
    rank: int | None
    learning_rate: float | None
    validation_loss: float | None
    group_losses: Mapping[str, float] = field(default_factory=dict)
    """Over the validation clips of one language or speaker: ``language/km``, ``speaker/slt``."""
    mix: str | None = None
    """Which of ``data.mixes`` it was trained on; None is every clip once."""

    @classmethod
    def unlisted(cls, name: str) -> "VariantInfo":
        """What is known of ``name`` alone: the base, or else a trial of its own."""
        if name == BASE_VARIANT:
            return cls(name, None, 0, 0.0, None, None, None)
        return cls(name, name, 1, 1.0, None, None, None)

    @property
    def is_unlisted(self) -> bool:
        """Whether nothing is known of it but its id."""
        return self == self.unlisted(self.id)

    @property
    def name(self) -> str:
        """What a person calls it."""
        if self.trial is None:
            return "the base"
        if self.is_unlisted:
            return self.id
        rate = "unknown" if self.learning_rate is None else scientific(self.learning_rate)
        rank = "unknown" if self.rank is None else self.rank
        mix = "" if self.mix is None else f", mix {self.mix}"
        return (
            f"rank {rank}, learning rate {rate}{mix}, epoch {self.epoch}, "
            f"lora_scale {self.lora_scale:g}"
        )


def scientific(number: float) -> str:
    """A learning rate as people write it, to three digits: 2e-4."""
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


@dataclass(frozen=True)
class ScoreTable:
    """Scores by variant and metric, one number a clip, in the order of ``keys``.

    Every variant has every clip the base has: a missing clip, or a metric without a value, holds
    the metric's worst bound and has a reason in ``missing``. Only a finalist metric of a variant
    that never was a finalist is absent.
    """

    variants: Mapping[str, VariantInfo]
    metrics: Mapping[str, MetricVersion]
    prompts: tuple[str, ...]
    keys: tuple[ClipKey, ...]
    values: Mapping[str, Mapping[str, Values]]
    missing: Mapping[str, Mapping[str, Mapping[ClipKey, str]]]
    """Variant, then metric, then clip, to the reason why it has no value."""

    @classmethod
    def build(
        cls, variants: Sequence[VariantInfo], clips: Sequence[ClipScores], protocol: Protocol
    ) -> "ScoreTable":
        """Line up the clips of ``variants`` (the base among them) by prompt and seed.

        Raises:
            ScoreTableError: naming every clip or variant that cannot be paired with the base.
        """
        if problems := list(_problems(variants, clips, protocol)):
            raise ScoreTableError("\n".join(problems))
        of_variant: defaultdict[str, dict[ClipKey, ClipScores]] = defaultdict(dict)
        for clip in clips:
            of_variant[clip.variant][clip.prompt, clip.seed] = clip
        prompts, base = tuple(prompt.id for prompt in protocol.prompts), of_variant[BASE_VARIANT]
        keys = tuple(sorted(base, key=lambda key: (prompts.index(key[0]), key[1])))
        metrics, values, missing = protocol.judged_metrics(), {}, {}
        for name in (variant.id for variant in variants):
            measured = _measured(of_variant[name], keys, protocol)
            values[name] = {**measured, **_ratios(of_variant[name], keys, base, metrics)}
            missing[name] = _missing(of_variant[name], keys, measured)
        by_id = {variant.id: variant for variant in variants}
        return cls(by_id, metrics, prompts, keys, values, missing)

    @property
    def adapted(self) -> list[VariantInfo]:
        """Every variant but the base."""
        return [variant for variant in self.variants.values() if variant.id != BASE_VARIANT]

    def of(self, variants: Iterable[str]) -> "ScoreTable":
        """The same table of these variants alone, the base among them."""
        kept = list(variants)
        return replace(
            self,
            variants={name: self.variants[name] for name in kept},
            values={name: self.values[name] for name in kept},
            missing={name: self.missing[name] for name in kept},
        )

    def only(self, prompts: Collection[str]) -> "ScoreTable":
        """The same table of these prompts alone."""
        kept = [place for place, (prompt, _) in enumerate(self.keys) if prompt in prompts]
        return replace(
            self,
            prompts=tuple(prompt for prompt in self.prompts if prompt in prompts),
            keys=tuple(self.keys[place] for place in kept),
            values={
                variant: {metric: values[kept] for metric, values in columns.items()}
                for variant, columns in self.values.items()
            },
            missing={
                variant: {
                    metric: {key: why for key, why in clips.items() if key[0] in prompts}
                    for metric, clips in columns.items()
                }
                for variant, columns in self.missing.items()
            },
        )

    def by_prompt(self, values: Values) -> Values:
        """Average the seeds of each prompt: shape (clips,) to (prompts,).

        The prompt is the unit of analysis: seeds of one prompt are not independent of each other.
        """
        total = np.bincount(self._of_prompt, weights=values, minlength=len(self.prompts))
        return total / self._seeds

    @cached_property
    def _of_prompt(self) -> NDArray[np.intp]:
        """The place of each clip's prompt, shape (clips,)."""
        place = {prompt: index for index, prompt in enumerate(self.prompts)}
        return np.array([place[prompt] for prompt, _ in self.keys], dtype=np.intp)

    @cached_property
    def _seeds(self) -> NDArray[np.intp]:
        """How many clips each prompt has, shape (prompts,)."""
        return np.bincount(self._of_prompt, minlength=len(self.prompts))


def as_trained(variants: Iterable[VariantInfo]) -> list[VariantInfo]:
    """One variant a checkpoint, in the order of trial and epoch: the lora_scale nearest 1.

    That is the scale at which the checkpoint was trained and its loss measured.
    """
    nearest: dict[tuple[str, int], VariantInfo] = {}
    for variant in sorted(variants, key=lambda v: (abs(v.lora_scale - 1.0), v.id)):
        nearest.setdefault((variant.trial or "", variant.epoch), variant)
    return [nearest[checkpoint] for checkpoint in sorted(nearest)]


def _value(clip: ClipScores | None, metric: str) -> float | None:
    value = None if clip is None else clip.values.get(metric)
    return value if value is not None and np.isfinite(value) else None


def _problems(
    variants: Sequence[VariantInfo], clips: Sequence[ClipScores], protocol: Protocol
) -> Iterable[str]:
    known = {variant.id for variant in variants}
    for name, count in Counter(variant.id for variant in variants).items():
        if count > 1:
            yield f"a variant is listed once, got {name!r} {count} times: list it once"
    if BASE_VARIANT not in known:
        yield (
            f"the base is one of the variants, got {sorted(known)}: "
            f"add it under id {BASE_VARIANT!r}"
        )
    yield from _unpaired(clips, protocol)
    for clip in clips:
        yield from _clip_problems(clip, known, protocol)


def _unpaired(clips: Sequence[ClipScores], protocol: Protocol) -> Iterable[str]:
    base = {(clip.prompt, clip.seed) for clip in clips if clip.variant == BASE_VARIANT}
    spoken = {prompt for prompt, _ in base}
    for prompt in protocol.prompts:
        if prompt.id not in spoken:
            yield (
                f"the base speaks every prompt, got no scored clip of prompt {prompt.id!r}: "
                "score the base first"
            )
    for clip in clips:
        if clip.prompt in spoken and (clip.prompt, clip.seed) not in base:
            yield (
                f"a clip is paired with the base's of the same seed, got seed {clip.seed} at "
                f"{_where(clip)}: score the base with that seed"
            )
    keys = Counter((clip.variant, clip.prompt, clip.seed) for clip in clips)
    for key, count in keys.items():
        if count > 1:
            yield f"a clip is scored once, got {count} rows at {_place(*key)}: keep one"


def _clip_problems(clip: ClipScores, variants: set[str], protocol: Protocol) -> Iterable[str]:
    if clip.variant not in variants:
        yield (
            f"a clip's variant is a known one, got {clip.variant!r} at {_where(clip)}: "
            "list the variant or remove the clip"
        )
    if clip.prompt not in {prompt.id for prompt in protocol.prompts}:
        yield (
            f"a clip's prompt is in the protocol, got {clip.prompt!r} at {_where(clip)}: "
            "judge these scores with the protocol they were made under"
        )
    known = {metric.name for metric in protocol.metrics}
    for name in sorted({*clip.values, *clip.failures} - known):
        yield (
            f"a score's metric is in the protocol, got {name!r} at {_where(clip)}: "
            f"use one of {', '.join(sorted(known))}"
        )


def _where(clip: ClipScores) -> str:
    return _place(clip.variant, clip.prompt, clip.seed)


def _place(variant: str, prompt: str, seed: int) -> str:
    return f"variant {variant!r}, prompt {prompt!r}, seed {seed}"


def _measured(
    clips: _Clips, keys: Sequence[ClipKey], protocol: Protocol
) -> dict[str, NDArray[np.float64]]:
    columns = {}
    for metric in protocol.metrics:
        # Only finalists get these metrics; a variant without them has not failed.
        was_scored = any(metric.name in {*clip.values, *clip.failures} for clip in clips.values())
        if was_scored or metric.name not in protocol.finalist_metrics:
            found = (_value(clips.get(key), metric.name) for key in keys)
            columns[metric.name] = np.array([metric.worst if v is None else v for v in found])
    return columns


def _ratios(
    clips: _Clips, keys: Sequence[ClipKey], base: _Clips, metrics: Mapping[str, MetricVersion]
) -> dict[str, Values]:
    return {
        ratio: np.array(
            [
                _ratio(_value(clips.get(key), source), _base_mean(base, key[0], source))
                for key in keys
            ]
        )
        for ratio, source in RATIO_SOURCES.items()
        if ratio in metrics
    }


def _ratio(value: float | None, base: float | None) -> float:
    if not base:
        return 1.0  # Nothing to compare with; the base's own clip is counted as failed.
    return RATIO_WORST if value is None else value / base


def _base_mean(base: _Clips, prompt: str, metric: str) -> float | None:
    values = [_value(clip, metric) for (of, _), clip in base.items() if of == prompt]
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def _missing(
    clips: _Clips, keys: Sequence[ClipKey], metrics: Iterable[str]
) -> dict[str, dict[ClipKey, str]]:
    return {
        metric: {key: _why(clips.get(key), metric) for key in lacking}
        for metric in metrics
        if (lacking := [key for key in keys if _value(clips.get(key), metric) is None])
    }


def _why(clip: ClipScores | None, metric: str) -> str:
    return "no clip" if clip is None else clip.failures.get(metric, "no value")
