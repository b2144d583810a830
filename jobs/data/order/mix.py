"""Groups of clips by speaker or language, and how often an epoch has the clips of each.

Validation is never mixed: its clips are what they are, whatever the training sees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, localcontext
from fractions import Fraction
from math import ceil
from typing import get_args

import numpy as np

from jobs.clips import PreparedClip
from jobs.spec.data import GroupKey, MixSpec

_DIGITS = 60
"""Of the roots that a temperature asks for; far more than a count of clips has."""
_LEAST = Decimal("1e-30")
"""What is nearer to a whole number than this is that number."""


def epoch_counts(mix: MixSpec, clips: Mapping[str, int]) -> dict[str, int]:
    """How many clips of each group an epoch has, by the group's name in order.

    The group that is largest for its share is seen once; the others as often as brings them to
    theirs: ``ceil(share / its share * its clips)``, in exact arithmetic.

    >>> shares = MixSpec(by="language", shares={"km": 0.4, "ko": 0.6})
    >>> epoch_counts(shares, {"km": 3345, "ko": 14092})
    {'km': 9395, 'ko': 14092}

    Args:
        mix: shares, or a temperature T for shares that go as ``clips ** (1 / T)``: the multilingual
            sampling of Arivazhagan et al. (2019), "Massively Multilingual Neural Machine
            Translation in the Wild".
        clips: how many there are of each group, at least one.

    Raises:
        ValueError: a share is of a group without clips.
    """
    if unknown := sorted(mix.shares.keys() - clips.keys()):
        raise ValueError(
            f"a mix has shares of groups that there are clips of, but no training clip has "
            f"{mix.by} {unknown[0]!r}, only {', '.join(map(repr, sorted(clips)))}: "
            "correct the name, or drop the share"
        )
    if mix.temperature is not None:
        # The largest group is the largest for its share, too, since the share of a clip falls.
        largest = max(clips.values())
        counts = {}
        with localcontext(prec=_DIGITS):
            for name, number in sorted(clips.items()):
                share = (Decimal(number) / largest) ** (1 / Decimal(repr(mix.temperature)))
                wanted = (share * largest).quantize(_LEAST)
                counts[name] = int(wanted.to_integral_value(ROUND_CEILING))
        return counts
    # What was written: 0.4 is two fifths, and not the nearest binary number.
    shares = {name: Fraction(repr(share)) for name, share in sorted(mix.shares.items())}
    scale = max(clips[name] / share for name, share in shares.items())
    return {name: ceil(share * scale) for name, share in shares.items()}


@dataclass(frozen=True)
class Mix:
    """Training clips by group, and how many of each group's an epoch has."""

    groups: tuple[tuple[int, ...], ...]
    """Indices of the clips of each group."""
    counts: tuple[int, ...]

    @property
    def size(self) -> int:
        """Clips of an epoch, repeats counted."""
        return sum(self.counts)

    def epoch(self, seed: int, epoch: int) -> list[int]:
        """The clips of ``epoch`` (1-based), in order, those that are repeated several times.

        Every clip of a group is there as often as goes into its count evenly. The rest is drawn
        without repeats, and goes on through the group from epoch to epoch, so that after any
        number of them no clip was seen more than once more than another of its group.
        """
        clips: list[int] = []
        for place, (group, count) in enumerate(zip(self.groups, self.counts, strict=True)):
            often, rest = divmod(count, len(group))
            order = np.random.default_rng([seed, 0, place]).permutation(len(group))
            first = (epoch - 1) * rest
            drawn = (order[at % len(group)] for at in range(first, first + rest))
            clips += [*group] * often + [group[at] for at in drawn]
        return sorted(clips)


def apply_mix(mix: MixSpec, clips: Sequence[PreparedClip]) -> Mix:
    """Apply ``mix`` to these training clips.

    Raises:
        ValueError: a clip does not say what the mix tells clips apart by, or a share is of a group
            without clips.
    """
    groups: dict[str, list[int]] = {}
    for index, clip in enumerate(clips):
        name: str | None = getattr(clip, mix.by)
        if name is None:
            raise ValueError(
                f"a mix by {mix.by} needs the {mix.by} of every training clip, but clip "
                f"{clip.id!r} has none: name it in the manifest"
            )
        groups.setdefault(name, []).append(index)
    counts = epoch_counts(mix, {name: len(indices) for name, indices in groups.items()})
    return Mix(tuple(tuple(groups[name]) for name in counts), tuple(counts.values()))


def group_indices(clips: Sequence[PreparedClip]) -> dict[str, tuple[int, ...]]:
    """Indices of the clips of each group, by names such as ``language/km`` and ``speaker/slt``.

    Of the languages, and of the speakers, only where the clips name at least two.
    """
    found: dict[str, tuple[int, ...]] = {}
    for by in sorted(get_args(GroupKey)):
        names: list[str | None] = [getattr(clip, by) for clip in clips]
        named = sorted({name for name in names if name is not None})
        if len(named) > 1:
            for name in named:
                found[f"{by}/{name}"] = tuple(i for i, own in enumerate(names) if own == name)
    return found
