"""Which clips are held out, where the manifests do not say it."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from jobs.data.manifest import ManifestRow
from jobs.data.spec import SplitSpec


def assign_splits(rows: Sequence[ManifestRow], split: SplitSpec) -> list[ManifestRow]:
    """``rows`` in the same order, each with a split: a share of each group is held out."""
    groups: dict[str | None, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(getattr(row, split.by) if split.by else None, []).append(place)
    held_out: set[int] = set()
    for places in groups.values():
        drawn = sorted(places, key=lambda at: _draw(rows[at], split.seed))
        held_out |= set(drawn[: round(split.validation * len(places))])
    return [
        replace(row, split="validation" if place in held_out else "train")
        for place, row in enumerate(rows)
    ]


def _draw(row: ManifestRow, seed: int) -> str:
    return hashlib.sha256(f"{seed} {row.text} {row.audio}".encode()).hexdigest()
