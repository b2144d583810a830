"""The split into training and validation: a share of each group, whatever the row order."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from jobs.data.clips import ManifestRow
from jobs.data.texts import normalise_text
from jobs.spec.data import SplitSpec


def assign_splits(rows: Sequence[ManifestRow], split: SplitSpec) -> list[ManifestRow]:
    """``rows`` in their order, each with its split; where every row has one, they are kept.

    Of a group of n clips, ``validation * n`` are held out, half rounded up; of two or more, at
    least one, and not all. Clips of one text, as :func:`~jobs.data.texts.normalise_text` reads
    it, stay together, and the number is met all the same where some choice of texts meets it, else
    as nearly as one does. A text's place in the draw is its own, so that speakers who read the
    same sentences have the same ones held out. Only a group that says a single text is drawn clip
    by clip.
    """
    if all(row.split is not None for row in rows):
        return list(rows)
    groups: defaultdict[str | None, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, split.by) if split.by else None].append(row)
    held_out = {id(row) for group in groups.values() for row in _held_out(group, split)}
    return [replace(row, split="validation" if id(row) in held_out else "train") for row in rows]


def validation_count(clips: int, share: float) -> int:
    """How many of ``clips`` are held out: ``share`` of them as it is written, half rounded up."""
    if clips < 2:
        return 0
    # As a decimal: 0.29 of 50 are 14.5, and in binary a little less.
    rounded = int(Fraction(str(share)) * clips + Fraction(1, 2))
    return min(max(rounded, 1), clips - 1)


def share_that_holds_out(
    rows: Sequence[ManifestRow], split: SplitSpec, wanted: int, speaker: str | None
) -> float | None:
    """A share, in tenths from 0.2, by which ``wanted`` clips of a speaker would be held out.

    ``rows`` are those without a split of their own. None where no share up to a half does.
    """
    open_rows = [replace(row, split=None) for row in rows]
    for tenths in range(2, 6):
        drawn = assign_splits(open_rows, split.model_copy(update={"validation": tenths / 10}))
        if sum(r.split == "validation" and r.speaker == speaker for r in drawn) >= wanted:
            return tenths / 10
    return None


def _held_out(group: Sequence[ManifestRow], split: SplitSpec) -> list[ManifestRow]:
    def draw(name: str) -> str:
        return hashlib.sha256(f"{split.seed}\n{name}".encode()).hexdigest()

    texts: defaultdict[str, list[ManifestRow]] = defaultdict(list)
    for row in group:
        texts[normalise_text(row.text)].append(row)
    units = [texts[text] for text in sorted(texts, key=draw)]
    if len(units) == 1:
        # By the file's name, so that moving the folder moves no clip; by its place after that.
        drawn = sorted(group, key=lambda row: (draw(row.audio.rpartition("/")[2]), row.audio))
        units = [[row] for row in drawn]
    chosen = _choose([len(unit) for unit in units], validation_count(len(group), split.validation))
    return [row for index in chosen for row in units[index]]


def _choose(sizes: Sequence[int], wanted: int) -> list[int]:
    """Indices of units whose sizes sum to ``wanted``, early ones first, or as nearly as can be."""
    chosen, missing = [], wanted
    for index, size in enumerate(sizes):
        if size <= missing:
            chosen.append(index)
            missing -= size
    return chosen if missing == 0 else _choose_exactly(sizes, _nearest_sum(sizes, wanted))


def _nearest_sum(sizes: Sequence[int], wanted: int) -> int:
    """The sum nearest to ``wanted`` that some units have, the smaller of two; not none, not all."""
    reachable, total = 1, sum(sizes)
    for size in sizes:
        reachable |= reachable << size  # bit n: some of the units so far sum to n
    sums = (n for n in range(1, total) if reachable >> n & 1)
    return min(sums, key=lambda n: (abs(n - wanted), n), default=0)


def _choose_exactly(sizes: Sequence[int], total: int) -> list[int]:
    """Indices of units that sum to ``total``, which some do: each as early as that allows."""
    mask = (1 << (total + 1)) - 1
    after = [1]  # after[-1 - i], bit n: some of the units behind the i-th sum to n
    for size in reversed(sizes):
        after.append((after[-1] | after[-1] << size) & mask)
    chosen, missing = [], total
    for index, size in enumerate(sizes):
        rest = after[len(sizes) - 1 - index]
        if size <= missing and rest >> (missing - size) & 1:
            chosen.append(index)
            missing -= size
    return chosen
