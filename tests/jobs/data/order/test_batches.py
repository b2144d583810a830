"""The data order: every clip as often as it should be in an epoch, and the same one for ever."""

from collections import Counter

import numpy as np
import pytest

from jobs.data.order.batches import BatchPlan, check_budget
from jobs.data.order.mix import Mix


def flat(plan: BatchPlan, epoch: int) -> list[int]:
    return [clip for step in plan.epoch(epoch) for batch in step for clip in batch]


@pytest.mark.parametrize(
    ("clips", "batch_size", "accumulation", "steps"),
    [(12, 4, 1, 3), (13, 4, 1, 4), (13, 2, 2, 4), (13, 4, 3, 2), (3, 8, 1, 1), (1, 1, 1, 1)],
)
def test_an_epoch_sees_every_clip_once(clips: int, batch_size: int, accumulation: int, steps: int):
    plan = BatchPlan(clips, batch_size, accumulation, seed=3)
    epoch = list(plan.epoch(1))
    assert sorted(flat(plan, 1)) == list(range(clips))
    assert len(epoch) == plan.steps(1) == steps
    assert plan.steps(3) == 3 * steps
    full, last = epoch[:-1], epoch[-1]
    assert all([len(batch) for batch in step] == [batch_size] * accumulation for step in full)
    # The last step may have fewer and smaller micro-batches, but no empty one.
    assert len(last) <= accumulation
    assert all(1 <= len(batch) <= batch_size for batch in last)


def test_the_order_follows_from_seed_and_epoch():
    plan = BatchPlan(20, 4, 1, seed=1)
    assert flat(plan, 2) == flat(BatchPlan(20, 4, 1, seed=1), 2)
    assert flat(plan, 2) != flat(plan, 1)
    assert flat(plan, 2) != flat(BatchPlan(20, 4, 1, seed=2), 2)


def test_the_order_does_not_depend_on_how_it_is_cut():
    assert flat(BatchPlan(20, 4, 1, seed=1), 1) == flat(BatchPlan(20, 3, 2, seed=1), 1)


def test_the_order_is_a_golden_one():
    # Resuming relies on it: NumPy keeps its permutations stable, and so must we.
    assert list(BatchPlan(7, 3, 2, seed=5).epoch(1)) == [((4, 2, 0), (6, 5, 3)), ((1,),)]


LENGTHS = np.random.default_rng(7).integers(20, 500, size=300).tolist()
BUDGET = 1000


def budgeted(seed: int = 1, mix: Mix | None = None) -> BatchPlan:
    return BatchPlan(len(LENGTHS), 8, 2, seed, mix, BUDGET, LENGTHS)


def padded(plan: BatchPlan) -> int:
    """Tokens of an epoch, padding included."""
    batches = (batch for step in plan.epoch(1) for batch in step)
    return sum(len(batch) * max(LENGTHS[clip] for clip in batch) for batch in batches)


def test_no_micro_batch_is_over_its_budget_and_every_clip_is_seen():
    plan = budgeted()
    epoch = list(plan.epoch(1))
    batches = [batch for step in epoch for batch in step]
    assert all(len(batch) * max(LENGTHS[clip] for clip in batch) <= BUDGET for batch in batches)
    assert all(1 <= len(batch) <= 8 for batch in batches)
    assert sorted(flat(plan, 1)) == list(range(len(LENGTHS)))
    assert [len(step) for step in epoch[:-1]] == [2] * (len(epoch) - 1)
    assert max(map(len, batches)) > min(map(len, batches))


def test_clips_of_like_length_share_a_micro_batch():
    plain = BatchPlan(len(LENGTHS), 8, 2, seed=1)
    assert padded(budgeted()) < 1.1 * sum(LENGTHS) < 1.5 * sum(LENGTHS) < padded(plain)


def test_under_a_budget_the_order_is_drawn_too():
    plan = budgeted()
    assert flat(plan, 2) == flat(budgeted(), 2)
    assert flat(plan, 2) != flat(plan, 1)
    assert flat(plan, 2) != flat(budgeted(seed=2), 2)
    # Short and long micro-batches take turns: a step's lengths say nothing about when it comes.
    longest = [max(LENGTHS[c] for c in batch) for step in plan.epoch(1) for batch in step]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.3
    # And who shares one with whom differs from epoch to epoch.
    one, other = ({frozenset(b) for step in plan.epoch(e) for b in step} for e in (1, 2))
    assert len(one & other) < 0.2 * len(one)


def test_steps_are_counted_epoch_by_epoch():
    plan = budgeted()
    counted = [len(list(plan.epoch(epoch))) for epoch in (1, 2, 3)]
    assert plan.steps(3) == sum(counted)
    assert len(set(counted)) > 1  # or a constant would have done


def test_a_mix_repeats_clips_in_the_order_and_under_a_budget():
    groups = tuple(range(200)), tuple(range(200, 300))
    mix = Mix(groups, counts=(200, 250))
    for plan in (BatchPlan(300, 8, 2, 1, mix), budgeted(mix=mix)):
        seen = Counter(flat(plan, 2))
        assert sum(seen.values()) == 450
        assert {seen[clip] for clip in groups[0]} == {1}
        assert {seen[clip] for clip in groups[1]} == {2, 3}
        assert plan.steps(2) == sum(len(list(plan.epoch(epoch))) for epoch in (1, 2))


def test_a_mix_that_repeats_nothing_has_the_order_of_none():
    mix = Mix((tuple(range(0, 20, 2)), tuple(range(1, 20, 2))), counts=(10, 10))
    assert flat(BatchPlan(20, 4, 1, 1, mix), 3) == flat(BatchPlan(20, 4, 1, 1), 3)


def test_a_budgeted_order_is_a_golden_one():
    plan = BatchPlan(7, 3, 2, 5, Mix(((0, 1, 2, 3, 4), (5, 6)), (5, 3)), 12, [2, 3, 4, 5, 6, 7, 8])
    assert list(plan.epoch(1)) == [((2, 4), (6,)), ((1, 3), (5,)), ((0,), (6,))]


def test_a_clip_that_fits_no_micro_batch_is_named():
    check_budget(12, [3, 12], ["a", "b"])
    expected = (
        "a clip must fit into training.batch_tokens, 12, but 2 of 3 training clips are longer, "
        "clip 'c' the longest with 14 tokens: raise batch_tokens to 14"
    )
    with pytest.raises(ValueError, match=expected):
        check_budget(12, [13, 12, 14], ["a", "b", "c"])
