"""What validation loss would have chosen: shown beside the verdict, never part of it."""

import math
from collections.abc import Mapping, Sequence

from orchestrator.verdict.outcome import LossReport, VariantRow
from orchestrator.verdict.stats import spearman
from orchestrator.verdict.table import ScoreTable, VariantInfo


def loss_report(table: ScoreTable, scored: Sequence[VariantRow], primary: str) -> LossReport | None:
    """How loss ranks the variants that were scored; None where none of them has a loss."""
    trained = as_trained([table.variants[row.id] for row in scored])
    losses = {v.id: v.validation_loss for v in trained if v.validation_loss is not None}
    if not losses:
        return None
    rows: Mapping[str, VariantRow] = {row.id: row for row in scored}
    lowest = rows[min(losses, key=lambda name: losses[name])]
    return LossReport(
        spearman=spearman([*losses.values()], [rows[name].means[primary] for name in losses]),
        checkpoints=len(losses),
        lowest=lowest.id,
        lowest_rank=1 + sum(row.gain.mean > lowest.gain.mean for row in scored),
        variants=len(scored),
    )


def as_trained(variants: Sequence[VariantInfo]) -> list[VariantInfo]:
    """One variant a checkpoint that has a validation loss: the lora_scale nearest 1.

    Loss belongs to a checkpoint at scale 1; the same loss at many scales would count it many times.
    """
    nearest: dict[tuple[str | None, int], VariantInfo] = {}
    for variant in sorted(variants, key=lambda v: (abs(v.lora_scale - 1.0), v.id)):
        if variant.validation_loss is not None and math.isfinite(variant.validation_loss):
            nearest.setdefault((variant.trial, variant.epoch), variant)
    return sorted(nearest.values(), key=lambda v: v.id)
