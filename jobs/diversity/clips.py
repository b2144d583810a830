"""Features and faults of training clips, and the worst of them.

The bounds are not calibrated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

FEATURES: Mapping[str, str] = {
    "level": "dBFS",
    "dynamics": "dB",
    "dnsmos_ovrl": "MOS",
    "dnsmos_p808": "MOS",
    "wada_snr": "dB",
    "dnsmos_bak": "MOS",
    "log2_f0": "octaves",
    "f0_sd": "semitones",
    "speaking_rate": "characters/s",
    "centroid_similarity": "cosine",
    "duration": "s",
}
"""Name and unit of what every clip has, unless it failed; see docs/data.md for what each is."""

OTHER_SIMILARITY = "other_similarity"
"""Cosine to the nearest other speaker's centroid; only clips of data with several speakers."""

FAR_LEVEL = 10.0
"""dB between a clip's level and its speaker's median from which on a clip is bad."""
OTHER_VOICE = 0.7
"""Cosine to the speaker's other clips below which a clip may be another voice, where no other
speaker says what that is: other voices reached 0.67, the same voice 0.93, on 4 s clips."""
WORST = 10

_MINIMA = (
    ("dnsmos_ovrl", 2.3, "low quality: DNSMOS OVRL {:.2f}, under {:g}"),
    ("dnsmos_bak", 3.5, "background noise: DNSMOS BAK {:.2f}, under {:g}"),
    # It reads up to 8 dB low on vocoded voices.
    ("wada_snr", 10.0, "low SNR: {:.0f} dB, under {:g} dB"),
)
"""A feature, the bound below which a clip is bad, and the fault in words."""


@dataclass(frozen=True)
class ClipFeatures:
    """One training clip: its numbers, and why it lacks those that it lacks."""

    speaker: str
    text: str
    values: Mapping[str, float]
    failures: Mapping[str, str] = field(default_factory=dict)
    """Name of a feature to the reason it has no value."""


@dataclass(frozen=True)
class JudgedClip:
    """A clip with its faults, in words."""

    place: int
    """Its place among the training clips, from 0."""
    clip: ClipFeatures
    faults: tuple[str, ...]


def judge_clips(clips: Sequence[ClipFeatures]) -> list[JudgedClip]:
    """Every clip with its faults, in the same order. A bad clip is one with any."""
    levels: dict[str, list[float]] = {}
    for clip in clips:
        if "level" in clip.values:
            levels.setdefault(clip.speaker, []).append(clip.values["level"])
    medians = {speaker: float(np.median(of)) for speaker, of in levels.items()}
    return [JudgedClip(place, clip, _faults(clip, medians)) for place, clip in enumerate(clips)]


def worst(clips: Sequence[JudgedClip]) -> list[JudgedClip]:
    """The ``WORST`` clips: most faults first, of as many the lowest DNSMOS OVRL."""
    return sorted(
        clips, key=lambda c: (-len(c.faults), c.clip.values.get("dnsmos_ovrl", 0.0), c.place)
    )[:WORST]


def _faults(clip: ClipFeatures, median_levels: Mapping[str, float]) -> tuple[str, ...]:
    values = clip.values
    # Mostly one reason for all that failed: silence has neither a level nor a melody.
    faults = [f"not measured: {why}" for why in dict.fromkeys(clip.failures.values())]
    faults += [
        fault.format(values[name], bound)
        for name, bound, fault in _MINIMA
        if name in values and values[name] < bound
    ]
    if "level" in values:
        difference = values["level"] - median_levels[clip.speaker]
        if abs(difference) > FAR_LEVEL:
            side = "louder" if difference > 0 else "quieter"
            faults.append(
                f"outlier level: {abs(difference):.0f} dB {side} than the speaker's median"
            )
    if "centroid_similarity" in values:
        own, other = values["centroid_similarity"], values.get(OTHER_SIMILARITY, OTHER_VOICE)
        if own < other:
            nearer = "another speaker's" if OTHER_SIMILARITY in values else "the bound"
            faults.append(f"perhaps another voice: cosine {own:.2f}, {nearer} {other:.2f}")
    return tuple(faults)
