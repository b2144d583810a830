"""The self-contained HTML page of a sweep."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.report import figures, views
from orchestrator.report.cells import rank_rate
from orchestrator.report.material import ReportInput
from orchestrator.verdict.table import scientific

_HERE = Path(__file__).parent
_BADGES = {
    "PROMOTE-PENDING-LISTENING": ("good", "▲", "Promote, pending listening"),
    "DO-NOT-FINE-TUNE": ("stay", "■", "Do not fine-tune"),
    "NO-VERDICT": ("none", "○", "No verdict"),
}


def render(report: ReportInput) -> str:
    """One HTML page with styles, pictures and audio inside; it asks nothing of any server."""
    pages = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return pages.get_template("page.html").render(
        report=report,
        verdict=report.verdict,
        badge=_BADGES[report.verdict.verdict],
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        columns=views.columns(report),
        takes=views.takes(report),
        headings=views.headings(report),
        lines=views.lines(report),
        rule=views.rule(report),
        loss_scatter=figures.loss_scatter(report),
        rank_rate=rank_rate(report),
        forest=figures.forest(report),
        learning_curves=figures.learning_curves(report),
        scale_curves=figures.scale_curves(report),
        forest_rows=figures.FOREST_ROWS,
        shown_lines=views.SHOWN_LINES,
        scientific=scientific,
        clock=views.clock,
    )
