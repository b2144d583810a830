"""What a page tells of the clips that a sweep trains on."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.diversity.clips import FEATURES, JudgedClip
from jobs.diversity.forecast import Colour, Forecast
from jobs.diversity.summary import SpeakerSummary
from orchestrator.report.audio import mp3

SHOWN_SPEAKERS = 6
"""Those with the most speech; the file of the sweep has them all."""

LONGEST_PLAYED = 15.0
"""Seconds of a clip that a page plays: its size must not grow with the data."""

LIGHTS: dict[Colour | None, tuple[str, str]] = {
    "green": ("●", "green"),
    "amber": ("▲", "amber"),
    "red": ("✕", "red"),
    None: ("○", "cannot be told"),
}
"""Symbol and word: nobody has to see the colour."""
OUTCOMES: dict[str, Colour] = {
    "clean and diverse": "green",
    "clean but narrow": "amber",
    "dirty": "red",
}


@dataclass(frozen=True)
class Speaker:
    """One speaker's clips and what to expect of them."""

    summary: SpeakerSummary
    forecast: Forecast


@dataclass(frozen=True)
class WorstClip:
    """One of the worst clips, to listen to."""

    judged: JudgedClip
    name: str
    """Of its file."""
    flac: bytes | None
    """Its beginning; None when the file has gone."""

    @property
    def audio(self) -> str | None:
        """Base64 of an MP3 file."""
        return None if self.flac is None else base64.b64encode(mp3(self.flac)).decode("ascii")

    @property
    def quality(self) -> str:
        """Its DNSMOS OVRL."""
        return _number(self.judged.clip.values.get("dnsmos_ovrl"), 2)


@dataclass(frozen=True)
class DataReport:
    """The training clips of a sweep."""

    speakers: Sequence[Speaker]
    """Those with the most speech first."""
    clips: Sequence[JudgedClip]
    worst: Sequence[WorstClip]


def counts(summary: SpeakerSummary) -> list[tuple[str, str]]:
    """Label and value of what is no feature of a clip."""
    quality = summary.features.get("dnsmos_ovrl")
    of_quality = "–" if quality is None else _number(quality.sd, 2)
    excess = _number(summary.quality_excess, 2)
    return [
        ("clips", f"{summary.clips}, {summary.unmeasured} not wholly measured"),
        ("bad clips", f"{summary.bad_share:.0%}"),
        ("near-duplicate texts", f"{summary.repeated_share:.0%}"),
        ("prompts' character bigrams heard in training", _share(summary.bigram_coverage)),
        ("effective rank", f"{_number(summary.effective_rank, 1)} of {len(FEATURES)} features"),
        ("sd of OVRL", f"{of_quality}; texts alone {summary.quality_floor:.2f}; excess {excess}"),
    ]


def distributions(summary: SpeakerSummary) -> list[tuple[str, ...]]:
    """A row a feature: name with unit, median, 10th percentile, sd, IQR, clips that have it."""
    return [
        (
            f"{name} ({FEATURES[name]})",
            *(f"{value:.3g}" for value in (of.median, of.p10)),
            "–" if of.sd is None else f"{of.sd:.2g}",
            f"{of.iqr:.2g}",
            str(of.clips),
        )
        for name, of in summary.features.items()
    ]


def _number(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
