"""The dry run: what a sweep would run, and how much of it is done. It changes nothing."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

from cluster.storage.base import Storage
from jobs.data.clips import TargetClip
from jobs.data.order.batches import BatchPlan
from jobs.data.order.mix import epoch_counts
from jobs.families.registry import adapter_size
from jobs.metrics.catalogue import metric_of
from jobs.spec.data import MixSpec
from jobs.spec.items import TextItem
from jobs.spec.trial import BASE_VARIANT, PromptSpec
from orchestrator.ledger import CONFIRMATION, SCREEN, Ledger
from orchestrator.spec.cost import (
    Cost,
    Measured,
    Pace,
    Work,
    clips_of_an_epoch,
    epochs_left,
    measured_before,
    trained_clips,
)
from orchestrator.spec.decodings import decoding_points
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.worked_out import WorkedOut, work_out
from orchestrator.verdict.power import expected_spreads, weak_rules
from orchestrator.verdict.protocol import (
    RATIO_SOURCES,
    RATIO_UNIT,
    groups_of_both,
    parts_of_a,
)
from orchestrator.verdict.screen import shortlisted

if TYPE_CHECKING:
    from orchestrator.spec.inputs import Inputs  # imports what reads audio

_CLIP_BYTES_A_SECOND = 22_000
"""16 kHz 16-bit FLAC of speech, measured on the shipped voice."""
_SECONDS_A_PROMPT = 2.0


@dataclass(frozen=True)
class Plan:
    """Counts before anything runs; ``most`` where the scheduler may stop trials early."""

    sweep: str
    trials: int
    replicates: int
    """Trainings of the winner's hyperparameters with other seeds; none without a winner."""
    most_checkpoints: int
    """Of trials and replicates, as all that follows."""
    most_optimiser_steps: int | None
    """None with ``batch_tokens`` and epochs: clips' tokens are known once they are prepared."""
    most_variants: int
    """The base included."""
    adapter_megabytes: float | None
    """Of the largest adapter's weights, trained rows included, at each checkpoint; None where the
    base is not on this machine."""
    trained_row_megabytes: float | None
    """Of it, rows of the tokens of speech."""
    most_clips: int
    most_clip_megabytes: float
    prompts: int
    confirmation_prompts: int
    items: int
    confirmation_items: int
    most_answers: int
    """To text items, the base's included; each takes as many passages of text through the base as
    the item has choices."""
    training_clips: int
    validation_clips: int
    hosts: int
    slots_per_host: int | None
    """None until each host has measured its GPU's memory."""
    trials_at_once: int | None
    packing: str
    """How many adapters may share a forward pass of the base, and why."""
    ranks: int
    """Ranks of each host."""
    gpus: float
    """GPUs of all hosts together."""
    trials_done: int
    checkpoints_done: int
    cost: Cost | None
    """Of what is left, by the measured seconds of a sweep of this family on such machines; None
    where there is none, or where all trials have ended."""
    worked_out: tuple[WorkedOut, ...]
    """Memory and hours of the search on cards that nothing was measured on; none without GPUs, or
    where the size of the base is not known here."""
    weak_rules: tuple[str, ...]
    """What set B has too few prompts to decide, a sentence each."""


@dataclass(frozen=True)
class SweepEnd:
    """The most that a sweep does after the last trial of its search."""

    shortlist: int
    """Variants that speak the rest of set A."""
    rest_prompts: int
    finalists: int
    """Variants that speak set B."""
    fresh_prompts: int
    replicates: int
    """Trainings of the winner's hyperparameters with other seeds, which speak set B too."""
    epochs: int
    """Of each."""
    tried_clips: int = 0
    """Clips of set A by the best checkpoints, with the decodings that they are tried with."""

    @classmethod
    def of(
        cls,
        spec: SweepSpec,
        epochs: int,
        prompts: Sequence[PromptSpec],
        confirmation: Sequence[PromptSpec],
    ) -> "SweepEnd":
        """Of a search over so many epochs, with such sets A and B."""
        adapted = epochs * len(spec.variants.adapted_scales)
        groups = len(groups_of_both(prompts, confirmation))
        first, rest = parts_of_a(prompts, spec.variants.shortlist_after, ())
        finalists = min(adapted, spec.scoring.finalists + groups)
        tried = finalists * max(0, len(decoding_points(spec.variants)) - 1)
        listed = shortlisted(finalists + tried, min(_most_ranks(spec), finalists), groups)
        return cls(
            shortlist=shortlisted(adapted, _most_ranks(spec), groups),
            rest_prompts=len(rest),
            finalists=finalists,
            tried_clips=tried * len(first) + min(tried, listed) * len(rest),
            fresh_prompts=len(confirmation),
            replicates=spec.search.confirm_seeds,
            epochs=spec.longest_training,
        )

    def seconds(self, pace: Pace, slots: int) -> float:
        """Wall time in so many slots, each of which takes a variant at a time."""
        trainings = ceil(self.replicates / slots)
        clips = (
            ceil(self.shortlist / slots) * self.rest_prompts
            + (ceil(self.finalists / slots) + trainings) * self.fresh_prompts
            + ceil(self.tried_clips / slots)
        )
        return trainings * self.epochs * pace.epoch + clips * pace.clip


def plan(
    spec: SweepSpec,
    inputs: "Inputs",
    storage: Storage,
    machine: str | None = None,
    rate: float | None = None,
    measure: Callable[[], Measured] | None = None,
) -> Plan:
    """Count what ``spec`` would run on its clips and prompt sets, and what of it is stored.

    Args:
        spec: what is to run.
        inputs: its clips and prompts.
        storage: where it, and earlier sweeps, are.
        machine: the type of machine that it would run on; None asks for no cost.
        rate: the price of a GPU-hour, in any currency.
        measure: called where no sweep in ``storage`` has seconds to go by.
    """
    ledger = Ledger(storage, spec.name)
    done = {record.id: ledger.epochs(record.id) for record in ledger.trials()}
    replicated = [ledger.epochs(record.id) for record in ledger.replicates()]
    clips = sum(clip.row.split == "train" for clip in inputs.clips)
    prompts, confirmation = inputs.prompts, inputs.confirmation
    replicates = spec.search.confirm_seeds
    epochs = _all_epochs(spec)
    adapted = most_epochs(spec) * len(spec.variants.adapted_scales)
    first, rest = parts_of_a(prompts, spec.variants.shortlist_after, ())
    end = SweepEnd.of(spec, most_epochs(spec), prompts, confirmation)
    spoken = (
        (1 + adapted) * len(first)
        + (1 + end.shortlist) * len(rest)
        + (1 + end.finalists + replicates) * len(confirmation)
        + end.tried_clips
        + _base_clips(spec, len(groups_of_both(prompts, confirmation)), len(first), len(rest))
    )
    done_epochs = sum(map(len, done.values()))
    ended = sum(ledger.final_result(trial) is not None for trial in done)
    replicated_epochs = sum(map(len, replicated))
    replicates_left = max(0, epochs - most_epochs(spec) - replicated_epochs)
    asked = machine if ended < spec.search.trial_count or replicates_left else None
    hosts, slots = spec.hosts, spec.slots_per_host
    size = adapter_size(spec.host(), spec.largest_training)
    gpus = spec.resources.gpus_per_rank * spec.engine.ranks
    return Plan(
        sweep=spec.name,
        trials=spec.search.trial_count,
        replicates=replicates,
        most_checkpoints=epochs,
        most_optimiser_steps=_most_steps(spec, inputs.clips),
        most_variants=1 + adapted,
        adapter_megabytes=None if size is None else round(size.saved_bytes / 1e6, 2),
        trained_row_megabytes=None if size is None else round(size.row_bytes / 1e6, 2),
        most_clips=spoken,
        most_clip_megabytes=round(spoken * _SECONDS_A_PROMPT * _CLIP_BYTES_A_SECOND / 1e6, 1),
        prompts=len(prompts),
        confirmation_prompts=len(confirmation),
        items=len(inputs.items),
        confirmation_items=len(inputs.confirmation_items),
        most_answers=(1 + adapted) * len(inputs.items)
        + (1 + end.finalists + replicates) * len(inputs.confirmation_items),
        training_clips=clips,
        validation_clips=len(inputs.clips) - clips,
        hosts=hosts,
        slots_per_host=slots,
        trials_at_once=slots and hosts * slots,
        packing=_packing(spec),
        ranks=spec.engine.ranks,
        gpus=gpus * hosts,
        trials_done=ended,
        checkpoints_done=done_epochs + replicated_epochs,
        cost=_cost(
            spec,
            storage,
            asked,
            rate,
            done_epochs,
            replicates_left,
            clips_of_an_epoch(spec, len(prompts)),
            clips,
            measure,
        ),
        worked_out=work_out(
            spec, inputs.clips, most_epochs(spec), trained_clips(spec, _seen(spec, inputs.clips))
        ),
        weak_rules=tuple(_weak_rules(spec, confirmation, inputs.confirmation_items, ledger)),
    )


def _base_clips(spec: SweepSpec, groups: int, first: int, rest: int) -> int:
    """Clips of set A by the base with the decodings that it is tried with, before it has one."""
    tried = len(decoding_points(spec.variants))
    return tried * first + (1 + shortlisted(tried - 1, 1, groups)) * rest if tried else 0


def _cost(
    spec: SweepSpec,
    storage: Storage,
    machine: str | None,
    rate: float | None,
    done: int,
    replicates: int,
    spoken: int,
    clips: int,
    measure: Callable[[], Measured] | None,
) -> Cost | None:
    """Of what is left of the search after ``done`` epochs, and of so many epochs of replicates,
    which there are only if there is a winner."""
    measured = machine and measured_before(storage, spec, machine)
    if machine and not measured and measure:
        measured = measure()
    if not measured:
        return None
    slots = spec.slots_per_host or round(measured.slots_per_host)
    left = epochs_left(spec, most_epochs(spec), done)
    work = Work(
        epochs=replace(left, high=left.high + replicates),
        clips=trained_clips(spec, clips),
        prompts=spoken,
        slots=min(spec.hosts * slots, spec.search.trial_count),
        hosts=spec.hosts,
        gpus=spec.hosts * spec.resources.gpus_per_rank * spec.engine.ranks,
    )
    return measured.cost(work, rate)


def _weak_rules(
    spec: SweepSpec, prompts: Sequence[PromptSpec], items: Sequence[TextItem], ledger: Ledger
) -> Iterator[str]:
    """By the base's own scores where they are stored, else by an assumption."""
    scoring, stored = spec.scoring, (CONFIRMATION, SCREEN)
    base = next((rows for part in stored if (rows := ledger.scores(BASE_VARIANT, part))), ())
    deciding = {scoring.primary, *(constraint.metric for constraint in scoring.constraints)}
    measured = scoring.metric_specs(name for name in deciding if name not in RATIO_SOURCES)
    units = {name: RATIO_UNIT for name in deciding & RATIO_SOURCES.keys()}
    units |= {metric.name: metric_of(metric).unit for metric in measured}
    return weak_rules(scoring, prompts, expected_spreads(units, base), items)


def _packing(spec: SweepSpec) -> str:
    stage = spec.engine.zero_stage
    if stage > 0:
        return (
            f"packs of one: zero_stage {stage} splits a trial over its ranks, and only under "
            "stage 0 may adapters join and leave a host that trains"
        )
    if spec.slots_per_host == 1:
        return "packs of one: slots_per_host is 1"
    most = spec.slots_per_host or "as many as a GPU's memory takes"
    return (
        f"packs of up to {most}: zero_stage 0 keeps the base whole on every rank; each host "
        "measures first, and packs only where that is faster than one after another"
    )


def _all_epochs(spec: SweepSpec) -> int:
    """Epochs of the search and the replicates, each of them as long as a trial may be."""
    return most_epochs(spec) + spec.search.confirm_seeds * spec.longest_training


def most_epochs(spec: SweepSpec) -> int:
    """Epochs of the search if no trial is stopped."""
    if spec.search.sampler == "grid":
        return sum(spec.training_for(point).checkpoints for point in spec.search.grid())
    return spec.search.trials * spec.longest_training


def _most_ranks(spec: SweepSpec) -> int:
    """How many ranks may have a best variant on the shortlist."""
    searched = spec.search.space.get("rank")
    most = 1 if searched is None else len(searched.choices) or spec.search.trial_count
    return min(most, spec.search.trial_count)


def _most_steps(spec: SweepSpec, clips: list[TargetClip]) -> int | None:
    """Optimiser steps if no trial is stopped and the search picks the smallest batches."""
    if spec.training.checkpoint_steps is not None:
        return spec.training.checkpoint_steps * _all_epochs(spec)
    if spec.least_batch_tokens is not None:
        return None
    batch, accumulation = min(spec.corners("batch_size")), min(spec.corners("accumulation"))
    return BatchPlan(_seen(spec, clips), batch, accumulation, seed=0).steps(1) * _all_epochs(spec)


def _seen(spec: SweepSpec, clips: list[TargetClip]) -> int:
    """Clips that an epoch of any trial has at most."""
    return max(_epoch_clips(spec.data.mix(name), clips) for name in spec.mixes)


def _epoch_clips(mix: MixSpec | None, clips: list[TargetClip]) -> int:
    """Clips that training sees in an epoch, repeats counted."""
    training = [clip.row for clip in clips if clip.row.split == "train"]
    if mix is None:
        return len(training)
    named = Counter(name for row in training if (name := getattr(row, mix.by)) is not None)
    return sum(epoch_counts(mix, named).values())
