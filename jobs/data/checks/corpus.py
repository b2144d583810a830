"""Checks between clips: duplicates, leaks between splits, odd speaking rates."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.data.clips import TargetClip
from jobs.data.findings import Finding, error, warning

ENOUGH_TO_COMPARE = 20
"""Clips of a speaker from which on one clip's rate of speech is compared with the others'."""
ODD_RATE = 5.0
"""Standard deviations of the logarithm of characters per second, taken from the median absolute
deviation, and at least ``ODD_FACTOR``: a belief. The shipped voice's clips stay within 3.1."""
ODD_FACTOR = 1.5
SHIFTED_FITS, SHIFTED_DIFFERS = 0.7, 0.3
"""Correlations of texts' lengths with durations: of the rows beside at least, and of the rows
themselves at most, where texts are shifted. The shipped voice has 0.0 and 0.9, shifted by a row 0.9
and -0.1."""
_TO_DEVIATION = 1.4826
"""From a median absolute deviation to a standard deviation, of what is normally distributed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clip that was decoded, to be compared with the others."""

    place: int
    """Of its line among all that were read."""
    clip: TargetClip
    text_digest: bytes | None
    """Digest of its text without case and punctuation; None where nothing is left of it."""
    letters: int
    """How many characters that text has, spaces not counted."""
    is_good: bool
    """Whether nothing is wrong with it by itself."""


Fault = tuple[int, Finding]
"""A finding and its clip's place among the candidates."""


def repeated_audio(candidates: Sequence[Candidate]) -> Iterator[Fault]:
    """Clips with the samples of an earlier one, within a split."""
    first: dict[tuple[str | None, str], TargetClip] = {}
    for at, each in enumerate(candidates):
        clip = each.clip
        earlier = first.setdefault((clip.row.split, clip.pcm), clip)
        if earlier is clip:
            continue
        if earlier.row.text == clip.row.text:
            what = f"a clip must stand once, but {earlier.row.where} is the same sound and text"
            yield at, error("duplicate-clip", clip.row.where, what, "Delete one of the two.")
        else:
            what = f"a sound must have one text, but at {earlier.row.where} the same has another"
            advice = "Listen, and delete the wrong one."
            yield at, error("duplicate-audio", clip.row.where, what, advice)


def repeated_texts(candidates: Sequence[Candidate]) -> Iterator[Fault]:
    """Clips with the text of an earlier one of the same speaker, within a split."""
    first: dict[tuple[str | None, str | None, bytes], TargetClip] = {}
    for at, each in enumerate(candidates):
        row = each.clip.row
        if each.text_digest is None:
            continue
        earlier = first.setdefault((row.split, row.speaker, each.text_digest), each.clip)
        if earlier is not each.clip:
            what = f"a text should be said once by a speaker, but {earlier.row.where} has it too"
            advice = "Look whether one of the two was meant to be another."
            yield at, warning("duplicate-text", each.clip.row.where, what, advice)


def leaks(candidates: Sequence[Candidate]) -> Iterator[Fault]:
    """Training clips whose sound or text is in validation too."""
    sounds: dict[str, str] = {}
    texts: dict[bytes, dict[str | None, str]] = {}
    for each in candidates:
        row = each.clip.row
        if row.split == "validation":
            sounds.setdefault(each.clip.pcm, row.where)
            if each.text_digest is not None:
                texts.setdefault(each.text_digest, {}).setdefault(row.speaker, row.where)
    for at, each in enumerate(candidates):
        if each.clip.row.split != "train":
            continue
        if (held_out := sounds.get(each.clip.pcm)) is not None:
            what = f"a training clip must not be held out too, but {held_out} is the same sound"
            yield at, error("leak-audio", each.clip.row.where, what, "Delete one of the two.")
        elif each.text_digest is not None and each.text_digest in texts:
            by_speaker = texts[each.text_digest]
            own = by_speaker.get(each.clip.row.speaker)
            finding, by = (error, "the same speaker") if own else (warning, "another speaker")
            where = own or next(iter(by_speaker.values()))
            what = f"a training text should not be held out too, but {where} has it, by {by}"
            advice = "Give both clips the same split."
            yield at, finding("leak-text", each.clip.row.where, what, advice)


def odd_speaking_rates(candidates: Sequence[Candidate]) -> Iterator[Fault]:
    """Clips whose text is too long or short for their sound, at their speaker's usual rate."""
    groups: dict[tuple[str | None, str | None], list[int]] = {}
    for at, each in enumerate(candidates):
        if each.is_good:
            groups.setdefault((each.clip.row.speaker, each.clip.row.language), []).append(at)
    for (speaker, _), places in groups.items():
        if len(places) < ENOUGH_TO_COMPARE:
            continue
        clips = (candidates[at] for at in places)
        rates = np.array([math.log(each.letters / each.clip.seconds) for each in clips])
        usual = float(np.median(rates))
        deviation = _TO_DEVIATION * float(np.median(np.abs(rates - usual)))
        bound = max(ODD_RATE * deviation, math.log(ODD_FACTOR))
        for index in np.flatnonzero(np.abs(rates - usual) > bound).tolist():
            whose = "the usual" if speaker is None else f"{speaker}'s usual"
            low, middle, high = (math.exp(usual + by) for by in (-bound, 0.0, bound))
            what = (
                f"text should fit the sound: characters a second must be {low:.1f} to {high:.1f}, "
                f"around {whose} {middle:.1f}, got {math.exp(rates[index]):.1f}"
            )
            clip = candidates[places[index]].clip
            advice = "Listen whether the text is what is said."
            yield places[index], warning("speaking-rate", clip.row.where, what, advice)


def shifted_texts(candidates: Sequence[Candidate]) -> Iterator[Finding]:
    """Manifests whose texts fit the sound of the rows before or after them, and not their own."""
    manifests: dict[str, list[Candidate]] = {}
    for each in candidates:
        manifests.setdefault(each.clip.row.manifest, []).append(each)
    for manifest, rows in manifests.items():
        if len(rows) < ENOUGH_TO_COMPARE:
            continue
        letters = np.array([each.letters for each in rows], dtype=np.float64)
        seconds = np.array([each.clip.seconds for each in rows])
        own = _correlation(letters, seconds)
        for beside, fits in (
            ("before", _correlation(letters[1:], seconds[:-1])),
            ("after", _correlation(letters[:-1], seconds[1:])),
        ):
            if own <= SHIFTED_DIFFERS and fits >= SHIFTED_FITS:
                what = (
                    "texts should be as long as their recordings, but their lengths fit those of "
                    f"the rows {beside} (a correlation of {fits:.2f}) and not their own ({own:.2f})"
                )
                advice = "The transcripts look shifted by a row: listen, and move them."
                yield warning("text-shifted", manifest, what, advice)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Pearson's; 0 where one of the two is constant."""
    deviations = float(one.std() * other.std())
    if not deviations:
        return 0.0
    return float(np.mean((one - one.mean()) * (other - other.mean()))) / deviations
