"""What a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from jobs.diversity.clips import JudgedClip
from jobs.diversity.forecast import Forecast
from jobs.diversity.summary import SpeakerSummary
from jobs.spec.trial import BASE_VARIANT
from orchestrator.ledger import TrialHistory
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.decodings import BaseDecoding
from orchestrator.verdict.equivalence import Hosting
from orchestrator.verdict.outcome import VariantRow, Verdict
from orchestrator.verdict.protocol import Prompt, Protocol
from orchestrator.verdict.table import ScoreTable, VariantInfo, in_words, scientific

LONGEST_PLAYED = 15.0
"""Seconds of a clip that a page plays: its size must not grow with the data."""


@dataclass(frozen=True)
class Speaker:
    """One speaker's clips and what to expect of them."""

    summary: SpeakerSummary
    forecast: Forecast


@dataclass(frozen=True)
class WorstClip:
    """One of the worst clips, to listen to."""

    judged: JudgedClip
    name: str
    """Of its file."""
    flac: bytes | None
    """Its beginning; None when the file has gone."""


@dataclass(frozen=True)
class DataReport:
    """The training clips of a sweep."""

    speakers: Sequence[Speaker]
    """Those with the most speech first."""
    clips: Sequence[JudgedClip]
    worst: Sequence[WorstClip]


@dataclass(frozen=True)
class ReportInput:
    """All that one page shows of a sweep."""

    sweep: str
    family: str
    protocol: Protocol
    verdict: Verdict
    table: ScoreTable
    trials: Sequence[TrialHistory]
    clips: Mapping[str, Mapping[str, bytes]]
    """Variant id, then prompt id, to a FLAC file's bytes. Prompts without any are left out.

    The page plays those that :func:`orchestrator.report.clip_selection.select_clips` names.
    """
    facts: Sequence[tuple[str, str]]
    """Label and value of what else a reader may need: versions, digests, wall time, storage."""
    data: DataReport | str = "They were not measured."
    """The training clips, or why nothing is known of them."""
    decodings: BaseDecoding | None = None
    """Decodings that the base was tried with; None where the spec asks for no search."""
    hosting: Hosting | None = None
    """The winner's files for llama.cpp; None where none was asked for."""
    replicates: Sequence[TrialHistory] = ()
    """Trainings of a winner's hyperparameters with other seeds."""

    @cached_property
    def comparison(self) -> Comparison:
        """Every variant on the prompts of set A that all speak."""
        return Comparison(self.table, self.protocol.screening())

    @property
    def screen_prompts(self) -> tuple[Prompt, ...]:
        """The prompts of set A that every variant speaks."""
        return self.protocol.screening().prompts

    @property
    def checkpoint_steps(self) -> int | None:
        """Optimiser steps from a checkpoint to the next; None where that is an epoch."""
        return next((trial.training.checkpoint_steps for trial in self.trials), None)

    @property
    def unit(self) -> str:
        """In what trainings are counted."""
        return "epoch" if self.checkpoint_steps is None else "step"

    @property
    def horizons(self) -> list[str]:
        """Where learning rates fall to 0, in the order of the trials; none if all are constant."""
        found = dict.fromkeys(trial.training.horizon for trial in self.trials)
        return [place for place in found if place]

    @property
    def failed_trials(self) -> list[TrialHistory]:
        """The trials that failed."""
        return [trial for trial in self.trials if trial.end == "failed"]

    @property
    def winning_trial(self) -> str | None:
        """The trial of the winner; None without one."""
        name = self.verdict.variant
        return None if name is None else self.table.variants[name].trial

    @property
    def chosen(self) -> VariantInfo | None:
        """The winner; without one, the best of those judged; None if none was."""
        verdict = self.verdict
        name = verdict.variant or verdict.runner_up
        return None if name is None else self.table.variants[name]


def short(variant: VariantInfo) -> str:
    """A variant's name where room is scarce: rank, learning rate, mix, epoch, lora_scale."""
    if variant.trial is None:
        return "base"
    if variant.is_unlisted:
        return variant.id
    rank = "?" if variant.rank is None else variant.rank
    rate = "?" if variant.learning_rate is None else scientific(variant.learning_rate)
    mix = "" if variant.mix is None else f" · {variant.mix}"
    at = variant.place.replace("epoch ", "e")
    decoding = f" · {in_words(variant.own_decoding)}" if variant.own_decoding else ""
    return f"r{rank} · {rate}{mix} · {at} · ×{variant.lora_scale:g}{decoding}"


def number(value: float | None, spec: str = ".3g") -> str:
    """A number as ``spec`` formats it; a dash where there is none."""
    return "–" if value is None else format(value, spec)


def labelled(report: ReportInput, metric: str) -> str:
    """A metric with its unit and an arrow to where better is."""
    known = report.table.metrics[metric]
    better = {"higher": "\u00a0↑", "lower": "\u00a0↓", "neither": ""}[known.direction]
    return f"{metric} ({known.unit}){better}"


def ranked(report: ReportInput) -> list[VariantRow]:
    """Every adapted variant: the winner, then the rest by falling objective."""
    rows = [row for row in report.verdict.rows if row.id != BASE_VARIANT]
    return sorted(rows, key=lambda row: (row.standing != "winner", -row.objective, row.id))
