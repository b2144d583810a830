"""The self-contained HTML page of a sweep."""

import base64
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.report import line_figures, scatter_figures, tables, training_data
from orchestrator.report.audio import MEDIA_TYPE, embedded
from orchestrator.report.clip_selection import select_clips
from orchestrator.report.rank_rate_figure import rank_rate
from orchestrator.report.report_input import (
    LONGEST_PLAYED,
    DataReport,
    ReportInput,
    number,
    ranked,
    short,
)
from orchestrator.verdict.table import scientific

SHOWN_ROWS = 16
"""Longer tables of variants fold what is below."""
_HERE = Path(__file__).parent
_BADGES = {
    "PROMOTE": ("good", "▲", "Promote"),
    "PROMOTE-PENDING-LISTENING": ("good", "▲", "Promote, pending listening"),
    "DO-NOT-FINE-TUNE": ("stay", "■", "Do not fine-tune"),
    "INCONCLUSIVE": ("none", "◇", "Inconclusive"),
    "REGRESSION": ("stay", "▼", "Regression"),
    "NO-VERDICT": ("none", "○", "No verdict"),
}


def render(report: ReportInput) -> str:
    """One HTML page with styles, script, pictures and audio inside; it asks nothing of any server.

    Raises:
        soundfile.LibsndfileError: a clip of the report is not audio.
    """
    pages = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    chosen = select_clips(report.verdict, report.table, report.protocol)
    sounds = {
        (variant, prompt): embedded(flac)
        for variant, of_prompt in report.clips.items()
        for prompt, flac in of_prompt.items()
    }
    return pages.get_template("page.html").render(
        report=report,
        verdict=report.verdict,
        badge=_BADGES[report.verdict.verdict],
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=_digest(script),
        media_type=MEDIA_TYPE,
        selection=chosen,
        sounds=sounds,
        played=partial(tables.played, sounds),
        prompt_scores=partial(tables.prompt_scores, report),
        headings=tables.headings(report),
        variant_cells=partial(tables.variant_cells, report),
        shortlist_cells=partial(tables.shortlist_cells, report),
        finalist_headings=tables.finalist_headings(report),
        finalist_cells=partial(tables.finalist_cells, report),
        groups=tables.groups(report),
        group_loss_headings=tables.group_loss_headings(report),
        group_losses=tables.group_losses(report),
        error_rates=tables.error_rates(report),
        listening=tables.listening(report),
        rule=tables.rule(report),
        loss_scatter=scatter_figures.loss_scatter(report),
        loss_interval=scatter_figures.spearman_interval(report),
        rank_rate=rank_rate(report),
        forest=line_figures.forest(report),
        cost_metrics=scatter_figures.cost_metrics(report),
        pareto=scatter_figures.pareto(report),
        learning_curves=line_figures.learning_curves(report),
        scale_curves=line_figures.scale_curves(report),
        forest_rows=line_figures.FOREST_ROWS,
        ranked=ranked(report),
        shown_rows=SHOWN_ROWS,
        **_of_data(report.data),
        short=short,
        number=number,
        scientific=scientific,
        clock=tables.clock,
    )


def _of_data(data: DataReport | str) -> dict[str, Any]:
    """What the section of the training clips shows; nothing when nothing is known of them."""
    if isinstance(data, str):
        return {}
    return {
        "lights": training_data.LIGHTS,
        "outcomes": training_data.OUTCOMES,
        "shown_speakers": training_data.SHOWN_SPEAKERS,
        "longest_played": LONGEST_PLAYED,
        "counts": training_data.counts,
        "distributions": training_data.distributions,
        "embedded": embedded,
        "data_figure": training_data.feature_figure(data),
    }


def _digest(script: str) -> str:
    """What a Content-Security-Policy allows this one script by."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
