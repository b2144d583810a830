"""The pictures of points: what a metric has to do with loss, and with other metrics."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata

from jobs.spec.trial import BASE_VARIANT
from orchestrator.report.report_input import ReportInput, labelled
from orchestrator.report.svg import BASE_LINE, BLUE, GREEN, INK, ORANGE, PAPER, POINT, draw
from orchestrator.verdict.loss import with_loss
from orchestrator.verdict.outcome import VariantRow
from orchestrator.verdict.table import VariantInfo

COST_METRICS = ("similarity", "word_error")
"""What a better primary metric may cost: another voice, or words."""

_Places = Mapping[str, float]
"""Where variants stand from left to right, by id."""


def loss_scatter(report: ReportInput) -> Markup | None:
    """Validation loss against the primary metric: would loss have chosen the same variant?"""
    primary, loss = report.verdict.primary, report.verdict.loss
    if loss is None:
        return None
    trained = checkpoints(report)
    names = {variant.id for variant in trained}
    others = [v for v in report.table.adapted if v.id not in names]
    best = max(trained, key=lambda v: report.verdict.row(v.id).gain.mean)
    places = {v.id: _loss(v) for v in report.table.adapted}

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        base = report.verdict.row(BASE_VARIANT).means[primary]
        axes.axhline(base, label="base", **BASE_LINE)
        _scatter(axes, report, others, places, PAPER, "other scales and decodings")
        _scatter(axes, report, trained, places, BLUE, "as trained (scale nearest 1)")
        _mark(axes, report, loss.lowest, places, "v", "lowest loss")
        _mark(axes, report, best.id, places, "^", f"best {primary} as trained")
        if report.verdict.variant:
            _mark(axes, report, report.verdict.variant, places, "D", "winner")
        axes.set(xlabel="validation loss", ylabel=labelled(report, primary))
        axes.margins(0.08)
        figure.legend(loc="outside lower center", ncols=3, columnspacing=1.2)

    alt = f"Scatter of validation loss against {primary}, {loss.checkpoints} checkpoints"
    return draw("loss", alt, 6.4, 4.4, paint)


def checkpoints(report: ReportInput) -> list[VariantInfo]:
    """The variants that stand for their checkpoint: with scores, and a loss that is a number."""
    scored = [v for v in report.table.adapted if report.comparison.has_scores(v.id)]
    return with_loss(scored)


def _loss(variant: VariantInfo) -> float:
    """NaN where there is none: that is what Matplotlib leaves out."""
    loss = variant.validation_loss
    return loss if loss is not None and math.isfinite(loss) else math.nan


def _scatter(
    axes: Axes,
    report: ReportInput,
    variants: Sequence[VariantInfo],
    places: _Places,
    face: str,
    label: str,
) -> None:
    rows = {v.id: report.verdict.row(v.id) for v in variants}
    for feasible, marker in ((True, "o"), (False, "X")):
        shown = [v for v in variants if rows[v.id].feasible is feasible]
        if shown:
            # One entry in the legend for both markers, whichever there is.
            named = not feasible and any(row.feasible for row in rows.values())
            axes.plot(
                [places[v.id] for v in shown],
                [rows[v.id].means[report.verdict.primary] for v in shown],
                marker,
                color=BLUE,
                markerfacecolor=face,
                label=None if named else label,
                **POINT,
            )


def _mark(
    axes: Axes, report: ReportInput, name: str, places: _Places, marker: str, label: str
) -> None:
    mean = report.verdict.row(name).means[report.verdict.primary]
    look: dict[str, Any] = {**POINT, "markersize": 11, "color": ORANGE, "markerfacecolor": "none"}
    axes.plot(places[name], mean, marker, label=label, **look)


def spearman_interval(report: ReportInput) -> tuple[float, float] | None:
    """Percentile bootstrap interval of Spearman's rho of loss with the primary metric.

    Whole checkpoints are resampled (Efron and Tibshirani 1993, section 13.3) with the protocol's
    seed, resamples and confidence. Resamples in which all of one side are equal have no rho and
    are left out. None for fewer than three checkpoints, or if no resample has a rho.
    """
    shown, protocol = checkpoints(report), report.protocol
    if len(shown) < 3:
        return None
    losses = np.array([_loss(v) for v in shown])
    means = np.array([report.verdict.row(v.id).means[report.verdict.primary] for v in shown])
    draws = np.random.default_rng(protocol.seed).integers(
        len(shown), size=(protocol.bootstrap_resamples, len(shown))
    )
    x, y = (_standard(rankdata(of[draws], axis=1)) for of in (losses, means))
    found = (x * y).sum(axis=1)
    found = found[np.isfinite(found)]
    if not found.size:
        return None
    tail = (1 - protocol.confidence) / 2
    low, high = np.quantile(found, (tail, 1 - tail))
    return float(low), float(high)


def _standard(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row less its mean and of length 1, so that a product of rows is a correlation."""
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    # Without a spread there is no correlation: NaN, and no warning of a division by 0.
    standard: NDArray[np.float64] = centred / np.where(length > 0, length, np.nan)
    return standard


def cost_metrics(report: ReportInput) -> list[str]:
    """Those of ``COST_METRICS`` that were measured beside the primary metric."""
    measured = report.table.values[BASE_VARIANT].keys()
    return [name for name in COST_METRICS if name in measured and name != report.verdict.primary]


def pareto(report: ReportInput) -> Markup | None:
    """The primary metric against similarity and word_error, with the variants nothing dominates."""
    metrics = cost_metrics(report)
    if not metrics or not report.table.adapted:
        return None

    def paint(figure: Figure) -> None:
        grid = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, metric in zip(grid, metrics, strict=True):
            _pareto_panel(axes, report, metric)
        grid[0].set_ylabel(labelled(report, report.verdict.primary))
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, columnspacing=1.2)

    alt = f"Scatter of {report.verdict.primary} against {' and '.join(metrics)} with Pareto fronts"
    return draw("pareto", alt, 6.4, 4.0, paint)


def _pareto_panel(axes: Axes, report: ReportInput, metric: str) -> None:
    primary = report.verdict.primary
    means = {row.id: row.means for row in report.verdict.rows if metric in row.means}
    places = {name: of[metric] for name, of in means.items()}
    shown = [v for v in report.table.adapted if v.id in means]
    front = sorted(pareto_front([r for r in report.verdict.rows if r.id in means], report, metric))
    axes.plot(*zip(*front, strict=True), color=GREEN, linewidth=1.6, label="Pareto front")
    _scatter(axes, report, shown, places, PAPER, "variant")
    at_base = (places[BASE_VARIANT], means[BASE_VARIANT][primary])
    axes.plot(*at_base, "s", color=INK, label="base", **{**POINT, "markersize": 8})
    if report.verdict.variant in means:
        _mark(axes, report, report.verdict.variant, places, "D", "winner")
    axes.set_xlabel(labelled(report, metric))
    axes.margins(0.08)


def pareto_front(
    rows: Sequence[VariantRow], report: ReportInput, metric: str
) -> set[tuple[float, float]]:
    """Means of ``metric`` and of the primary that nothing dominates.

    No other row is at least as good in both and better in one. The base competes, and so does
    what the gates or constraints do not allow.
    """
    primary = report.verdict.primary
    signs = [
        1 if report.table.metrics[name].direction == "higher" else -1 for name in (metric, primary)
    ]
    means = np.array([(row.means[metric], row.means[primary]) for row in rows])
    scores = means * signs
    others = scores[:, np.newaxis]
    beaten = (others >= scores).all(axis=-1) & (others > scores).any(axis=-1)
    return {(float(x), float(y)) for x, y in means[~beaten.any(axis=0)]}
