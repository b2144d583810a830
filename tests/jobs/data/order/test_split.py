"""Clips are held out by their group's share, and by nothing that may change without meaning it."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from jobs.data.clips import ManifestRow
from jobs.data.order.split import assign_splits, validation_count
from jobs.data.texts import normalise_text
from jobs.spec.data import SplitSpec


def clip(text: str, name: str = "", **more: str) -> ManifestRow:
    audio = f"/data/{name or text.replace(' ', '-')}.wav"
    return ManifestRow(where=f"m.jsonl:{audio}", audio=audio, text=text, **more)


def numbered(count: int, **more: str) -> list[ManifestRow]:
    mark = "-".join(more.values())
    return [clip(f"clip {mark} {i}", **more) for i in range(count)]


def held_out(rows: list[ManifestRow]) -> list[str]:
    return [row.audio for row in rows if row.split == "validation"]


def test_the_published_corpus():
    """3,717 Khmer and 15,658 Korean clips, 90/10 by language (arXiv 2606.26618, section III)."""
    rows = assign_splits(
        [*numbered(3717, language="km"), *numbered(15658, language="ko")],
        SplitSpec(validation=0.1, by="language"),
    )
    assert Counter((row.language, row.split) for row in rows) == {
        ("km", "validation"): 372,
        ("km", "train"): 3345,
        ("ko", "validation"): 1566,
        ("ko", "train"): 14092,
    }


@pytest.mark.parametrize(
    ("clips", "share", "count"),
    [
        (0, 0.1, 0),
        (1, 0.9, 0),
        (2, 0.1, 1),
        (2, 0.9, 1),
        (3, 0.9, 2),
        (15, 0.1, 2),  # 1.5
        (14, 0.1, 1),
        (50, 0.29, 15),  # 14.5, and 14.499999999999998 as a float
        (3717, 0.1, 372),
        (15658, 0.1, 1566),
    ],
)
def test_half_is_rounded_up_and_neither_side_is_empty(clips: int, share: float, count: int):
    assert validation_count(clips, share) == count
    split = SplitSpec(validation=share)
    assert len(held_out(assign_splits(numbered(clips), split))) == count


def test_each_speaker_by_itself_or_all_together():
    rows = [*numbered(30, speaker="ann"), *numbered(10, speaker="bob"), *numbered(10)]
    each = assign_splits(rows, SplitSpec(by="speaker"))
    assert Counter(r.speaker for r in each if r.split == "validation") == {
        "ann": 3,
        "bob": 1,
        None: 1,
    }
    assert len(held_out(assign_splits(rows, SplitSpec(validation=0.3)))) == 15


def test_the_order_of_the_rows_and_other_groups_change_nothing():
    ann, bob = numbered(40, speaker="ann"), numbered(25, speaker="bob")
    split = SplitSpec(validation=0.2, by="speaker")
    alone = held_out(assign_splits(ann, split))
    mixed = [*ann, *bob]
    random.Random(1).shuffle(mixed)
    again = assign_splits(mixed, split)
    assert [row.audio for row in again] == [row.audio for row in mixed]
    assert sorted(a for a in held_out(again) if "ann" in a) == sorted(alone)


def test_another_seed_and_not_another_folder_draws_others():
    rows = numbered(100)
    first = held_out(assign_splits(rows, SplitSpec()))
    assert first != held_out(assign_splits(rows, SplitSpec(seed=1)))
    moved = [replace(row, audio=f"/elsewhere{row.audio}", where="other:1") for row in rows]
    assert held_out(assign_splits(moved, SplitSpec())) == [f"/elsewhere{a}" for a in first]


def test_one_text_is_on_one_side():
    draw = random.Random(0)
    rows = [clip(f"Text {draw.randrange(30)}!", f"{i}") for i in range(90)]
    rows += [clip(f"text {i}", f"plain-{i}") for i in range(30)]
    after = assign_splits(rows, SplitSpec(validation=0.25))
    sides = {normalise_text(row.text): set() for row in after}
    for row in after:
        sides[normalise_text(row.text)].add(row.split)
    assert {len(side) for side in sides.values()} == {1}
    assert len(held_out(after)) == 30


def test_speakers_who_read_the_same_have_the_same_held_out():
    rows = [clip(f"line {i}", f"{s}-{i}", speaker=s) for s in ("ann", "bob") for i in range(50)]
    after = assign_splits(rows, SplitSpec(by="speaker"))
    ann, bob = (
        {row.text for row in after if row.split == "validation" and row.speaker == speaker}
        for speaker in ("ann", "bob")
    )
    assert len(ann) == 5
    assert ann == bob


@pytest.mark.parametrize(
    ("sizes", "share", "count"),
    [
        ((3, 2, 2), 4 / 7, 4),  # whatever is drawn first
        ((5, 5, 5, 4), 0.47, 9),
        ((4, 4), 0.1, 4),  # one side must not be empty
        ((6, 6, 6), 0.5, 6),  # 9 cannot be met: 6 and 12 are as near, the smaller
        ((1, 9), 0.5, 1),
    ],
)
@pytest.mark.parametrize("seed", range(6))
def test_texts_that_are_said_often_are_counted_exactly_where_they_can(
    sizes: tuple[int, ...], share: float, count: int, seed: int
):
    rows = [clip(f"text {t}", f"{t}-{i}") for t, size in enumerate(sizes) for i in range(size)]
    after = assign_splits(rows, SplitSpec(validation=share, seed=seed))
    assert len(held_out(after)) == count
    assert {r.text for r in after if r.split == "train"}.isdisjoint(
        r.text for r in after if r.split == "validation"
    )


def test_a_single_text_is_drawn_clip_by_clip():
    rows = [clip("yes", f"{i}") for i in range(20)]
    first = held_out(assign_splits(rows, SplitSpec()))
    assert len(first) == 2
    assert sorted(held_out(assign_splits(rows[::-1], SplitSpec()))) == sorted(first)


def test_a_split_that_every_row_has_is_kept():
    rows = [replace(row, split="train") for row in numbered(9)]
    assert assign_splits(rows, SplitSpec()) == rows
    some = [*rows[:-1], replace(rows[-1], split=None)]
    assert len(held_out(assign_splits(some, SplitSpec()))) == 1
