"""The data order: every clip once an epoch, and the same one for ever."""

import pytest

from jobs.data.batches import BatchPlan


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
    assert len(epoch) == plan.steps_per_epoch == steps
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
