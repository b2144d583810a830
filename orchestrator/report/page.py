"""The self-contained HTML page of a sweep."""

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.report import (
    line_figures,
    rank_rate_figure,
    scatter_figures,
    tables,
    training_data,
)
from orchestrator.report.audio import MEDIA_TYPE, embedded
from orchestrator.report.clip_selection import select_clips
from orchestrator.report.report_input import (
    LONGEST_PLAYED,
    ReportInput,
    number,
    ranked,
    short,
)
from orchestrator.verdict.table import scientific

_HERE = Path(__file__).parent
_BADGES = {
    "PROMOTE": ("good", "▲", "Promote"),
    "PROMOTE-BY-LANGUAGE": ("good", "▲", "Promote, by language"),
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
    return pages.get_template("page.html").render(
        report=report,
        verdict=report.verdict,
        badge=_BADGES[report.verdict.verdict],
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        # What the page's Content-Security-Policy allows this one script by.
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        media_type=MEDIA_TYPE,
        selection=select_clips(report.verdict, report.table, report.protocol),
        sounds={
            (variant, prompt): embedded(flac)
            for variant, of_prompt in report.clips.items()
            for prompt, flac in of_prompt.items()
        },
        embedded=embedded,
        longest_played=LONGEST_PLAYED,
        number=number,
        ranked=ranked,
        scientific=scientific,
        short=short,
        line_figures=line_figures,
        rank_rate_figure=rank_rate_figure,
        scatter_figures=scatter_figures,
        tables=tables,
        training_data=training_data,
    )


def carry_over(page: str, earlier: str) -> str:
    """``page`` with the training data and the facts of an ``earlier`` page of the same sweep.

    For whoever renders a finished sweep again, and has neither at hand.
    """
    for section in ("data", "protocol"):
        pattern = re.compile(f'<section id="{section}".*?</section>', re.DOTALL)
        kept, here = pattern.search(earlier), pattern.search(page)
        if kept and here:
            page = page[: here.start()] + kept[0] + page[here.end() :]
    return page
