"""Plans are balanced over raters, and hide what checks them."""

from collections import Counter
from itertools import pairwise

import pytest

from orchestrator.listening_room.plans import (
    ANCHOR,
    REPEATS,
    TRAPS,
    clip_names,
    plan,
    williams_row,
)
from orchestrator.verdict.listening.ratings import AXES

PAIRS = [(f"b{i}", "v") for i in range(20)]
TRAINING = [("t0", "v"), ("t1", "v")]


def plans(mode="cmos", pairs=PAIRS, raters=40):
    return [plan(mode, pairs, TRAINING, 7, place) for place in range(raters)]


@pytest.mark.parametrize("count", [4, 5, 8, 9])
def test_a_williams_design_has_each_at_every_place_and_before_every_other(count):
    rows = [williams_row(count, place) for place in range(2 * count if count % 2 else count)]
    repeats = 2 if count % 2 else 1
    for column in zip(*rows, strict=True):
        assert Counter(column) == dict.fromkeys(range(count), repeats)
    before = Counter(pair for row in rows for pair in pairwise(row))
    assert before == {(a, b): repeats for a in range(count) for b in range(count) if a != b}
    assert williams_row(count, 0) == williams_row(count, len(rows))


@pytest.mark.parametrize("mode", ["cmos", "mos"])
@pytest.mark.parametrize("count", [3, 8, 20])
def test_no_sentence_comes_twice_in_a_row(mode, count):
    for items in plans(mode, PAIRS[:count], 12):
        rated = [item for item in items if item.kind != "training"]
        assert all(a.sentence != b.sentence for a, b in pairwise(rated) if a.axis == b.axis)


THREE = [(f"b{i}", v) for i in range(8) for v in ("u", "v", "w")]
UNEVEN = [(f"b{i}", v) for i in range(8) for v in ("u", "v")[: 1 + (i in (0, 5))]]


@pytest.mark.parametrize("mode", ["cmos", "mos"])
@pytest.mark.parametrize("pairs", [THREE, UNEVEN], ids=["three", "uneven"])
def test_each_finalist_is_heard_once_on_each_sentence_and_none_follows_itself(mode, pairs):
    systems = {*pairs} | ({(s, "base") for s, _ in pairs} if mode == "mos" else set())
    for items in plans(mode, pairs, 12):
        rated = [item for item in items if item.kind != "training"]
        assert all(a.sentence != b.sentence for a, b in pairwise(rated) if a.axis == b.axis)
        for axis in {item.axis for item in rated}:
            heard = Counter(
                (i.sentence, i.system) for i in rated if i.kind == "rating" and i.axis == axis
            )
            assert heard == dict.fromkeys(systems, 1)


def test_finalists_take_turns_over_sentences_and_raters():
    by_place = [
        [item.system for item in items if item.kind == "rating"]
        for items in plans(pairs=THREE, raters=48)
    ]
    for of_round in (slice(0, 8), slice(8, 16), slice(16, 24)):
        for systems in by_place:
            counts = Counter(systems[of_round])
            assert max(counts.values()) - min(counts.values()) <= 1
        total = Counter(system for systems in by_place for system in systems[of_round])
        assert total == dict.fromkeys("uvw", 128)
    for items in plans(pairs=THREE, raters=4):
        sides = Counter(i.first.system == "base" for i in items if i.kind == "rating")
        assert sides == {True: 12, False: 12}


def test_sides_are_balanced_in_a_rater_and_over_two():
    for first, second in zip(plans()[::2], plans()[1::2], strict=True):
        sides = [
            {item.sentence: item.first.system for item in items if item.kind == "rating"}
            for items in (first, second)
        ]
        for of in sides:
            assert Counter(of.values()) == {"v": 10, "base": 10}
        assert all(sides[0][s] != sides[1][s] for s, _ in PAIRS)


def test_sides_follow_no_pattern_of_their_order():
    rows = ["".join(i.first.system[0] for i in p if i.kind == "rating") for p in plans()]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("mode", ["cmos", "mos"])
def test_each_pass_asks_one_axis_and_has_traps_and_repeats(mode):
    for items in plans(mode, raters=3):
        axes = [*(item.axis for item in items), None]
        passes = [axis for axis, after in pairwise(axes) if axis != after]
        assert passes == (["preference"] if mode == "cmos" else list(AXES))
        for axis in passes:
            kinds = Counter(item.kind for item in items if item.axis == axis)
            assert kinds["rating"] == (20 if mode == "cmos" else 40)
            assert (kinds["trap"], kinds["repeat"]) == (TRAPS, REPEATS[mode])


def test_a_repeat_comes_later_with_the_sides_turned():
    for items in plans():
        first = {item.sentence: item for item in items if item.kind == "rating"}
        for item in items:
            if item.kind == "repeat":
                assert item.clips == first[item.sentence].clips[::-1]
                assert items.index(item) > items.index(first[item.sentence]) + 2


def test_a_score_is_that_of_the_variant_on_whichever_side():
    for item in plans()[0]:
        if item.kind == "rating":
            assert item.score(2) == (2 if item.second.system == "v" else -2)
        if item.kind == "trap":
            assert item.score(2) == 2


def test_training_has_the_low_anchor_and_beeps_and_comes_first():
    for mode in ("cmos", "mos"):
        items = plans(mode, raters=1)[0]
        assert [item.kind for item in items].index("rating") == 3
        heard = {clip.system for item in items[:3] for clip in item.clips}
        assert heard >= {ANCHOR, "beeps"}
        assert all(item.kind != "training" for item in items[3:])


@pytest.mark.parametrize("mode", ["cmos", "mos"])
def test_every_clip_of_every_plan_is_made(mode):
    heard = {clip for items in plans(mode) for item in items for clip in item.clips}
    assert len(heard) > 40
    assert heard <= set(clip_names(PAIRS, TRAINING))


def test_two_raters_have_different_orders_and_one_has_the_same_again():
    first, second = plans(raters=2)
    assert [i.sentence for i in first] != [i.sentence for i in second]
    assert first == plans(raters=1)[0]
