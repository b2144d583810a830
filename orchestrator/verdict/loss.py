"""What validation loss would have chosen: shown beside the verdict, never part of it."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.outcome import Divergence, GroupLoss, LossReport, VariantRow
from orchestrator.verdict.stats import spearman
from orchestrator.verdict.table import VariantInfo, as_trained


def loss_report(screen: Comparison, scored: Sequence[VariantRow]) -> LossReport | None:
    """How loss ranks the variants that were scored; None where none of them has a loss."""
    trained = with_loss(screen.table.variants[row.id] for row in scored)
    losses = {v.id: v.validation_loss for v in trained if v.validation_loss is not None}
    if not losses:
        return None
    rows, primary = {row.id: row for row in scored}, screen.protocol.primary
    lowest = rows[min(losses, key=lambda name: losses[name])]
    return LossReport(
        spearman=spearman([*losses.values()], [rows[name].means[primary] for name in losses]),
        checkpoints=len(losses),
        lowest=lowest.id,
        lowest_rank=1 + sum(row.gain.mean > lowest.gain.mean for row in scored),
        variants=len(scored),
        divergences=tuple(_divergences(screen, losses)),
    )


def _divergences(screen: Comparison, losses: Mapping[str, float]) -> Iterator[Divergence]:
    """Of the checkpoints with these ``losses``, by variant."""
    trained = as_trained(screen.table.variants[name] for name in losses)
    pairs = [(one, two) for one, two in pairwise(trained) if one.trial == two.trial]
    for one, two in pairs:
        if losses[two.id] < losses[one.id]:
            fall = screen.bootstrap.interval(screen.lead(one.id, two.id), len(pairs))
            if fall.low > 0:
                of = (losses[one.id], losses[two.id])
                yield Divergence(one.trial or one.id, one.epoch, two.epoch, of, fall)


def group_loss(screen: Comparison, group: str, variant: str) -> GroupLoss | None:
    """How the loss over one group's validation clips ranks the variants that have scores.

    Args:
        screen: every variant on set A.
        group: a key of :attr:`VariantInfo.group_losses`, ``language/km``.
        variant: whose loss is reported beside the lowest.
    """
    scored = [v for v in screen.table.adapted if not v.own_decoding and screen.has_scores(v.id)]
    found = {v.id: v.group_losses.get(group, math.nan) for v in with_loss(scored)}
    losses = {name: loss for name, loss in found.items() if math.isfinite(loss)}
    if not losses:
        return None
    lowest = min(losses, key=lambda name: losses[name])
    rank, (kind, named) = None, group.split("/", 1)
    if prompts := tuple(p for p in screen.protocol.prompts if getattr(p, kind) == named):
        part = screen.only(prompts)
        gains = {v.id: float(part.gains(v.id).mean()) for v in scored}
        rank = 1 + sum(gain > gains[lowest] for gain in gains.values())
    return GroupLoss(
        loss=screen.table.variants[variant].group_losses.get(group),
        lowest=lowest,
        lowest_loss=losses[lowest],
        lowest_rank=rank,
        variants=len(scored),
    )


def with_loss(variants: Iterable[VariantInfo]) -> list[VariantInfo]:
    """One variant a checkpoint that has a validation loss, as it was trained, by id.

    The same loss at many scales would count a checkpoint many times.
    """
    found = (
        v for v in variants if v.validation_loss is not None and math.isfinite(v.validation_loss)
    )
    return sorted(as_trained(found), key=lambda v: v.id)
