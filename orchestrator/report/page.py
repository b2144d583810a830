"""The self-contained HTML page of a sweep."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.report import confirmed, figures, scatters, training_data, views
from orchestrator.report.audio import MEDIA_TYPE, embedded
from orchestrator.report.audition import audition
from orchestrator.report.cells import rank_rate
from orchestrator.report.material import ReportInput
from orchestrator.report.strips import strips
from orchestrator.report.training_data import DataReport
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
        columns=views.columns(report, chosen),
        takes=views.takes(report, chosen, sounds),
        grid=views.grid(report, chosen, sounds),
        confirmed_headings=confirmed.headings(report),
        confirmed=confirmed.finalists(report),
        fresh_columns=confirmed.columns(report, chosen),
        fresh_takes=confirmed.takes(chosen, sounds),
        groups=confirmed.groups(report),
        group_loss_headings=confirmed.group_loss_headings(report),
        group_losses=confirmed.group_losses(report),
        error_rates=confirmed.error_rates(report),
        listening=confirmed.listening(report),
        shortlist=confirmed.shortlist(report),
        headings=views.headings(report),
        lines=views.lines(report),
        rule=views.rule(report),
        cost=views.cost(report),
        broken=views.broken(report, chosen, sounds),
        failed_in_all=views.failed_in_all(report),
        loss_scatter=scatters.loss_scatter(report),
        loss_interval=scatters.spearman_interval(report),
        rank_rate=rank_rate(report),
        forest=figures.forest(report),
        traded=scatters.traded(report),
        pareto=scatters.pareto(report),
        learning_curves=figures.learning_curves(report),
        scale_curves=figures.scale_curves(report),
        forest_rows=figures.FOREST_ROWS,
        shown_lines=views.SHOWN_LINES,
        **_of_data(report.data),
        scientific=scientific,
        clock=views.clock,
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
        "worst_rows": training_data.worst_rows(data),
        "data_strips": strips(data),
    }


def _digest(script: str) -> str:
    """What a Content-Security-Policy allows this one script by."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
