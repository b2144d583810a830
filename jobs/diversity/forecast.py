"""What to expect of fine-tuning on a speaker's clips, as a traffic light a property.

The bounds are this project's own guesses from a few synthetic voices and are not calibrated:
nothing is decided by them.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from jobs.diversity.summary import SpeakerSummary

Colour = Literal["red", "amber", "green"]
ForecastOutcome = Literal["clean and diverse", "clean but narrow", "dirty", "unknown"]

MIN_SPEAKERS = 10
"""Fewer cannot show whether diversity and gain go together: with nine, a rank correlation must
reach 0.70 to differ from chance at 5 %, two-sided, and with four none can (Spearman's exact
distribution)."""
_SENTENCES = {
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
_UNEVEN_LEVEL = 8.0
"""dB of sd of the level above which data is dirty."""
Bounds = tuple[float, float]
_UNBOUNDED = (math.inf, math.inf)


@dataclass(frozen=True)
class Light:
    """One property, what was measured of it, and its colour."""

    name: str
    measured: str
    bounds: str
    """Of the colours, in words; amber is what lies between."""
    colour: Colour | None
    """None where it is unknown."""


@dataclass(frozen=True)
class Forecast:
    """What to expect, and the lights it follows from."""

    outcome: ForecastOutcome
    """``unknown`` where there are too few speakers to say."""
    sentence: str
    because: tuple[str, ...]
    """What made it so, the lights by name; nothing makes data clean and diverse."""
    lights: tuple[Light, ...]


def forecast(summary: SpeakerSummary) -> Forecast:
    """Dirty before narrow: noise, too, makes clips differ from each other."""
    lights = _lights(summary)
    colours = {light.name: light.colour for light in lights}
    dirt = [name for name in ("cleanliness", "one voice") if colours[name] == "red"]
    if (_statistic(summary, "level", "sd") or 0.0) > _UNEVEN_LEVEL:
        dirt.append("level")
    if summary.bad_share > MOST_BAD:
        dirt.append(f"{summary.bad_share:.0%} bad clips")
    # What is unknown is no sign of variety.
    alike = [name for name in _DIVERSITY if colours[name] in ("red", None)]
    outcome: ForecastOutcome = "clean and diverse"
    because: list[str] = []
    if dirt:
        outcome, because = "dirty", dirt
    elif len(alike) >= _NARROW or set(alike) & set(_DECISIVE):
        outcome, because = "clean but narrow", alike
    return Forecast(outcome, _SENTENCES[outcome], tuple(because), lights)


def forecasts(summaries: Sequence[SpeakerSummary]) -> list[Forecast]:
    """What to expect of each speaker of a sweep; nothing, where there are too few of them."""
    if len(summaries) >= MIN_SPEAKERS:
        return [forecast(summary) for summary in summaries]
    there = "is 1 speaker" if len(summaries) == 1 else f"are {len(summaries)} speakers"
    sentence = (
        f"This knows nothing of the outcome: there {there}, and fewer than {MIN_SPEAKERS} cannot "
        "show whether diversity and gain go together; the bounds of the lights are guesses that "
        "no sweep has tested."
    )
    return [Forecast("unknown", sentence, (), forecast(summary).lights) for summary in summaries]


def _lights(summary: SpeakerSummary) -> tuple[Light, ...]:
    clean = _cleanliness(summary)
    minutes = f"{{:.1f}} of {summary.minutes:.1f} min"
    varied = _light(
        "quality beyond texts", "excess sd of OVRL {:.2f} MOS", summary.quality_excess, (0.05, 0.15)
    )
    if varied.colour == "green" and clean.colour != "green":
        varied = replace(varied, colour="amber")  # what differs may be the noise
    rate, rate_sd = (_statistic(summary, "speaking_rate", of) for of in ("mean", "sd"))
    tempo = rate_sd / rate if rate and rate_sd is not None else None
    level = _statistic(summary, "level", "sd")
    dynamics = _statistic(summary, "dynamics", "median")
    melody = _statistic(summary, "f0_sd", "median")
    own, other = _statistic(summary, "centroid_similarity", "p5"), summary.voice_ceiling
    voice = _light("one voice", "P5 of the cosine {:.2f}", own, (other, other))
    return (
        _light("clean minutes", minutes, summary.clean_minutes, (5, 10)),
        clean,
        _light("level", "sd {:.1f} dB", level, (1, 2), (6, _UNEVEN_LEVEL)),
        _light("dynamics", "median {:.1f} dB", dynamics, (12, 20)),
        replace(varied, bounds=f"{varied.bounds} if clean"),
        _light("melody", "median F0 sd {:.1f} semitones", melody, (1.5, 2.5)),
        _light("tempo", "sd over mean {:.2f}", tempo, (0.06, 0.12), (0.35, math.inf)),
        replace(voice, bounds=f"red under {other:.2f}, which another voice may reach"),
    )


def _cleanliness(summary: SpeakerSummary) -> Light:
    """The worse of two; what is unknown is worse than amber."""
    quality = _statistic(summary, "dnsmos_ovrl", "p10")
    background = _statistic(summary, "dnsmos_bak", "median")
    worst_first: tuple[Colour | None, ...] = ("red", None, "amber", "green")
    return Light(
        "cleanliness",
        f"{_text('P10 OVRL {:.2f}', quality)}, {_text('median BAK {:.2f}', background)}",
        "red under 2.3 or 3.5, green from 2.6 and 3.8",
        min(_colour(quality, (2.3, 2.6)), _colour(background, (3.5, 3.8)), key=worst_first.index),
    )


def _light(
    name: str, shown: str, value: float | None, low: Bounds, high: Bounds = _UNBOUNDED
) -> Light:
    red = f"red under {low[0]:g}" + (f" or over {high[1]:g}" if high[1] < math.inf else "")
    green = f"green from {low[1]:g}" + (f" to {high[0]:g}" if high[0] < math.inf else "")
    return Light(name, _text(shown, value), f"{red}, {green}", _colour(value, low, high))


def _colour(value: float | None, low: Bounds, high: Bounds = _UNBOUNDED) -> Colour | None:
    """Red under ``low[0]`` and over ``high[1]``, green from ``low[1]`` to ``high[0]``."""
    if value is None:
        return None
    if value < low[0] or value > high[1]:
        return "red"
    return "green" if low[1] <= value <= high[0] else "amber"


def _statistic(
    summary: SpeakerSummary, feature: str, of: Literal["mean", "sd", "median", "p5", "p10"]
) -> float | None:
    value: float | None = getattr(summary.features.get(feature), of, None)
    return value


def _text(shown: str, value: float | None) -> str:
    return re.sub(r"\{.*?\}", "–", shown) if value is None else shown.format(value)
