"""What to expect of fine-tuning on a speaker's clips, as a traffic light a property.

The bounds are this project's own guesses from a few synthetic voices and are not calibrated:
nothing is decided by them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.diversity.summary import SpeakerSummary

Colour = Literal["red", "amber", "green"]
Outcome = Literal["clean and diverse", "clean but narrow", "dirty"]

_SENTENCES: dict[Outcome, str] = {
    "clean and diverse": (
        "The clips are clean and vary: expect gains, in similarity and in quality."
    ),
    "clean but narrow": (
        "The clips are clean but much alike, or few: expect similarity to rise while quality may "
        "fall; a low rank and a low lora_scale, or more varied recordings, are the safer choice."
    ),
    "dirty": (
        "Noise, uneven loudness or another voice would be learned with the voice: expect quality "
        "to fall; clean or drop the worst clips first."
    ),
}
MOST_BAD = 0.2
"""A larger share of bad clips makes data dirty."""
_NARROW = 3
"""So many red lights of ``_DIVERSITY`` make data narrow."""
_DIVERSITY = ("clean minutes", "level", "dynamics", "quality beyond texts", "melody", "tempo")
_DECISIVE = ("clean minutes", "quality beyond texts")
"""One of these alone makes data narrow when it is red."""
_LOUDNESS_MESS = 8.0
"""dB of sd of the level."""


@dataclass(frozen=True)
class Light:
    """One property, what was measured of it, and its colour."""

    name: str
    measured: str
    bounds: str
    """Of the colours, in words; amber is what lies between."""
    colour: Colour | None
    """None where it cannot be told."""


@dataclass(frozen=True)
class Forecast:
    """What to expect, and the lights it follows from."""

    outcome: Outcome
    sentence: str
    because: tuple[str, ...]
    """What made it so, the lights by name; nothing makes data clean and diverse."""
    lights: tuple[Light, ...]


def forecast(summary: SpeakerSummary) -> Forecast:
    """Dirty before narrow: noise, too, makes clips differ from each other."""
    lights = _lights(summary)
    colours = {light.name: light.colour for light in lights}
    # What cannot be told is no sign of variety.
    alike = [name for name in _DIVERSITY if colours[name] in ("red", None)]
    outcome: Outcome = "clean and diverse"
    because: list[str] = []
    if dirt := _dirt(summary, colours):
        outcome, because = "dirty", dirt
    elif len(alike) >= _NARROW or set(alike) & set(_DECISIVE):
        outcome, because = "clean but narrow", alike
    return Forecast(outcome, _SENTENCES[outcome], tuple(because), lights)


def _dirt(summary: SpeakerSummary, colours: Mapping[str, Colour | None]) -> list[str]:
    """What makes the clips dirty."""
    dirt = [name for name in ("cleanliness", "one voice") if colours[name] == "red"]
    level = _sd(summary, "level")
    if level is not None and level > _LOUDNESS_MESS:
        dirt.append("level")
    if summary.bad_share > MOST_BAD:
        dirt.append(f"{summary.bad_share:.0%} bad clips")
    return dirt


def _lights(summary: SpeakerSummary) -> tuple[Light, ...]:
    rate = summary.features.get("speaking_rate")
    tempo = rate.sd / rate.mean if rate and rate.sd is not None else None
    cleanliness = _cleanliness(summary)
    excess, level = summary.quality_excess, _sd(summary, "level")
    dynamics = _percentile(summary, "dynamics", "median")
    melody = _percentile(summary, "f0_sd", "median")
    varied = _colour(excess, (0.05, 0.15))
    if varied == "green" and cleanliness.colour != "green":
        varied = "amber"  # what differs may be the noise
    return (
        Light(
            "clean minutes",
            f"{summary.clean_minutes:.1f} of {summary.minutes:.1f} min",
            "red under 5, green from 10",
            _colour(summary.clean_minutes, (5, 10)),
        ),
        cleanliness,
        Light(
            "level",
            _said(level, "dB", "sd"),
            f"red under 1 or over {_LOUDNESS_MESS:g}, green from 2 to 6",
            _colour(level, (1, 2), (6, _LOUDNESS_MESS)),
        ),
        Light(
            "dynamics",
            _said(dynamics, "dB", "median"),
            "red under 12, green from 20",
            _colour(dynamics, (12, 20)),
        ),
        Light(
            "quality beyond texts",
            _said(excess, "MOS", "excess sd of OVRL", 2),
            "red under 0.05, green from 0.15 if clean",
            varied,
        ),
        Light(
            "melody",
            _said(melody, "semitones", "median F0 sd"),
            "red under 1.5, green from 2.5",
            _colour(melody, (1.5, 2.5)),
        ),
        Light(
            "tempo",
            _said(tempo, "", "sd over mean", 2),
            "red under 0.06, green from 0.12 to 0.35",
            _colour(tempo, (0.06, 0.12), (0.35, math.inf)),
        ),
        _one_voice(summary),
    )


def _cleanliness(summary: SpeakerSummary) -> Light:
    quality = _percentile(summary, "dnsmos_ovrl", "p10")
    background = _percentile(summary, "dnsmos_bak", "median")
    measured = f"{_said(quality, '', 'P10 OVRL', 2)}, {_said(background, '', 'median BAK', 2)}"
    both = _colour(quality, (2.3, 2.6)), _colour(background, (3.5, 3.8))
    bounds = "red under 2.3 or 3.5, green from 2.6 and 3.8"
    return Light("cleanliness", measured, bounds, _worse(both))


def _one_voice(summary: SpeakerSummary) -> Light:
    own, other = _percentile(summary, "centroid_similarity", "p5"), summary.voice_ceiling
    colour: Colour | None = None
    if own is not None:
        colour = "green" if own >= other else "red"
    bounds = f"red under {other:.2f}, which another voice may reach"
    return Light("one voice", _said(own, "", "P5 of the cosine", 2), bounds, colour)


def _worse(colours: Sequence[Colour | None]) -> Colour | None:
    """The worst of some; what cannot be told is worse than amber."""
    order: tuple[Colour | None, ...] = ("red", None, "amber", "green")
    return min(colours, key=order.index)


def _colour(
    value: float | None,
    low: tuple[float, float],
    high: tuple[float, float] = (math.inf, math.inf),
) -> Colour | None:
    """Red under ``low[0]`` and over ``high[1]``, green from ``low[1]`` to ``high[0]``."""
    if value is None:
        return None
    if value < low[0] or value > high[1]:
        return "red"
    return "green" if low[1] <= value <= high[0] else "amber"


def _sd(summary: SpeakerSummary, feature: str) -> float | None:
    found = summary.features.get(feature)
    return found.sd if found else None


def _percentile(
    summary: SpeakerSummary, feature: str, which: Literal["median", "p5", "p10"]
) -> float | None:
    found = summary.features.get(feature)
    return float(getattr(found, which)) if found else None


def _said(value: float | None, unit: str, name: str, places: int = 1) -> str:
    return f"{name} {'–' if value is None else f'{value:.{places}f}'} {unit}".rstrip()
