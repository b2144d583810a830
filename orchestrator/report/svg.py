"""Matplotlib figures as inline SVG that takes its colours and type from the page around it."""

import html
import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER = "#1a1d21", "#5b6470", "#d5d9de", "#fffefd"
# Okabe and Ito's palette: told apart in every common colour blindness.
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072b2", "#d55e00", "#009e73", "#aa4499", "#56b4e9"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY)

BASE_LINE: dict[str, Any] = {"color": MUTED, "linestyle": (0, (5, 3)), "linewidth": 1.1}
POINT: dict[str, Any] = {"markersize": 6.5, "markeredgewidth": 1.2, "linestyle": "none"}

# Each colour becomes a variable of the style sheet, which has a light and a dark value for it.
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    PAPER: "paper",
    BLUE: "blue",
    ORANGE: "orange",
    GREEN: "green",
    PURPLE: "purple",
    SKY: "sky",
}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "hatch.color": MUTED,
    "hatch.linewidth": 0.8,
}


def draw(
    name: str, alt: str, width: float, height: float, paint: Callable[[Figure], None]
) -> Markup:
    """Paint a figure of ``width`` x ``height`` inches; the same painting gives the same text.

    ``name`` keeps the ids of several figures on one page apart; ``alt`` says what the picture
    shows to those who do not see it.
    """
    text = io.StringIO()
    # The object interface: pyplot would keep figures alive and pick a backend for the process.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing)
    return Markup(_inline(text.getvalue(), alt))


def _inline(svg: str, alt: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    # Without a size the picture fills its column; the viewBox keeps its shape.
    head = f'<svg role="img" aria-label="{html.escape(alt)}"'
    svg = re.sub(r'<svg\b(.*?) width="[^"]*"', rf"{head}\1", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    used = set(re.findall(r"#([\w.-]+)", svg))
    return re.sub(r' id="([\w.-]+)"', lambda m: m[0] if m[1] in used else "", svg)
