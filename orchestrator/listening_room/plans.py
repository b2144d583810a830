"""Who hears what in which order: fixed when a rater is enrolled, balanced over the raters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening.ratings import AXES, PREFERENCE, Axis

Mode = Literal["cmos", "mos"]
"""``cmos``: variant and base side by side, from -3 to 3. ``mos``: one clip, from 1 to 5, in a pass
for each axis: axes on one screen are answered as one."""
Kind = Literal["training", "rating", "repeat", "trap"]
ANCHOR = "anchor"
BEEPS = "beeps"

REPEATS = {"cmos": 8, "mos": 4}
"""Hidden repeats, of each pass. The protocol's limit of 1.25 points excludes few honest raters by
so many (``benchmarks/listening.md``)."""
TRAPS = 2
"""Of each pass."""
TRAINING = 2
"""Sentences that a rater learns by."""
_BEEP_COUNTS = (1, 2, 3, 5)
"""By the numbers of the keys that answer them; the middle of the comparison scale, which a rater
may press who does not listen, is none."""
_APART = 4
"""Items between a clip and its repeat, at least."""


@dataclass(frozen=True)
class ClipName:
    """A clip as the study knows it; no listener sees this."""

    system: str
    """A variant, the base, the low anchor, or so many beeps."""
    sentence: str

    @classmethod
    def beeps(cls, count: int) -> "ClipName":
        """That of so many beeps."""
        return cls(BEEPS, str(count))


@dataclass(frozen=True)
class PlannedItem:
    """One question to one rater."""

    axis: Axis
    kind: Kind
    sentence: str
    system: str
    """What is rated; empty for a trap."""
    first: ClipName
    second: ClipName | None = None
    """None where clips are rated alone."""
    expected: int | None = None
    """The answer to a trap, as the rater gives it."""

    @property
    def clips(self) -> tuple[ClipName, ...]:
        """What is heard, in order."""
        return (self.first,) if self.second is None else (self.first, self.second)

    def score(self, answer: int) -> int:
        """The answer as the rating of the system: above 0 a rater prefers it to the base."""
        is_turned = self.kind != "trap" and self.second is not None
        return -answer if is_turned and self.first.system != BASE_VARIANT else answer

    def swapped(self) -> "PlannedItem":
        """The same with the clips in the other order."""
        return self if self.second is None else replace(self, first=self.second, second=self.first)


def plan(
    mode: Mode,
    pairs: Sequence[tuple[str, str]],
    training: Sequence[tuple[str, str]],
    seed: int,
    place: int,
) -> list[PlannedItem]:
    """The items of the rater who is enrolled at ``place``, counted from 0.

    Sentences come in the order of a row of a Williams design: over the raters each comes at every
    place, and before every other, equally often. Half of a rater's sentences have the variant
    first, the other half the next rater's. No sentence comes twice in a row.

    Args:
        mode: what is asked.
        pairs: sentence and variant of what is rated.
        training: the same of what a rater learns by, first.
        seed: the study's.
        place: the rater's.
    """
    shuffled = list(pairs)
    Random(f"{seed} sentences").shuffle(shuffled)
    order = [shuffled[i] for i in williams_row(len(shuffled), place)]
    sides = [i % 2 == 0 for i in range(len(shuffled))]
    Random(f"{seed} {place // 2} sides").shuffle(sides)
    variant_first = {
        pair: side == (place % 2 == 0) for pair, side in zip(shuffled, sides, strict=True)
    }
    axes: Sequence[Axis] = (PREFERENCE,) if mode == "cmos" else AXES
    items: list[PlannedItem] = []
    for turn, axis in enumerate(axes):
        rng = Random(f"{seed} {place} {axis}")
        if mode == "cmos":
            rated = [_compared(axis, pair, variant_first[pair]) for pair in order]
        else:
            # Each sentence twice, half a pass apart, once of each system.
            rotated = order[turn:] + order[:turn]
            rated = [
                _alone(axis, pair, variant_first[pair] != is_second)
                for is_second in (False, True)
                for pair in rotated
            ]
        if turn == 0:
            items += _training(mode, axis, training)
        items += _with_checks(rated, rng, mode)
    return items


def williams_row(count: int, place: int) -> list[int]:
    """Row ``place`` of a Williams design over ``count`` treatments; rows come round again.

    Williams (1949), "Experimental designs balanced for the estimation of residual effects of
    treatments": the first row is 0, 1, n-1, 2, n-2, and so on, the others add 1; an odd count also
    needs the rows in reverse.
    """
    first = [0]
    for step in range(1, count):
        first.append((step + 1) // 2 if step % 2 else count - step // 2)
    turn = place % (2 * count if count % 2 else count)
    row = [(each + turn) % count for each in first]
    return row[::-1] if turn >= count else row


def _compared(axis: Axis, pair: tuple[str, str], variant_first: bool) -> PlannedItem:
    sentence, variant = pair
    clips = ClipName(variant, sentence), ClipName(BASE_VARIANT, sentence)
    first, second = clips if variant_first else clips[::-1]
    return PlannedItem(axis, "rating", sentence, variant, first, second)


def _alone(axis: Axis, pair: tuple[str, str], of_variant: bool) -> PlannedItem:
    sentence, variant = pair
    system = variant if of_variant else BASE_VARIANT
    return PlannedItem(axis, "rating", sentence, system, ClipName(system, sentence))


def _training(mode: Mode, axis: Axis, pairs: Sequence[tuple[str, str]]) -> Iterator[PlannedItem]:
    """The ends of the scale, and what beeps ask for; none of it counts."""
    for place, (sentence, variant) in enumerate(pairs):
        clear, dull = ClipName(BASE_VARIANT, sentence), ClipName(ANCHOR, sentence)
        if mode == "mos":
            heard = dull if place else ClipName(variant, sentence)
            item = PlannedItem(axis, "training", sentence, heard.system, heard)
        elif place == 0:
            item = PlannedItem(axis, "training", sentence, ANCHOR, clear, dull)
        else:
            item = replace(_compared(axis, (sentence, variant), True), kind="training")
        yield item
    yield replace(_trap(axis, mode, _BEEP_COUNTS[1]), kind="training")


def _trap(axis: Axis, mode: Mode, count: int) -> PlannedItem:
    heard = ClipName.beeps(count)
    answer = count - 4 if mode == "cmos" else count
    second = heard if mode == "cmos" else None
    return PlannedItem(axis, "trap", BEEPS, "", heard, second, answer)


def _with_checks(rated: Sequence[PlannedItem], rng: Random, mode: Mode) -> list[PlannedItem]:
    """Repeats and traps among the ratings."""
    items = list(rated)
    for first in rng.sample(
        list(rated[: max(1, len(rated) // 2)]), min(REPEATS[mode], len(rated) // 2)
    ):
        repeat = replace(first.swapped(), kind="repeat")
        after = items.index(first) + 1 + _APART
        fits = [
            at
            for at in range(min(after, len(items)), len(items) + 1)
            if items[at - 1].sentence != first.sentence
            and (at == len(items) or items[at].sentence != first.sentence)
        ]
        if fits:  # a plan of a few sentences may have no room
            items.insert(rng.choice(fits), repeat)
    counts = rng.sample(_BEEP_COUNTS, TRAPS)
    for turn, count in enumerate(counts):
        part = len(items) // TRAPS
        at = turn * part + rng.randrange(1, max(2, part))
        items.insert(at, _trap(rated[0].axis, mode, count))
    return items


def clip_names(
    pairs: Sequence[tuple[str, str]], training: Sequence[tuple[str, str]]
) -> list[ClipName]:
    """Every clip that any plan has."""
    of_pairs = [
        ClipName(system, sentence)
        for sentence, variant in (*pairs, *training)
        for system in (variant, BASE_VARIANT)
    ]
    dull = [ClipName(ANCHOR, sentence) for sentence, _ in training]
    return list(dict.fromkeys([*of_pairs, *dull, *map(ClipName.beeps, _BEEP_COUNTS)]))
