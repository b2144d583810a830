"""The pictures of a report. Each gives inline SVG, or None where there is nothing to show."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from orchestrator.report.material import ReportInput, TrialCurve, labelled, ranked, short
from orchestrator.report.svg import BLUE, GREEN, INK, MUTED, ORANGE, PAPER, SERIES, draw
from orchestrator.verdict.judge import as_trained
from orchestrator.verdict.outcome import VariantRow
from orchestrator.verdict.table import BASE, VariantInfo

FOREST_ROWS = 12
SCALE_COLUMNS = 4
_BASE_LINE: dict[str, Any] = {"color": MUTED, "linestyle": (0, (5, 3)), "linewidth": 1.1}
_RULE: dict[str, Any] = {"color": GREEN, "linestyle": (0, (2, 2)), "linewidth": 1.4}
_POINT: dict[str, Any] = {"markersize": 6.5, "markeredgewidth": 1.2, "linestyle": "none"}
_MARKERS = "os^vDP*X"


def loss_scatter(report: ReportInput) -> Markup | None:
    """Validation loss against the primary metric: would loss have chosen the same variant?"""
    primary, loss = report.verdict.primary, report.verdict.loss
    if loss is None:
        return None
    trained = as_trained(report.table.adapted)
    others = [v for v in report.table.adapted if v not in trained]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        base = report.verdict.row(BASE).means[primary]
        axes.axhline(base, label="base", **_BASE_LINE)
        _scatter(axes, report, others, PAPER, "other scales")
        _scatter(axes, report, trained, BLUE, "as trained (scale nearest 1)")
        _mark(axes, report, loss.lowest, "v", "lowest loss")
        if report.verdict.variant:
            _mark(axes, report, report.verdict.variant, "D", "winner")
        axes.set(xlabel="validation loss", ylabel=labelled(report, primary))
        axes.margins(0.08)
        figure.legend(loc="outside lower center", ncols=3, columnspacing=1.2)

    alt = f"Scatter of validation loss against {primary}, {loss.checkpoints} checkpoints"
    return draw("loss", alt, 6.4, 4.2, paint)


def _loss(variant: VariantInfo) -> float:
    """NaN where there is none: that is what Matplotlib leaves out."""
    loss = variant.validation_loss
    return loss if loss is not None and math.isfinite(loss) else math.nan


def _scatter(
    axes: Axes, report: ReportInput, variants: list[VariantInfo], face: str, label: str
) -> None:
    rows = {v.id: report.verdict.row(v.id) for v in variants}
    for feasible, marker in ((True, "o"), (False, "X")):
        shown = [v for v in variants if rows[v.id].feasible is feasible]
        if shown:
            axes.plot(
                [_loss(v) for v in shown],
                [rows[v.id].means[report.verdict.primary] for v in shown],
                marker,
                color=BLUE,
                markerfacecolor=face,
                label=label if feasible else None,
                **_POINT,
            )


def _mark(axes: Axes, report: ReportInput, name: str, marker: str, label: str) -> None:
    mean = report.verdict.row(name).means[report.verdict.primary]
    look = {**_POINT, "markersize": 10, "color": ORANGE, "markerfacecolor": "none"}
    axes.plot(_loss(report.table.variants[name]), mean, marker, label=label, **look)


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
    axes.plot(row.gain.mean, place, marker, color=colour, markerfacecolor=face, **_POINT)


def learning_curves(report: ReportInput) -> Markup | None:
    """Training and validation loss by epoch, a line a trial, coloured and marked by rank."""
    if not any(curve.training_loss or curve.validation_loss for curve in report.curves):
        return None
    ranks = sorted({curve.rank for curve in report.curves})

    def paint(figure: Figure) -> None:
        training, validation = figure.subplots(1, 2, sharey=True)
        ceiling = _ceiling(report.curves)
        for curve in report.curves:
            look = _look(curve, ranks, report)
            for axes, losses in (
                (training, curve.training_loss),
                (validation, curve.validation_loss),
            ):
                _curve(axes, losses, ceiling, curve.status != "finished", look)
        training.set(title="training", ylabel="loss")
        validation.set(title="validation")
        for axes in (training, validation):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = training.get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=6)

    alt = f"Training and validation loss by epoch for {len(report.curves)} trials"
    return draw("learning", alt, 6.4, 3.6, paint)


def _look(curve: TrialCurve, ranks: list[int], report: ReportInput) -> dict[str, Any]:
    place = ranks.index(curve.rank)
    chosen = report.chosen is not None and report.chosen.trial == curve.trial
    return {
        "color": SERIES[place % len(SERIES)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linewidth": 2.6 if chosen else 1.1,
        "markersize": 6 if chosen else 4,
        "label": f"rank {curve.rank}",
    }


def _ceiling(curves: Sequence[TrialCurve]) -> float:
    """One diverged trial must not press all others flat: it is cut above the finished ones."""
    finished = [curve for curve in curves if curve.status == "finished"]
    losses = [
        loss
        for curve in finished
        for _, loss in [*_points(curve.training_loss), *_points(curve.validation_loss)]
    ]
    return 1.15 * max(losses, default=math.inf)


def _points(losses: Sequence[float | None]) -> list[tuple[int, float]]:
    """Epoch and loss, without the epochs that have none to draw."""
    found = ((epoch, loss) for epoch, loss in enumerate(losses, 1) if loss is not None)
    return [(epoch, loss) for epoch, loss in found if math.isfinite(loss)]


def _curve(
    axes: Axes,
    losses: Sequence[float | None],
    ceiling: float,
    cut_short: bool,
    look: dict[str, Any],
) -> None:
    points = [(epoch, min(loss, ceiling)) for epoch, loss in _points(losses)]
    if not points:
        return
    axes.plot(*zip(*points, strict=True), **look)
    if cut_short:
        axes.plot(*points[-1], "x", color=INK, markersize=9, label="stopped or failed")


def scale_curves(report: ReportInput) -> Markup | None:
    """Primary and constraint metrics against lora_scale, a line a checkpoint of one trial."""
    if report.chosen is None:
        return None
    trial = report.chosen.trial
    variants = [v for v in report.table.adapted if v.trial == trial]
    metrics = dict.fromkeys(
        [report.protocol.primary, *(c.metric for c in report.protocol.constraints)]
    )
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
    base = report.verdict.row(BASE).means.get(metric)
    if base is not None:
        axes.axhline(base, label="base", **_BASE_LINE)
    for place, epoch in enumerate(sorted({v.epoch for v in variants})):
        of_epoch = sorted((v for v in variants if v.epoch == epoch), key=lambda v: v.lora_scale)
        means = {v.lora_scale: report.verdict.row(v.id).means.get(metric) for v in of_epoch}
        axes.plot(
            [scale for scale, mean in means.items() if mean is not None],
            [mean for mean in means.values() if mean is not None],
            color=SERIES[place % len(SERIES)],
            marker=_MARKERS[place % len(_MARKERS)],
            markersize=5,
            label=f"epoch {epoch}",
        )
    axes.set(xlabel="lora_scale", title=labelled(report, metric))
