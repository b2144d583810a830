"""The pictures of lines. Each gives inline SVG, or None where there is nothing to show."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jobs.spec.trial import BASE_VARIANT
from orchestrator.ledger import TrialHistory
from orchestrator.report.report_input import ReportInput, labelled, ranked, short
from orchestrator.report.svg import (
    BASE_LINE,
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    POINT,
    SERIES,
    draw,
)
from orchestrator.verdict.outcome import VariantRow
from orchestrator.verdict.table import VariantInfo, as_trained

RATE = "rate_ratio"
"""Speaking rate over the base's: labels shifted twice make it rise epoch by epoch."""
FOREST_ROWS = 12
SCALE_COLUMNS = 4
_RULE: dict[str, Any] = {"color": GREEN, "linestyle": (0, (2, 2)), "linewidth": 1.4}
_MARKERS = "os^vDP*X"


def forest(report: ReportInput) -> Markup | None:
    """Gains over the base with their intervals, the best first, the winner always among them."""
    rows = ranked(report)[:FOREST_ROWS]
    if not rows:
        return None
    protocol = report.protocol

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=1.1)
        axes.axvline(
            protocol.min_effect, label=f"smallest that counts, {protocol.min_effect:g}", **_RULE
        )
        for place, row in enumerate(rows):
            _whisker(axes, place, row)
        names = [short(report.table.variants[row.id]) for row in rows]
        axes.set_yticks(range(len(rows)), names, color=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        unit = report.table.metrics[protocol.primary].unit
        axes.set_xlabel(f"gain in {protocol.primary} over the base ({unit}), n = {rows[0].gain.n}")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside lower center", ncols=2)

    alt = f"Gain in {protocol.primary} over the base with intervals for {len(rows)} variants"
    return draw("forest", alt, 6.4, 1.5 + 0.3 * len(rows), paint)


def _whisker(axes: Axes, place: int, row: VariantRow) -> None:
    marker, colour, face = {
        "winner": ("D", ORANGE, ORANGE),
        "passed": ("o", BLUE, BLUE),
    }.get(row.standing, ("o" if row.feasible else "X", BLUE if row.feasible else MUTED, PAPER))
    style = (0, (1, 1.5)) if not row.feasible else "solid"
    axes.plot([row.gain.low, row.gain.high], [place] * 2, color=colour, linestyle=style)
    axes.plot(row.gain.mean, place, marker, color=colour, markerfacecolor=face, **POINT)


def learning_curves(report: ReportInput) -> Markup | None:
    """Losses, the primary metric and the speaking rate by checkpoint, a line a trial."""
    if not any(trial.epochs for trial in report.trials):
        return None
    ranks = sorted({trial.training.rank for trial in report.trials})
    every = report.checkpoint_steps or 1
    judged = [m for m in (report.verdict.primary, RATE) if m in report.table.values[BASE_VARIANT]]

    def paint(figure: Figure) -> None:
        training, validation, *others = figure.subplots(1, 2 + len(judged))
        validation.sharey(training)
        ceiling = _ceiling(report.trials)
        for trial in sorted(report.trials, key=lambda trial: trial.training.rank):
            look, cut_short = _look(trial, ranks, report), trial.end != "finished"
            for axes, losses in (
                (training, [each.training_loss for each in trial.epochs]),
                (validation, [each.validation_loss for each in trial.epochs]),
            ):
                by_place = {e * every: loss for e, loss in enumerate(losses, 1)}
                _curve(axes, by_place, ceiling, cut_short, look)
            for axes, metric in zip(others, judged, strict=True):
                _by_checkpoint(axes, report, trial.record.id, metric, look)
        training.set(title="training loss")
        validation.set(title="validation loss")
        for axes, metric in zip(others, judged, strict=True):
            axes.axhline(report.verdict.row(BASE_VARIANT).means[metric], label="base", **BASE_LINE)
            axes.set(title=labelled(report, metric))
        for axes in (training, validation, *others):
            axes.set_xlabel(report.unit)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        once = {
            label: handle
            for axes in (training, *others)
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=8)

    shown = ", ".join(["training and validation loss", *judged])
    alt = f"By {report.unit} for {len(report.trials)} trials: {shown}"
    return draw("learning", alt, 12.5, 3.4, paint)


def _by_checkpoint(
    axes: Axes, report: ReportInput, trial: str, metric: str, look: dict[str, Any]
) -> None:
    """A dot a checkpoint at the scale nearest 1, hollow where the variant was not allowed."""
    of_trial = as_trained([v for v in report.table.adapted if v.trial == trial])
    every = report.checkpoint_steps or 1
    rows = {v.epoch * every: report.verdict.row(v.id) for v in of_trial}
    points = {place: row.means[metric] for place, row in rows.items() if metric in row.means}
    axes.plot(list(points), list(points.values()), **look)
    hollow = {place: mean for place, mean in points.items() if not rows[place].feasible}
    face = {**look, "markerfacecolor": PAPER, "linestyle": "none", "label": None}
    axes.plot(list(hollow), list(hollow.values()), **face)


def _look(trial: TrialHistory, ranks: list[int], report: ReportInput) -> dict[str, Any]:
    chosen = report.chosen is not None and report.chosen.trial == trial.record.id
    return {
        **_series(ranks.index(trial.training.rank)),
        "linewidth": 2.6 if chosen else 1.1,
        "markersize": 6 if chosen else 4,
        "label": f"rank {trial.training.rank}",
    }


def _series(place: int) -> dict[str, Any]:
    return {"color": SERIES[place % len(SERIES)], "marker": _MARKERS[place % len(_MARKERS)]}


def _ceiling(trials: Sequence[TrialHistory]) -> float:
    """One diverged trial must not press all others flat: it is cut above the finished ones."""
    losses = [
        loss
        for trial in trials
        if trial.end == "finished"
        for epoch in trial.epochs
        for loss in (epoch.training_loss, epoch.validation_loss)
        if math.isfinite(loss)
    ]
    return 1.15 * max(losses, default=math.inf)


def _curve(
    axes: Axes,
    losses: Mapping[int, float],
    ceiling: float,
    cut_short: bool,
    look: dict[str, Any],
) -> None:
    points = [(at, min(loss, ceiling)) for at, loss in losses.items() if math.isfinite(loss)]
    if not points:
        return
    axes.plot(*zip(*points, strict=True), **look)
    if cut_short:
        axes.plot(*points[-1], "x", color=INK, markersize=9, label="ended early")


def scale_curves(report: ReportInput) -> Markup | None:
    """Primary and constraint metrics against lora_scale, a line a checkpoint of one trial."""
    if report.chosen is None:
        return None
    trial = report.chosen.trial
    variants = [v for v in report.table.adapted if v.trial == trial and not v.own_decoding]
    metrics = report.protocol.deciding_metrics
    rows = math.ceil(len(metrics) / SCALE_COLUMNS)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(rows, min(SCALE_COLUMNS, len(metrics)), squeeze=False)
        for axes, metric in zip(grid.flat, metrics, strict=False):
            _by_scale(axes, report, variants, metric)
        for axes in grid.flat[len(metrics) :]:
            axes.set_visible(False)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)

    alt = f"Metrics against lora_scale for the checkpoints of trial {trial}"
    return draw("scale", alt, 12.5, 0.6 + 2.7 * rows, paint)


def _by_scale(axes: Axes, report: ReportInput, variants: list[VariantInfo], metric: str) -> None:
    base = report.verdict.row(BASE_VARIANT).means.get(metric)
    if base is not None:
        axes.axhline(base, label="base", **BASE_LINE)
    by_checkpoint = itertools.groupby(sorted(variants, key=_epoch), key=_epoch)
    for place, (_, of_checkpoint) in enumerate(by_checkpoint):
        same = list(of_checkpoint)
        means = {v.lora_scale: report.verdict.row(v.id).means for v in same}
        points = sorted((scale, of[metric]) for scale, of in means.items() if metric in of)
        axes.plot(
            [scale for scale, _ in points],
            [mean for _, mean in points],
            markersize=5,
            label=same[0].place,
            **_series(place),
        )
    axes.set(xlabel="lora_scale", title=labelled(report, metric))


def _epoch(variant: VariantInfo) -> int:
    return variant.epoch
