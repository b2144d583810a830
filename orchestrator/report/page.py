"""The self-contained HTML page of a sweep."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.report import (
    confirmation_tables,
    line_figures,
    scatter_figures,
    tables,
    training_data,
)
from orchestrator.report.audio import MEDIA_TYPE, embedded
from orchestrator.report.audition import audition
from orchestrator.report.rank_rate_figure import rank_rate
from orchestrator.report.report_input import ReportInput
from orchestrator.report.training_data import DataReport
from orchestrator.report.training_data_figure import strips
from orchestrator.verdict.table import scientific

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
    chosen = audition(report.verdict, report.table, report.protocol)
    sounds = embedded(report.clips)
    return pages.get_template("page.html").render(
        report=report,
        verdict=report.verdict,
        badge=_BADGES[report.verdict.verdict],
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=_digest(script),
        media_type=MEDIA_TYPE,
        audition=chosen,
        columns=tables.columns(report, chosen),
        takes=tables.takes(report, chosen, sounds),
        grid=tables.grid(report, chosen, sounds),
        confirmed_headings=confirmation_tables.headings(report),
        confirmed=confirmation_tables.finalists(report),
        fresh_columns=confirmation_tables.columns(report, chosen),
        fresh_takes=confirmation_tables.takes(chosen, sounds),
        groups=confirmation_tables.groups(report),
        group_loss_headings=confirmation_tables.group_loss_headings(report),
        group_losses=confirmation_tables.group_losses(report),
        error_rates=confirmation_tables.error_rates(report),
        listening=confirmation_tables.listening(report),
        shortlist=confirmation_tables.shortlist(report),
        headings=tables.headings(report),
        lines=tables.lines(report),
        rule=tables.rule(report),
        cost=tables.cost(report),
        broken=tables.broken(report, chosen, sounds),
        failed_in_all=tables.failed_in_all(report),
        loss_scatter=scatter_figures.loss_scatter(report),
        loss_interval=scatter_figures.spearman_interval(report),
        rank_rate=rank_rate(report),
        forest=line_figures.forest(report),
        traded=scatter_figures.traded(report),
        pareto=scatter_figures.pareto(report),
        learning_curves=line_figures.learning_curves(report),
        scale_curves=line_figures.scale_curves(report),
        forest_rows=line_figures.FOREST_ROWS,
        shown_lines=tables.SHOWN_LINES,
        **_of_data(report.data),
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
        "longest_played": training_data.LONGEST_PLAYED,
        "counts": training_data.counts,
        "distributions": training_data.distributions,
        "data_strips": strips(data),
    }


def _digest(script: str) -> str:
    """What a Content-Security-Policy allows this one script by."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
