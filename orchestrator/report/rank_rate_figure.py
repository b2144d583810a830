"""The rank by learning rate picture."""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from orchestrator.report.report_input import ReportInput
from orchestrator.report.svg import INK, LINE, ORANGE, PAPER, draw
from orchestrator.verdict.outcome import VariantRow
from orchestrator.verdict.table import scientific

COLUMNS = 6
"""A search draws learning rates from a range: more than this many are put in as many bins."""

_Cell = tuple[int, str]
"""Rank, and the label of a column of learning rates."""


def rank_rate(report: ReportInput) -> Markup | None:
    """The best gain for each rank and learning rate, hatched where no variant was allowed."""
    columns = _columns(
        [v.learning_rate for v in report.table.adapted if v.learning_rate]
        + [trial.training.learning_rate for trial in report.trials]
    )
    best = _best_by_cell(report, columns)
    failed = Counter(
        (trial.training.rank, columns[trial.training.learning_rate])
        for trial in report.failed_trials
    )
    cells = best.keys() | failed.keys()
    if not cells:
        return None
    labels = [name for name in dict.fromkeys(columns.values()) if name in {c for _, c in cells}]
    ranks = sorted({rank for rank, _ in cells})

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        gains = [row.gain.mean for row in best.values() if row.feasible]
        for rank, column in sorted(cells):
            place = labels.index(column), ranks.index(rank)
            row = best.get((rank, column))
            _draw_cell(axes, *place, row, failed[rank, column], gains)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_yticks(range(len(ranks)), [str(rank) for rank in ranks])
        axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(-0.5, len(ranks) - 0.5))
        axes.set(xlabel="learning rate", ylabel="rank")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    alt = f"Best gain in {report.verdict.primary} for each rank and learning rate"
    return draw("rank-rate", alt, 6.4, 1.1 + 0.62 * len(ranks), paint)


def _columns(rates: list[float]) -> dict[float, str]:
    """Learning rate to the label of its column, in rising order."""
    distinct = sorted(set(rates))
    if len(distinct) <= COLUMNS:
        return {rate: scientific(rate) for rate in distinct}
    edges = np.geomspace(distinct[0], distinct[-1], COLUMNS + 1)
    places = np.clip(np.searchsorted(edges, distinct, side="right") - 1, 0, COLUMNS - 1)
    ends = [scientific(float(f"{edge:.2g}")) for edge in edges]
    labels = [f"{low}\nto {high}" for low, high in itertools.pairwise(ends)]
    return {rate: labels[place] for rate, place in zip(distinct, places, strict=True)}


def _best_by_cell(report: ReportInput, columns: dict[float, str]) -> dict[_Cell, VariantRow]:
    best: dict[_Cell, VariantRow] = {}
    for variant in report.table.adapted:
        if variant.rank is None or variant.learning_rate is None:
            continue
        cell, row = (variant.rank, columns[variant.learning_rate]), report.verdict.row(variant.id)
        if cell not in best or row.objective > best[cell].objective:
            best[cell] = row
    return best


def _shade(gain: float, gains: Sequence[float]) -> tuple[str, str]:
    """Fill and text colour of a gain among ``gains``; cividis reads the same to every eye."""
    low, high = min(gains, default=0.0), max(gains, default=0.0)
    red, green, blue, _ = colormaps["cividis"](0.5 if low == high else (gain - low) / (high - low))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return to_hex((red, green, blue)), "#000000" if luminance > 0.4 else "#ffffff"


def _draw_cell(
    axes: Axes, x: int, y: int, row: VariantRow | None, failed: int, gains: Sequence[float]
) -> None:
    allowed = row is not None and row.feasible
    fill, text = _shade(row.gain.mean, gains) if row and allowed else ("none", INK)
    corner = (x - 0.47, y - 0.45)
    edge = fill if allowed else LINE
    hatch = None if allowed else "////" if row else "xx"
    axes.add_patch(Rectangle(corner, 0.94, 0.9, facecolor=fill, edgecolor=edge, hatch=hatch))
    words = [f"{'' if allowed else '✕ '}{row.gain.mean:+.2f}"] if row else []
    if row and row.standing == "winner":
        axes.add_patch(Rectangle(corner, 0.94, 0.9, fill=False, edgecolor=ORANGE, linewidth=3))
        words.append("◆ winner")
    if failed:
        words.append(f"✕ {failed} failed")
    backing = None if allowed else {"facecolor": PAPER, "edgecolor": "none", "pad": 2}
    axes.text(x, y, "\n".join(words), ha="center", va="center", color=text, bbox=backing)
