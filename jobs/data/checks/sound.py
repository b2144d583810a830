"""Silence at the ends, offset and noise of the recordings: told by distribution, not by clip."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.data.findings import Finding, warning, within

_FRAME = 0.01
"""Seconds over which a level is taken."""
_LOUD, _QUIET = 95, 5
"""Percentiles of the frames' levels: of what is said, and of what is heard beside it."""
_BELOW_SPEECH = 30.0
"""dB under the loud frames, at most, from which on a frame is silence: quiet consonants are above.
"""
_FLOOR = 1e-10
"""Power of digital silence, -100 dBFS: what 16 bits can hold ends at -98."""
_WORST = 10
_ENOUGH = 10
"""Clips from which on there is a distribution."""


class SoundFacts(NamedTuple):
    """What one recording is like beside what is said in it."""

    leading: float
    """Seconds before the first frame that is louder than half-way, in dB, from quiet to loud."""
    trailing: float
    """Seconds after the last one."""
    offset: float
    """Mean of the samples, as a share of full scale; without its sign."""
    contrast: float
    """dB from the 5th to the 95th percentile of the levels of 10 ms frames."""


def sound_facts(samples: NDArray[np.float32], rate: int) -> SoundFacts:
    """The facts of mono ``samples``, shape (samples,), that are not silent."""
    offset = float(np.mean(samples, dtype=np.float64))
    size = max(1, round(_FRAME * rate))
    count = max(1, len(samples) // size)
    frames = np.resize(samples, count * size).reshape(count, size) - np.float32(offset)
    power = np.square(frames).mean(axis=1, dtype=np.float64)
    levels = 10.0 * np.log10(np.maximum(power, _FLOOR))
    quiet, loud = np.percentile(levels, (_QUIET, _LOUD))
    sounding = np.flatnonzero(levels >= loud - min((loud - quiet) / 2, _BELOW_SPEECH))
    seconds = size / rate
    return SoundFacts(
        leading=float(sounding[0]) * seconds,
        trailing=float(count - 1 - sounding[-1]) * seconds,
        offset=abs(offset),
        contrast=float(loud - quiet),
    )


@dataclass(frozen=True)
class _Property:
    rule: str
    fact: str
    """The field of :class:`SoundFacts`."""
    limit: float
    is_upper: bool
    """Whether more than the limit is bad, rather than less."""
    share: float
    """Of the clips, how many must be bad for anything to be told."""
    shown: str
    """A format of the value, with its unit."""
    what: str
    next_step: str


_PROPERTIES = (
    _Property(
        "silence-leading",
        "leading",
        1.0,
        True,
        0.0,
        "{:.2f} s",
        "audio should begin with {limit} of silence at most",
        "Cut it: a model learns to wait as long.",
    ),
    _Property(
        "silence-trailing",
        "trailing",
        1.0,
        True,
        0.0,
        "{:.2f} s",
        "audio should end with {limit} of silence at most",
        "Cut it: a model learns to go on as long.",
    ),
    _Property(
        "dc-offset",
        "offset",
        0.005,
        True,
        0.0,
        "{:.2%}",
        "the mean of the samples should be {limit} of full scale at most",
        "Take the offset out (a high-pass at 20 Hz does).",
    ),
    _Property(
        "noisy",
        "contrast",
        18.0,
        False,
        0.1,  # a single clip may have no pause
        "{:.1f} dB",
        "speech should be {limit} or more above what is heard in its pauses",
        "Look for the original, or clean it: a model learns the noise too.",
    ),
)
"""The limits, and what each was measured on, are in docs/data.md."""


class SoundsOfClips:
    """The facts of many clips, each with its place, in little memory."""

    def __init__(self) -> None:
        """Of no clips yet."""
        self.places: list[str] = []
        self._facts = array("d")

    def add(self, place: str, facts: SoundFacts) -> None:
        """One clip more."""
        self.places.append(place)
        self._facts.extend(facts)

    def values(self, fact: str) -> NDArray[np.float64]:
        """One of the facts, of every clip: shape (clips,)."""
        step = len(SoundFacts._fields)
        return np.array(self._facts[SoundFacts._fields.index(fact) :: step])


def told_by_distribution(sounds: SoundsOfClips, where: str) -> Iterator[Finding]:
    """One finding a property that some of the clips do not have.

    ``where`` is the place of all of them. Nothing is told of fewer than ten.
    """
    places = sounds.places
    if len(places) < _ENOUGH:
        return
    for each in _PROPERTIES:
        values = sounds.values(each.fact)
        beyond = values > each.limit if each.is_upper else values < each.limit
        if beyond.sum() <= each.share * len(places):
            continue
        worst = np.argsort(-values if each.is_upper else values, kind="stable")
        named = [at for at in worst[:_WORST].tolist() if beyond[at]]
        shown = ", ".join(
            f"{within(places[at], where)} ({each.shown.format(values[at])})" for at in named
        )
        low, middle, high = np.percentile(values, (10, 50, 90))
        quoted = [each.shown.format(value) for value in (low, middle, high)]
        what = (
            f"{each.what.format(limit=each.shown.format(each.limit))}, but {beyond.sum()} of "
            f"{len(places)} clips differ (10th percentile {quoted[0]}, median {quoted[1]}, 90th "
            f"{quoted[2]}); the worst: {shown}"
        )
        yield warning(each.rule, where, what, each.next_step)
