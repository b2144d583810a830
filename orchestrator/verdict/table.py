"""What was measured: every variant's scores on the same clips, next to the base's."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from jobs.metrics.base import BROKEN_AUDIO, ClipScores
from jobs.spec.trial import BASE_VARIANT, Variant, place
from orchestrator.verdict.columns import ClipKey, ScoreColumns, Values, VariantColumns
from orchestrator.verdict.protocol import DURATION, MetricVersion, Protocol


class ScoreTableError(ValueError):
    """Scores that cannot be compared; the message lists every problem, one a line."""


@dataclass(frozen=True)
class VariantInfo:
    """An adapter at one epoch and lora_scale, and how it decodes.

    The base has id ``base``, no trial and scale 0.
    """

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
    replicate_of: str | None = None
    """The trial whose hyperparameters its own repeats with another seed."""
    checkpoint_steps: int | None = None
    """Optimiser steps that an epoch of its training is; None for a pass over the clips."""
    own_decoding: Mapping[str, int | float] = field(default_factory=dict)
    """Keys of decoding in which it differs from the sweep's; none where it decodes as that."""

    def is_replicate_of(self, other: "VariantInfo") -> bool:
        """Whether it is what ``other`` is, but for the seed it was trained with."""
        is_like = (self.epoch, self.lora_scale, self.own_decoding) == (
            other.epoch,
            other.lora_scale,
            other.own_decoding,
        )
        return self.replicate_of is not None and self.replicate_of == other.trial and is_like

    def decoding_as(self, point: Mapping[str, int | float]) -> "VariantInfo":
        """The same checkpoint and scale with another decoding; ``{}`` is the sweep's."""
        own = dict(point)
        changed = replace(self, own_decoding=own)
        return replace(changed, id=Variant.model_validate(changed, from_attributes=True).id)

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
        """What a person calls it: a checkpoint, since that is what was measured."""
        if self.trial is None:
            return "the base"
        if self.is_unlisted:
            return self.id
        decoding = f" and {in_words(self.own_decoding)}" if self.own_decoding else ""
        return (
            f"the checkpoint of trial {self.trial}, {self.place}, "
            f"at lora_scale {self.lora_scale:g}{decoding}"
        )

    @property
    def place(self) -> str:
        """Where its training stood: ``epoch 3``, or ``step 1500``."""
        return place(self.epoch, self.checkpoint_steps)

    @property
    def recipe(self) -> str:
        """The hyperparameters it was trained with, as far as they are known."""
        rate = "unknown" if self.learning_rate is None else scientific(self.learning_rate)
        rank = "unknown" if self.rank is None else self.rank
        mix = "" if self.mix is None else f", mix {self.mix}"
        return f"rank {rank}, learning rate {rate}{mix}"


def in_words(decoding: Mapping[str, int | float]) -> str:
    """Keys of decoding with their values: ``temperature 0.8, top_k 30``."""
    return ", ".join(f"{key} {value:g}" for key, value in decoding.items())


def scientific(number: float) -> str:
    """A learning rate as people write it, to three digits: 2e-4."""
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


_CLIPS = ""
"""Beside the metrics of text items: everything that is measured of clips."""


@dataclass(frozen=True)
class ScoreTable:
    """Scores by variant and metric, one number a clip, in the order of ``keys``.

    Every variant has every clip the base has: a missing clip, or a metric without a value, holds
    the metric's worst bound and has a reason in ``missing``. Only a finalist metric of a variant
    that never was a finalist is absent. Ratios to the base are a comparison's.
    """

    variants: Mapping[str, VariantInfo]
    metrics: Mapping[str, MetricVersion]
    prompts: tuple[str, ...]
    keys: tuple[ClipKey, ...]
    values: Mapping[str, Mapping[str, Values]]
    missing: Mapping[str, Mapping[str, Mapping[ClipKey, str]]]
    """Variant, then metric, then clip, to the reason why it has no value."""
    items: Mapping[str, "ScoreTable"] = field(default_factory=dict)
    """Of each metric of text items, the answers that it measures in place of clips."""

    @classmethod
    def build(
        cls, variants: Sequence[VariantInfo], clips: Iterable[ClipScores], protocol: Protocol
    ) -> "ScoreTable":
        """Line up the clips of ``variants`` as :meth:`of_columns` does."""
        return cls.of_columns(variants, ScoreColumns.of(clips), protocol)

    @classmethod
    def of_columns(
        cls, variants: Sequence[VariantInfo], scores: ScoreColumns, protocol: Protocol
    ) -> "ScoreTable":
        """Line up the clips of ``variants`` (the base among them) by prompt and seed.

        Raises:
            ScoreTableError: naming every clip or variant that cannot be paired with the base.
        """
        parts = {_CLIPS: protocol.of_clips(), **protocol.over_items()}
        columns = {_CLIPS: scores}
        if of_items := {item.id for item in protocol.items}:
            asked = {metric: {each.id for each in rule.prompts} for metric, rule in parts.items()}
            # What is in no set is told once, with the clips.
            asked[_CLIPS] = {prompt for prompt, _ in scores.keys} - of_items
            columns = {key: scores.part(asked[key], scores.variants) for key in parts}
        if problems := [
            problem
            for key, rule in parts.items()
            for problem in _problems(variants, columns[key], rule)
        ]:
            raise ScoreTableError("\n".join(dict.fromkeys(problems)))
        tables = {key: cls._lined_up(variants, columns[key], rule) for key, rule in parts.items()}
        of_clips = tables.pop(_CLIPS)
        return replace(of_clips, metrics=protocol.judged_metrics(), items=tables)

    @classmethod
    def _lined_up(
        cls, variants: Sequence[VariantInfo], scores: ScoreColumns, protocol: Protocol
    ) -> "ScoreTable":
        """Scores without problems, of clips or of the items of one metric."""
        order = {prompt.id: place for place, prompt in enumerate(protocol.prompts)}
        of_base = [scores.keys[place] for place in scores.variants[BASE_VARIANT].clips]
        keys = tuple(sorted(of_base, key=lambda key: (order[key[0]], key[1])))
        place = {key: at for at, key in enumerate(keys)}
        aligned = _Aligned(keys, np.array([place.get(key, -1) for key in scores.keys], np.intp))
        metrics, values, missing = protocol.judged_metrics(), {}, {}
        for name in (variant.id for variant in variants):
            of = scores.variants.get(name, _NO_CLIPS)
            measured = aligned.scores(of, protocol)
            missing[name] = aligned.missing(of, measured)
            values[name] = {
                m: np.where(np.isnan(v), metrics[m].worst, v) for m, v in measured.items()
            }
        by_id = {variant.id: variant for variant in variants}
        return cls(by_id, metrics, tuple(order), keys, values, missing)

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
            items={metric: answers.of(kept) for metric, answers in self.items.items()},
        )

    def only(self, prompts: Collection[str]) -> "ScoreTable":
        """The same table of these prompts alone, and of all items."""
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

    def over(self, metric: str) -> "ScoreTable":
        """Where a metric's scores are: among those of text items, or here."""
        return self.items.get(metric, self)

    def by_prompt(self, values: Values) -> Values:
        """Average the seeds of each prompt: shape (clips,) to (prompts,).

        The prompt is the unit of analysis: seeds of one prompt are not independent of each other.
        """
        total = np.bincount(self._of_prompt, weights=values, minlength=len(self.prompts))
        return total / self._seeds

    def lacks(self, variant: str, metric: str) -> NDArray[np.bool_]:
        """Which clips of the variant have no value of a metric, shape (clips,)."""
        missing = self.missing[variant].get(metric)
        if not missing:
            return np.zeros(len(self.keys), bool)
        return np.array([key in missing for key in self.keys])

    def broken(self, variant: str) -> dict[ClipKey, str]:
        """Clips that were spoken, and whose audio no metric can score, with the reason."""
        unmeasured = self.missing[variant].get(DURATION, {})
        return {key: why for key, why in unmeasured.items() if why.startswith(BROKEN_AUDIO)}

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

    That is the scale at which the checkpoint was trained and its loss measured. Those with a
    decoding of their own are left out: few checkpoints have them.
    """
    nearest: dict[tuple[str, int], VariantInfo] = {}
    as_the_sweep = (variant for variant in variants if not variant.own_decoding)
    for variant in sorted(as_the_sweep, key=lambda v: (abs(v.lora_scale - 1.0), v.id)):
        nearest.setdefault((variant.trial or "", variant.epoch), variant)
    return [nearest[checkpoint] for checkpoint in sorted(nearest)]


_NO_CLIPS = VariantColumns(np.zeros(0, np.intp), {}, {})


def _problems(
    variants: Sequence[VariantInfo], scores: ScoreColumns, protocol: Protocol
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
    base = {scores.keys[at] for at in scores.variants.get(BASE_VARIANT, _NO_CLIPS).clips}
    spoken = {prompt for prompt, _ in base}
    for prompt in protocol.prompts:
        if prompt.id not in spoken:
            yield (
                f"the base speaks every prompt, got no scored clip of prompt {prompt.id!r}: "
                "score the base first"
            )
    of_protocol = {prompt.id for prompt in protocol.prompts}
    is_paired = np.array([key in base or key[0] not in spoken for key in scores.keys], bool)
    is_asked = np.array([prompt in of_protocol for prompt, _ in scores.keys], bool)
    metrics = {metric.name for metric in protocol.metrics}
    for name, of in scores.variants.items():
        for key in _keys(scores, of.clips[~is_paired[of.clips]]):
            yield (
                f"a clip is paired with the base's of the same seed, got seed {key[1]} at "
                f"{_place(name, *key)}: score the base with that seed"
            )
        counts = np.bincount(of.clips, minlength=len(scores.keys))
        for at in np.flatnonzero(counts > 1):
            where = _place(name, *scores.keys[at])
            yield f"a clip is scored once, got {counts[at]} rows at {where}: keep one"
        for key in _keys(scores, of.clips if name not in known else ()):
            yield (
                f"a clip's variant is a known one, got {name!r} at {_place(name, *key)}: "
                "list the variant or remove the clip"
            )
        for key in _keys(scores, of.clips[~is_asked[of.clips]]):
            yield (
                f"a clip's prompt is in the protocol, got {key[0]!r} at {_place(name, *key)}: "
                "judge these scores with the protocol they were made under"
            )
        for metric in sorted({*of.values, *of.failures} - metrics):
            has_value = ~np.isnan(of.values.get(metric, np.full(len(of.clips), np.nan)))
            for key in (*_keys(scores, of.clips[has_value]), *of.failures.get(metric, ())):
                yield (
                    f"a score's metric is in the protocol, got {metric!r} at "
                    f"{_place(name, *key)}: use one of {', '.join(sorted(metrics))}"
                )


def _keys(scores: ScoreColumns, places: Iterable[int]) -> Iterable[ClipKey]:
    return (scores.keys[place] for place in places)


def _place(variant: str, prompt: str, seed: int) -> str:
    return f"variant {variant!r}, prompt {prompt!r}, seed {seed}"


@dataclass(frozen=True)
class _Aligned:
    """Clips in the order of a table's keys."""

    keys: tuple[ClipKey, ...]
    places: NDArray[np.intp]
    """Of each key of the columns: its place here."""

    def scores(self, of: VariantColumns, protocol: Protocol) -> dict[str, Values]:
        """A variant's scores by metric, shape (keys,), NaN where there is no value."""
        found = {}
        for metric in protocol.metrics:
            column = np.full(len(self.keys), np.nan)
            if (values := of.values.get(metric.name)) is not None:
                column[self.places[of.clips]] = np.where(np.isfinite(values), values, np.nan)
            # Only finalists get these metrics; a variant without them has not failed.
            was_scored = not np.isnan(column).all() or of.failures.get(metric.name)
            if was_scored or metric.name not in protocol.finalist_metrics:
                found[metric.name] = column
        return found

    def missing(
        self, of: VariantColumns, measured: Mapping[str, Values]
    ) -> dict[str, dict[ClipKey, str]]:
        """Each metric's clips without a value, with the reason."""
        spoken = np.zeros(len(self.keys), bool)
        spoken[self.places[of.clips]] = True
        missing = {}
        for metric, column in measured.items():
            if (lacking := np.flatnonzero(np.isnan(column))).size:
                reasons = of.failures.get(metric, {})
                missing[metric] = {
                    key: reasons.get(key, "no value") if spoken[at] else "no clip"
                    for at in lacking
                    if (key := self.keys[at])
                }
        return missing
