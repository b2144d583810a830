"""Statistics of one speaker's training clips."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from jobs.data.texts import normalise_text
from jobs.diversity.clips import (
    FEATURES,
    OTHER_SIMILARITY,
    OTHER_VOICE,
    ClipFeatures,
    JudgedClip,
)

QUALITY_FLOOR = 0.241
"""The sd of DNSMOS OVRL over 12 sentences of one synthetic voice (flite's slt, measured
2026-11; espeak-ng's was 0.117): what texts alone make, where the base was not scored."""
LONG_TEXT = 10
"""Words from which on one replaced word leaves a text a near duplicate."""


@dataclass(frozen=True)
class Distribution:
    """A feature over the clips that have it, in its unit; the sd of one clip is unknown."""

    clips: int
    median: float
    p5: float
    p10: float
    iqr: float
    """75th less 25th percentile."""
    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of at least one value; percentiles are interpolated, the sd divides by n - 1."""
        p5, p10, p25, median, p75 = (float(p) for p in np.percentile(values, (5, 10, 25, 50, 75)))
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(len(values), median, p5, p10, p75 - p25, float(np.mean(values)), sd)


@dataclass(frozen=True)
class SpeakerSummary:
    """How much there is of a speaker, how clean, and how varied. Shares are 0 to 1."""

    speaker: str
    clips: int
    unmeasured: int
    """Clips that lack a feature."""
    minutes: float
    clean_minutes: float
    """Of the clips that are not bad."""
    bad_share: float
    """Clips with a fault, see :mod:`jobs.diversity.clips`."""
    repeated_share: float
    """Clips whose text is a near duplicate of an earlier one's."""
    bigram_coverage: float | None
    features: Mapping[str, Distribution]
    """By name; without those that no clip has."""
    effective_rank: float | None
    quality_floor: float
    quality_excess: float | None
    """The sd of DNSMOS OVRL beyond the floor."""
    voice_ceiling: float
    """The cosine that another speaker's voice reaches."""


def summarise(
    clips: Sequence[JudgedClip], prompts: Sequence[str], quality_floor: float
) -> list[SpeakerSummary]:
    """Each speaker's summary, those with the most speech first.

    ``prompts`` are the texts that variants are judged on; ``quality_floor`` is the sd of
    DNSMOS OVRL that texts alone make.
    """
    by_speaker: dict[str, list[JudgedClip]] = {}
    for judged in clips:
        by_speaker.setdefault(judged.clip.speaker, []).append(judged)
    summaries = [_summary(of, prompts, quality_floor) for of in by_speaker.values()]
    return sorted(summaries, key=lambda summary: (-summary.minutes, summary.speaker))


def sd_excess(sd: float, floor: float) -> float:
    """What of a standard deviation is left when an independent source of ``floor`` is taken out."""
    return math.sqrt(max(0.0, sd**2 - floor**2))


def effective_rank(table: NDArray[np.float64]) -> float | None:
    """In how many directions the columns of ``table`` (clips, features) vary, from 1 up.

    exp of the entropy of the correlation matrix's eigenvalues, as shares of their sum (Roy and
    Vetterli, "The effective rank", EUSIPCO 2007, of singular values). Columns without any spread
    are left out; None with fewer than three rows, or without a column.
    """
    spread = table.std(axis=0) if len(table) else np.zeros(table.shape[1])
    # Equal numbers have a spread of rounding, which a z-score would blow up.
    table = table[:, spread > 1e-9]
    if len(table) < 3 or not table.shape[1]:
        return None
    standard = (table - table.mean(axis=0)) / table.std(axis=0)
    eigenvalues = np.linalg.eigvalsh(standard.T @ standard / len(table))
    shares = eigenvalues[eigenvalues > 1e-12] / eigenvalues.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def repeated(texts: Sequence[str]) -> list[bool]:
    """Which texts are near duplicates of an earlier one.

    That is: equal once normalised, or both of at least ``LONG_TEXT`` words of which one is another.
    """
    seen: set[str] = set()
    found = []
    for text in texts:
        keys = set(_duplicate_keys(normalise_text(text)))
        found.append(not keys.isdisjoint(seen))
        seen |= keys
    return found


def _duplicate_keys(text: str) -> Iterator[str]:
    """Two texts are near duplicates when they share a key."""
    yield text
    words = text.split()
    if len(words) >= LONG_TEXT:
        for place in range(len(words)):
            yield " ".join([*words[:place], "*", *words[place + 1 :]])


def bigram_coverage(prompts: Iterable[str], training: Iterable[str]) -> float | None:
    """Share of the prompts' different character bigrams that the training texts have, 0 to 1.

    Of normalised texts, a word's beginning and end counted as characters. Letters stand in for
    sounds, so that no language needs a phonemizer: where spelling and sound part, it is a rough
    guide. None when the prompts have no letters.
    """
    wanted, present = _bigrams(prompts), _bigrams(training)
    return len(wanted & present) / len(wanted) if wanted else None


def _bigrams(texts: Iterable[str]) -> set[str]:
    return {
        f" {word} "[place : place + 2]
        for text in texts
        for word in normalise_text(text).split()
        for place in range(len(word) + 1)
    }


def _summary(
    judged: Sequence[JudgedClip], prompts: Sequence[str], quality_floor: float
) -> SpeakerSummary:
    clips = [each.clip for each in judged]
    bad = [bool(each.faults) for each in judged]
    seconds = [clip.values.get("duration", 0.0) for clip in clips]
    texts = [clip.text for clip in clips]
    features = {name: Distribution.of(of) for name in FEATURES if (of := _values(clips, name))}
    quality = features["dnsmos_ovrl"].sd if "dnsmos_ovrl" in features else None
    others = _values(clips, OTHER_SIMILARITY)
    return SpeakerSummary(
        speaker=clips[0].speaker,
        clips=len(clips),
        unmeasured=sum(bool(clip.failures) for clip in clips),
        minutes=sum(seconds) / 60,
        clean_minutes=sum(s for s, broken in zip(seconds, bad, strict=True) if not broken) / 60,
        bad_share=sum(bad) / len(clips),
        repeated_share=sum(repeated(texts)) / len(clips),
        bigram_coverage=bigram_coverage(prompts, texts),
        features=features,
        effective_rank=effective_rank(_table(clips)),
        quality_floor=quality_floor,
        quality_excess=None if quality is None else sd_excess(quality, quality_floor),
        voice_ceiling=float(np.percentile(others, 95)) if others else OTHER_VOICE,
    )


def _values(clips: Sequence[ClipFeatures], name: str) -> list[float]:
    return [clip.values[name] for clip in clips if name in clip.values]


def _table(clips: Sequence[ClipFeatures]) -> NDArray[np.float64]:
    """Shape (clips, features), of the clips that have all features."""
    whole = [
        [c.values[n] for n in FEATURES] for c in clips if not FEATURES.keys() - c.values.keys()
    ]
    return np.array(whole, dtype=np.float64).reshape(-1, len(FEATURES))
