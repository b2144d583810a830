"""What is wrong with single clips, and which are the worst. The bounds are not calibrated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.diversity.features import OTHER_SIMILARITY, ClipFeatures

LOW_QUALITY = 2.3
"""DNSMOS OVRL below which a clip is bad."""
LOW_BACKGROUND = 3.5
"""DNSMOS BAK below which a clip is bad."""
LOW_SNR = 10.0
"""dB of WADA-SNR below which a clip is bad; it reads up to 8 dB low on vocoded voices."""
FAR_LEVEL = 10.0
"""dB between a clip's level and its speaker's median from which on a clip is bad."""
OTHER_VOICE = 0.7
"""Cosine to the speaker's other clips below which a clip may be another voice, where no other
speaker says what that is: other voices reached 0.67, the same voice 0.93, on 4 s clips."""
WORST = 10


@dataclass(frozen=True)
class Judged:
    """A clip with what is wrong with it, in words."""

    place: int
    """Its place among the training clips, from 0."""
    clip: ClipFeatures
    faults: tuple[str, ...]


def judge_clips(clips: Sequence[ClipFeatures]) -> list[Judged]:
    """Every clip with its faults, in the same order. A bad clip is one with any."""
    levels = _median_levels(clips)
    return [Judged(place, clip, _faults(clip, levels)) for place, clip in enumerate(clips)]


def worst(clips: Sequence[Judged]) -> list[Judged]:
    """The ``WORST`` clips: most faults first, of as many the lowest DNSMOS OVRL."""
    return sorted(
        clips,
        key=lambda judged: (
            -len(judged.faults),
            judged.clip.values.get("dnsmos_ovrl", 0.0),
            judged.place,
        ),
    )[:WORST]


def _median_levels(clips: Sequence[ClipFeatures]) -> dict[str, float]:
    levels: dict[str, list[float]] = {}
    for clip in clips:
        if "level" in clip.values:
            levels.setdefault(clip.speaker, []).append(clip.values["level"])
    return {speaker: float(np.median(of)) for speaker, of in levels.items()}


def _faults(clip: ClipFeatures, levels: Mapping[str, float]) -> tuple[str, ...]:
    values, faults = clip.values, []
    if clip.failures:
        # Mostly one reason for all that failed: silence has neither a level nor a melody.
        faults += [f"not measured: {why}" for why in dict.fromkeys(clip.failures.values())]
    if (quality := values.get("dnsmos_ovrl", LOW_QUALITY)) < LOW_QUALITY:
        faults.append(f"low quality: DNSMOS OVRL {quality:.2f}, under {LOW_QUALITY:g}")
    if (background := values.get("dnsmos_bak", LOW_BACKGROUND)) < LOW_BACKGROUND:
        faults.append(f"background noise: DNSMOS BAK {background:.2f}, under {LOW_BACKGROUND:g}")
    if (snr := values.get("wada_snr", LOW_SNR)) < LOW_SNR:
        faults.append(f"low SNR: {snr:.0f} dB, under {LOW_SNR:g} dB")
    if "level" in values and abs(apart := values["level"] - levels[clip.speaker]) > FAR_LEVEL:
        side = "louder" if apart > 0 else "quieter"
        faults.append(f"outlier level: {abs(apart):.0f} dB {side} than the speaker's median")
    if "centroid_similarity" in values:
        own, other = values["centroid_similarity"], values.get(OTHER_SIMILARITY, OTHER_VOICE)
        if own < other:
            nearer = "another speaker's" if OTHER_SIMILARITY in values else "the bound"
            faults.append(f"perhaps another voice: cosine {own:.2f}, {nearer} {other:.2f}")
    return tuple(faults)
