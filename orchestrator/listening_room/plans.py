"""Who hears what in which order: fixed when a rater is enrolled, balanced over the raters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening.ratings import AXES, PREFERENCE, Axis

Mode = Literal["cmos", "mos"]
"""``cmos``: variant and base side by side, from -3 to 3. ``mos``: one clip, from 1 to 5, in a pass
for each axis: axes on one screen are answered as one."""
Kind = Literal["training", "rating", "repeat", "trap"]
Pair = tuple[str, str]
"""A sentence, and the variant that is compared with the base on it."""
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
    pairs: Sequence[Pair],
    training: Sequence[Pair],
    seed: int,
    place: int,
) -> list[PlannedItem]:
    """The items of the rater who is enrolled at ``place``, counted from 0.

    Sentences come in rounds, one for each system that is heard of them, in the order of a row of a
    Williams design: over the raters each comes at every place, and before every other, equally
    often. Which system a sentence has in which round is a Latin square over sentences and raters.
    Half of a rater's pairs have the variant first, the other half the next rater's. No sentence
    comes twice in a row.

    Args:
        mode: what is asked.
        pairs: sentence and variant of what is rated.
        training: the same of what a rater learns by, first.
        seed: the study's.
        place: the rater's.
    """
    variants: dict[str, list[str]] = {}
    for sentence, variant in pairs:
        variants.setdefault(sentence, []).append(variant)
    shuffled = list(variants)
    Random(f"{seed} sentences").shuffle(shuffled)
    order = [shuffled[i] for i in williams_row(len(shuffled), place)]
    sides = [i % 2 == 0 for i in range(len(pairs))]
    Random(f"{seed} {place // 2} sides").shuffle(sides)
    variant_first = {
        pair: side == (place % 2 == 0) for pair, side in zip(pairs, sides, strict=True)
    }
    # What is heard of a sentence: pairs with the base, or each system alone.
    of = {
        sentence: names if mode == "cmos" else [*names, BASE_VARIANT]
        for sentence, names in variants.items()
    }
    axes: Sequence[Axis] = (PREFERENCE,) if mode == "cmos" else AXES
    items: list[PlannedItem] = []
    for turn, axis in enumerate(axes):
        if turn == 0:
            items += _training(mode, axis, training)
        rated = []
        for sentence, system in _rounds(order[turn:] + order[:turn], shuffled, of, place):
            first = variant_first.get((sentence, system), False)
            rated.append(
                _compared(axis, (sentence, system), first)
                if mode == "cmos"
                else _alone(axis, sentence, system)
            )
        items += _with_checks(rated, Random(f"{seed} {place} {axis}"), mode)
    return items


def _rounds(
    order: Sequence[str], known: Sequence[str], of: Mapping[str, Sequence[str]], place: int
) -> Iterator[Pair]:
    """Each sentence with each of its systems, one in a round; no sentence twice in a row.

    Args:
        order: of the sentences, for this rater.
        known: the same sentences, in the same order for all raters.
        of: the systems of each.
        place: the rater's.
    """
    rows = {sentence: row for row, sentence in enumerate(known)}
    last = ""
    for turn in range(max(map(len, of.values()), default=0)):
        # A round begins one sentence later than the last, so that it never begins where that ended.
        part = [s for s in (*order[turn:], *order[:turn]) if turn < len(of[s])]
        if part[0] == last:
            part = [*part[1:], last]
        for sentence in part:
            systems = of[sentence]
            yield sentence, systems[(rows[sentence] + place + turn) % len(systems)]
            last = sentence


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


def _compared(axis: Axis, pair: Pair, variant_first: bool) -> PlannedItem:
    sentence, variant = pair
    clips = ClipName(variant, sentence), ClipName(BASE_VARIANT, sentence)
    first, second = clips if variant_first else clips[::-1]
    return PlannedItem(axis, "rating", sentence, variant, first, second)


def _alone(axis: Axis, sentence: str, system: str) -> PlannedItem:
    return PlannedItem(axis, "rating", sentence, system, ClipName(system, sentence))


def _training(mode: Mode, axis: Axis, pairs: Sequence[Pair]) -> Iterator[PlannedItem]:
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


def clip_names(pairs: Sequence[Pair], training: Sequence[Pair]) -> list[ClipName]:
    """Every clip that any plan has."""
    of_pairs = [
        ClipName(system, sentence)
        for sentence, variant in (*pairs, *training)
        for system in (variant, BASE_VARIANT)
    ]
    dull = [ClipName(ANCHOR, sentence) for sentence, _ in training]
    return list(dict.fromkeys([*of_pairs, *dull, *map(ClipName.beeps, _BEEP_COUNTS)]))
