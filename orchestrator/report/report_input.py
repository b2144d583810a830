"""What a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.spec.trial import BASE_VARIANT
from orchestrator.ledger import TrialHistory
from orchestrator.report.training_data import DataReport
from orchestrator.verdict.outcome import VariantRow, Verdict
from orchestrator.verdict.protocol import Prompt, Protocol
from orchestrator.verdict.table import ScoreTable, VariantInfo, scientific


@dataclass(frozen=True)
class Failure:
    """Something that did not work: a trial, a metric, a host."""

    subject: str
    reason: str


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

    The page plays those that :func:`orchestrator.report.audition.audition` names.
    """
    failures: Sequence[Failure]
    facts: Sequence[tuple[str, str]]
    """Label and value of what else a reader may need: versions, digests, wall time, storage."""
    data: DataReport | str = "They were not measured."
    """The training clips, or why nothing is known of them."""

    @property
    def screen_prompts(self) -> tuple[Prompt, ...]:
        """What of set A every variant said."""
        return self.protocol.screening().prompts

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
    rank = "?" if variant.rank is None else variant.rank
    rate = "?" if variant.learning_rate is None else scientific(variant.learning_rate)
    mix = "" if variant.mix is None else f" · {variant.mix}"
    return f"r{rank} · {rate}{mix} · e{variant.epoch} · ×{variant.lora_scale:g}"


def labelled(report: ReportInput, metric: str) -> str:
    """A metric with its unit and an arrow to where better is."""
    known = report.table.metrics[metric]
    better = {"higher": "\u00a0↑", "lower": "\u00a0↓", "neither": ""}[known.direction]
    return f"{metric} ({known.unit}){better}"


def as_trained(variants: Sequence[VariantInfo]) -> list[VariantInfo]:
    """One variant a checkpoint, in the order of trial and epoch: the lora_scale nearest 1.

    That is the scale at which the checkpoint was trained and its loss measured.
    """
    nearest: dict[tuple[str, int], VariantInfo] = {}
    for variant in sorted(variants, key=lambda v: (abs(v.lora_scale - 1.0), v.id)):
        nearest.setdefault((variant.trial or "", variant.epoch), variant)
    return [nearest[checkpoint] for checkpoint in sorted(nearest)]


def ranked(report: ReportInput) -> list[VariantRow]:
    """Every adapted variant: the winner, then the rest by falling objective."""
    rows = [row for row in report.verdict.rows if row.id != BASE_VARIANT]
    return sorted(rows, key=lambda row: (row.standing != "winner", -row.objective, row.id))
