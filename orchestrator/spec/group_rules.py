"""Speakers and languages that a spec names, against those that the clips have."""

from collections.abc import Iterator, Sequence

from jobs.data.clips import TargetClip
from jobs.problems import Problem, nearest
from jobs.spec.data import DataSpec, MixSpec


def group_problems(data: DataSpec, clips: Sequence[TargetClip]) -> Iterator[Problem]:
    """What ``data.target`` and ``data.mixes`` ask for and ``clips`` do not have."""
    speakers = {clip.row.speaker for clip in clips if clip.row.speaker is not None}
    if data.target is not None and data.target not in speakers:
        what = f"data.target must be a speaker of the clips, got {data.target!r}"
        yield Problem("data.target", what, _nearest(data.target, speakers, "speaker"))
    training = [clip for clip in clips if clip.row.split == "train"]
    for name, mix in data.mixes.items():
        yield from _mix_problems(f"data.mixes.{name}", mix, training)


def _mix_problems(where: str, mix: MixSpec, training: Sequence[TargetClip]) -> Iterator[Problem]:
    unnamed = [clip.row.where for clip in training if getattr(clip.row, mix.by) is None]
    if unnamed:
        what = f"a mix by {mix.by} needs a {mix.by} for each training clip, but {unnamed[0]} "
        what += "has none" if len(unnamed) == 1 else f"and {len(unnamed) - 1} more have none"
        yield Problem(where, what, f"Add the key {mix.by} to the manifest.")
    groups = {getattr(clip.row, mix.by) for clip in training} - {None}
    for name in mix.shares:
        if name not in groups:
            what = f"shares must name a {mix.by} of the training clips, got {name!r}"
            yield Problem(where, what, _nearest(name, groups, mix.by))


def _nearest(name: str, groups: set[str], kind: str) -> str:
    return nearest(name, groups) if groups else f"The clips name no {kind}."
