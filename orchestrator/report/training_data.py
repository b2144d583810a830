"""What a page shows of the clips that a sweep trains on: numbers, the worst clips, a figure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jobs.diversity.clips import FEATURES, JudgedClip
from jobs.diversity.forecast import Colour
from jobs.diversity.summary import SpeakerSummary
from orchestrator.report.report_input import DataReport, number
from orchestrator.report.svg import BLUE, INK, ORANGE, PAPER, draw
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.stats import Interval, spearman

SHOWN_SPEAKERS = 6
"""Those with the most speech; the file of the sweep has them all."""

LIGHTS: dict[Colour | None, tuple[str, str]] = {
    "green": ("●", "green"),
    "amber": ("▲", "amber"),
    "red": ("✕", "red"),
    None: ("○", "cannot be told"),
}
"""Symbol and word: nobody has to see the colour."""
OUTCOMES: dict[str, Colour | None] = {
    "clean and diverse": "green",
    "clean but narrow": "amber",
    "dirty": "red",
    "unknown": None,
}

FEATURE_TITLES = {
    "level": "level (dBFS)",
    "dnsmos_ovrl": "DNSMOS OVRL",
    "wada_snr": "WADA-SNR (dB)",
    "log2_f0": "mean F0 (Hz)",
    "speaking_rate": "characters/s",
}
POINTS = 300
"""Clips drawn of all; more would make the page large and say the same."""
_OTHERS = {"marker": "o", "markersize": 4.5, "color": BLUE, "alpha": 0.55, "markeredgewidth": 0}
_WORST = {
    **{"marker": "X", "markersize": 7.5, "color": ORANGE},
    **{"markeredgecolor": PAPER, "markeredgewidth": 0.6},
}
_GOLDEN = 0.6180339887498949
"""Its multiples, less their whole parts, spread evenly however many there are."""


def counts(summary: SpeakerSummary) -> list[tuple[str, str]]:
    """Label and value of what is no feature of a clip."""
    quality = summary.features.get("dnsmos_ovrl")
    rank = number(summary.effective_rank, ".1f")
    spread = number(quality.sd if quality else None, ".2f")
    excess = number(summary.quality_excess, ".2f")
    return [
        ("clips", f"{summary.clips}, {summary.unmeasured} not wholly measured"),
        ("bad clips", f"{summary.bad_share:.0%}"),
        ("near-duplicate texts", f"{summary.repeated_share:.0%}"),
        (
            "prompts' character bigrams heard in training",
            number(summary.bigram_coverage, ".0%"),
        ),
        ("effective rank", f"{rank} of {len(FEATURES)} features"),
        ("sd of OVRL", f"{spread}; texts alone {summary.quality_floor:.2f}; excess {excess}"),
    ]


def distributions(summary: SpeakerSummary) -> list[tuple[str, ...]]:
    """A row a feature: name with unit, median, 10th percentile, sd, IQR, clips that have it."""
    return [
        (
            f"{name} ({FEATURES[name]})",
            f"{of.median:.3g}",
            f"{of.p10:.3g}",
            number(of.sd, ".2g"),
            f"{of.iqr:.2g}",
            str(of.clips),
        )
        for name, of in summary.features.items()
    ]


@dataclass(frozen=True)
class Association:
    """Whether a measure of the clips and the gain go together over speakers."""

    measure: str
    speakers: int
    rho: float | None
    """Spearman's; None where it is undefined."""
    interval: tuple[float, float] | None
    """None for fewer than four speakers, or where all of them are in the same order."""


def gains_by_speaker(verdict: Verdict) -> dict[str, Interval]:
    """The gain on set B of each speaker that has a verdict of its own."""
    of = (group for group in verdict.groups if group.group == "speaker")
    return {group.name: group.effect for group in of if group.effect is not None}


def variety_rows(data: DataReport, verdict: Verdict) -> list[tuple[str, ...]]:
    """A row a speaker with a gain: name, each of ``VARIETY``, the gain and its interval."""
    gains = gains_by_speaker(verdict)
    return [
        (
            of.speaker,
            *(number(measure(of), ".2f") for measure in VARIETY.values()),
            f"{gains[of.speaker].mean:+.3g}",
            f"{gains[of.speaker].low:+.3g} to {gains[of.speaker].high:+.3g}",
        )
        for of in (speaker.summary for speaker in data.speakers)
        if of.speaker in gains
    ]


def associations(data: DataReport, verdict: Verdict, confidence: float) -> list[Association]:
    """Of each of ``VARIETY`` with the gain, over the speakers that have both.

    The interval is Fisher's z with the standard error of Bonett and Wright (Psychometrika 65,
    2000): sqrt((1 + rho^2 / 2) / (n - 3)).
    """
    gains = gains_by_speaker(verdict)
    found = []
    for name, measure in VARIETY.items():
        known = [
            (value, gains[of.speaker].mean)
            for of in (speaker.summary for speaker in data.speakers)
            if of.speaker in gains and (value := measure(of)) is not None
        ]
        rho = spearman([value for value, _ in known], [gain for _, gain in known])
        interval = None
        if rho is not None and len(known) > 3 and abs(rho) < 1 - 1e-9:
            reach = NormalDist().inv_cdf(0.5 + confidence / 2)
            reach *= math.sqrt((1 + rho**2 / 2) / (len(known) - 3))
            z = math.atanh(rho)
            interval = (math.tanh(z - reach), math.tanh(z + reach))
        found.append(Association(name, len(known), rho, interval))
    return found


def _spread_of(feature: str) -> Callable[[SpeakerSummary], float | None]:
    return lambda of: of.features[feature].sd if feature in of.features else None


VARIETY: dict[str, Callable[[SpeakerSummary], float | None]] = {
    "clean minutes": lambda of: of.clean_minutes,
    "sd of OVRL beyond texts (MOS)": lambda of: of.quality_excess,
    "sd of level (dB)": _spread_of("level"),
    "sd of F0 sd (semitones)": _spread_of("f0_sd"),
    "sd of characters/s": _spread_of("speaking_rate"),
    "effective rank": lambda of: of.effective_rank,
}
"""How much there is of a speaker's clips, and how varied they are."""


def feature_figure(data: DataReport) -> Markup:
    """Each feature over the clips, a column a speaker; the worst clips are crosses."""
    speakers = [speaker.summary.speaker for speaker in data.speakers][:SHOWN_SPEAKERS]
    worst = {clip.judged.place for clip in data.worst}
    others = [judged for judged in data.clips if judged.place not in worst]
    shown = _spread([judged for judged in others if judged.clip.speaker in speakers])
    marked = [c.judged for c in data.worst if c.judged.clip.speaker in speakers]

    def paint(figure: Figure) -> None:
        for axes, (name, title) in zip(
            figure.subplots(1, len(FEATURE_TITLES)), FEATURE_TITLES.items(), strict=True
        ):
            _points(axes, name, shown, speakers, _OTHERS)
            _points(axes, name, marked, speakers, _WORST)
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
    look: dict[str, Any],
) -> None:
    drawn = [judged for judged in clips if name in judged.clip.values]
    across = [
        speakers.index(judged.clip.speaker) + 0.7 * (judged.place * _GOLDEN % 1 - 0.5)
        for judged in drawn
    ]
    axes.plot(across, _heights(name, drawn), linestyle="none", **look)


def _medians(axes: Axes, name: str, clips: Sequence[JudgedClip], speakers: Sequence[str]) -> None:
    for place, speaker in enumerate(speakers):
        own = [j for j in clips if j.clip.speaker == speaker and name in j.clip.values]
        if own:
            median = float(np.median(_heights(name, own)))
            axes.plot([place - 0.45, place + 0.45], [median] * 2, color=INK, linewidth=1.4)


def _heights(name: str, clips: Sequence[JudgedClip]) -> NDArray[np.float64]:
    values = np.array([judged.clip.values[name] for judged in clips], dtype=np.float64)
    return 2.0**values if name == "log2_f0" else values  # hertz say more than octaves
