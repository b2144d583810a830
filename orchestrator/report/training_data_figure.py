"""The picture of the training clips: one strip a feature, one point a clip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jobs.diversity.clips import JudgedClip
from orchestrator.report.svg import BLUE, INK, ORANGE, PAPER, draw
from orchestrator.report.training_data import SHOWN_SPEAKERS, DataReport

STRIPS = {
    "level": "level (dBFS)",
    "dnsmos_ovrl": "DNSMOS OVRL",
    "wada_snr": "WADA-SNR (dB)",
    "log2_f0": "mean F0 (Hz)",
    "speaking_rate": "characters/s",
}
POINTS = 300
"""Clips drawn of all; more would make the page large and say the same."""
_GOLDEN = 0.6180339887498949
"""Its multiples, less their whole parts, spread evenly however many there are."""


def strips(data: DataReport) -> Markup:
    """Each feature over the clips, a column a speaker; the worst clips are crosses."""
    speakers = [speaker.summary.speaker for speaker in data.speakers][:SHOWN_SPEAKERS]
    worst = {clip.judged.place for clip in data.worst}
    others = [judged for judged in data.clips if judged.place not in worst]
    shown = _spread([judged for judged in others if judged.clip.speaker in speakers])
    marked = [c.judged for c in data.worst if c.judged.clip.speaker in speakers]

    def paint(figure: Figure) -> None:
        for axes, (name, title) in zip(
            figure.subplots(1, len(STRIPS)), STRIPS.items(), strict=True
        ):
            _points(
                axes,
                name,
                shown,
                speakers,
                "o",
                {"color": BLUE, "alpha": 0.55, "markeredgewidth": 0},
            )
            look = {"color": ORANGE, "markeredgecolor": PAPER, "markeredgewidth": 0.6}
            _points(axes, name, marked, speakers, "X", look)
            _medians(axes, name, data.clips, speakers)
            ticks = [str(place + 1) for place in range(len(speakers))]
            axes.set_xticks(range(len(speakers)), ticks if len(speakers) > 1 else [""])
            axes.set(title=title, xlim=(-0.6, len(speakers) - 0.4))
            axes.grid(visible=False, axis="x")

    alt = f"Level, quality, noise, pitch and tempo of {len(shown) + len(marked)} training clips"
    return draw("data", alt, 9.6, 2.9, paint)


def _spread(clips: Sequence[JudgedClip]) -> list[JudgedClip]:
    """At most ``POINTS`` of them, evenly over their order."""
    places = np.linspace(0, len(clips) - 1, min(POINTS, len(clips))).astype(int)
    return [clips[place] for place in places]


def _points(
    axes: Axes,
    name: str,
    clips: Sequence[JudgedClip],
    speakers: Sequence[str],
    marker: str,
    look: dict[str, Any],
) -> None:
    drawn = [judged for judged in clips if name in judged.clip.values]
    across = [
        speakers.index(judged.clip.speaker) + 0.7 * (judged.place * _GOLDEN % 1 - 0.5)
        for judged in drawn
    ]
    size = 4.5 if marker == "o" else 7.5
    heights = _heights(name, drawn)
    axes.plot(across, heights, marker, linestyle="none", markersize=size, **look)


def _medians(axes: Axes, name: str, clips: Sequence[JudgedClip], speakers: Sequence[str]) -> None:
    for place, speaker in enumerate(speakers):
        own = [j for j in clips if j.clip.speaker == speaker and name in j.clip.values]
        if own:
            median = float(np.median(_heights(name, own)))
            axes.plot([place - 0.45, place + 0.45], [median] * 2, color=INK, linewidth=1.4)


def _heights(name: str, clips: Sequence[JudgedClip]) -> NDArray[np.float64]:
    values = np.array([judged.clip.values[name] for judged in clips], dtype=np.float64)
    return 2.0**values if name == "log2_f0" else values  # hertz say more than octaves
