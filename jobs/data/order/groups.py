"""Clips by language and by speaker."""

from collections.abc import Sequence
from typing import Protocol, get_args

from jobs.spec.data import GroupKey


class Grouped(Protocol):
    """A clip that says whose it is and what it is spoken in."""

    @property
    def id(self) -> str: ...
    @property
    def speaker(self) -> str | None: ...
    @property
    def language(self) -> str | None: ...


def group_of(clip: Grouped, by: GroupKey) -> str | None:
    """The clip's speaker or language."""
    return clip.speaker if by == "speaker" else clip.language


def group_indices(clips: Sequence[Grouped]) -> dict[str, tuple[int, ...]]:
    """Indices of the clips of each group, by names such as ``language/km`` and ``speaker/slt``.

    Of the languages, and of the speakers, only where the clips name at least two.
    """
    found: dict[str, tuple[int, ...]] = {}
    for by in sorted(get_args(GroupKey)):
        names = [group_of(clip, by) for clip in clips]
        named = sorted({name for name in names if name is not None})
        if len(named) > 1:
            for name in named:
                found[f"{by}/{name}"] = tuple(i for i, own in enumerate(names) if own == name)
    return found
