"""Where a slot is in its data; a turn counts once it was taken."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from jobs.data.order.batches import BatchPlan
from jobs.families.layout import Example
from jobs.spec.trial import TrainingSpec
from jobs.training.epochs import SlotState
from jobs.training.slot import Slot, Turn, learning_rate, stream_seed

pytestmark = pytest.mark.usefixtures("process_group")

EXAMPLES = [Example(input_ids=[i], labels=[i]) for i in range(7)]
SPEC = TrainingSpec(batch_size=2, accumulation=2, epochs=3, seed=5, schedule="linear")
"""Seven clips: a step of two micro-batches, and one of two, the last of one clip."""


def new_slot(spec: TrainingSpec = SPEC) -> Slot:
    return Slot(spec, EXAMPLES, torch.device("cpu"))


def draw(slot: Slot) -> Tensor:
    """What a pass would draw for its dropout."""
    return torch.rand(3, generator=slot.dropout)


def take(slot: Slot, turn: Turn, loss: float = 2.0, seconds: float = 0.25) -> None:
    """As a host does: ``targets`` is one a clip."""
    total = slot.step_total(torch.tensor(loss)).item()
    slot.record_turn(turn, torch.tensor(loss), [total], len(turn.step_examples), seconds)


def ids(turn: Turn) -> list[int]:
    return [example.input_ids[0] for example in turn.examples]


def test_turns_follow_the_plan_and_the_schedule():
    slot = new_slot()
    plan = BatchPlan(7, SPEC.batch_size, SPEC.accumulation, SPEC.seed)
    assert plan.steps(1) == 2
    for epoch in (1, 2):
        for position, micro_batches in enumerate(plan.epoch(epoch)):
            step = 2 * (epoch - 1) + position
            for micro, batch in enumerate(micro_batches):
                assert not slot.epoch_is_over
                turn = slot.turn()
                assert ids(turn) == list(batch)
                assert turn.weight == 1.0
                assert len(turn.step_examples) == sum(map(len, micro_batches))
                assert turn.step.last == (micro == len(micro_batches) - 1)
                assert turn.step.learning_rate == learning_rate(SPEC, step, 2 * SPEC.epochs)
                take(slot, turn)
        assert slot.epoch_is_over
        assert slot.end_epoch(1.0, {}, seconds=0.0).epoch == epoch
    assert slot.state == SlotState(seed=5, epoch=2, steps=4)


def test_a_turn_is_the_same_until_it_is_taken():
    slot, other = new_slot(), new_slot()
    for _ in range(3):
        first, drawn = slot.turn(), draw(slot)
        again = slot.turn()
        assert again == first
        assert torch.equal(draw(slot), drawn)
        expected = other.turn()
        assert torch.equal(draw(other), drawn)
        take(slot, again)
        take(other, expected)


def test_the_micro_batches_of_a_step_draw_from_one_stream():
    slot = new_slot()
    stream = torch.Generator().manual_seed(stream_seed(5, "step 0, rank 0"))
    for _ in range(2):
        turn = slot.turn()
        assert torch.equal(draw(slot), torch.rand(3, generator=stream))
        take(slot, turn)
    slot.turn()
    stream = torch.Generator().manual_seed(stream_seed(5, "step 1, rank 0"))
    assert torch.equal(draw(slot), torch.rand(3, generator=stream))


def test_an_epoch_adds_up_losses_targets_and_seconds():
    slot = new_slot()
    for loss in (3.0, 5.0, 1.0, 5.0):
        take(slot, slot.turn(), loss)
    losses = slot.end_epoch(1.5, {"speaker/ann": 1.25}, seconds=0.5)
    assert losses.step_losses == (8.0 / 4, 6.0 / 3)
    assert losses.training_loss == 14.0 / 7
    assert losses.validation_loss == 1.5
    assert losses.group_losses == {"speaker/ann": 1.25}
    assert losses.learning_rates == tuple(learning_rate(SPEC, step, 6) for step in (0, 1))
    assert losses.seconds == 4 * 0.25 + 0.5


def test_resumed_a_slot_goes_on_as_the_one_that_was_not_interrupted():
    whole = new_slot()
    for _ in range(4):
        take(whole, whole.turn())
    whole.end_epoch(1.0, {}, seconds=0.0)
    resumed = new_slot()
    take(resumed, resumed.turn())
    resumed.resume(SlotState(seed=5, epoch=1, steps=2))
    assert resumed.turn() == whole.turn()
    assert torch.equal(draw(resumed), draw(whole))


@pytest.mark.parametrize("taken", range(5))
def test_between_any_two_steps_a_slot_can_be_left_and_taken_up(taken: int):
    """Of an epoch of two steps, each of two micro-batches; the last time after its end."""
    whole = new_slot()
    for _ in range(4):
        take(whole, whole.turn(), loss=3.0)
    whole.end_epoch(1.0, {}, seconds=0.0)
    for number in range(taken):
        take(whole, whole.turn(), loss=float(number))
    if taken % 2:
        with pytest.raises(RuntimeError, match="is under way: 1 of 2 micro-batches are taken"):
            _ = whole.state
        return
    resumed = new_slot()
    take(resumed, resumed.turn())
    resumed.resume(whole.state)
    assert resumed.state == whole.state
    for number in range(taken, 4):
        assert not resumed.epoch_is_over
        assert resumed.turn() == whole.turn()
        assert torch.equal(draw(resumed), draw(whole))
        for slot in (resumed, whole):
            take(slot, slot.turn(), loss=float(number))
    assert resumed.epoch_is_over
    one, other = (slot.end_epoch(1.0, {}, seconds=0.5) for slot in (resumed, whole))
    assert replace(one, finished_at=0.0) == replace(other, finished_at=0.0)
    assert one.step_losses == (1.0 / 4, 5.0 / 3)
    assert one.seconds == 4 * 0.25 + 0.5


def test_a_turn_that_was_only_looked_at_is_not_under_way():
    slot = new_slot()
    assert slot.state == SlotState(seed=5, epoch=0, steps=0)
    slot.turn()
    assert slot.state.steps == 0


@pytest.mark.parametrize("budget", [None, 2])
def test_steps_go_through_the_clips_as_epochs_do(budget: int | None):
    """Turn for turn; a checkpoint every three steps moves none of them, nor does resuming there."""
    common = {"batch_size": 2, "batch_tokens": budget, "accumulation": 2, "seed": 5}
    by_epochs = new_slot(TrainingSpec(**common, epochs=6))
    by_steps = new_slot(TrainingSpec(**common, steps=12, checkpoint_steps=3))
    for step in range(12):
        while True:
            one, other = by_epochs.turn(), by_steps.turn()
            assert ids(one) == ids(other)
            assert one.step == other.step
            assert torch.equal(draw(by_epochs), draw(by_steps))
            take(by_epochs, one)
            take(by_steps, other)
            if one.step.last:
                break
        if by_epochs.epoch_is_over:
            by_epochs.end_epoch(1.0, {}, seconds=0.0)
        assert by_steps.epoch_is_over == (step % 3 == 2)
        if by_steps.epoch_is_over:
            losses = by_steps.end_epoch(1.0, {}, seconds=0.0)
            assert (losses.epoch, len(losses.step_losses)) == ((step + 1) // 3, 3)
            state = by_steps.state
            by_steps = new_slot(by_steps.training)
            by_steps.resume(state)
    assert by_epochs.state.steps == by_steps.state.steps == 12


def test_the_horizon_of_a_training_in_steps_is_its_last_step():
    spec = TrainingSpec(
        batch_size=2, schedule="cosine", warmup_steps=2, steps=8, checkpoint_steps=4
    )
    slot = new_slot(spec)
    rates = []
    for _ in range(spec.checkpoints):
        while not slot.epoch_is_over:
            turn = slot.turn()
            rates.append(turn.step.learning_rate)
            take(slot, turn)
        slot.end_epoch(1.0, {}, seconds=0.0)
    assert rates == [learning_rate(spec, step, 8) for step in range(8)]
    assert rates[1] == spec.learning_rate > rates[-1] > 0 == learning_rate(spec, 8, 8)


def test_the_horizon_counts_the_steps_that_epochs_really_have():
    """Under a token budget epochs differ in steps, and a schedule ends at the last of all."""
    spec = SPEC.model_copy(update={"batch_tokens": 100, "batch_size": 8, "accumulation": 1})
    examples = [Example(input_ids=[0] * length, labels=[0] * length) for length in LENGTHS]
    slot = Slot(spec, examples, torch.device("cpu"))
    plan = BatchPlan(len(examples), 8, 1, spec.seed, None, 100, LENGTHS)
    counted = [len(list(plan.epoch(epoch))) for epoch in (1, 2, 3)]
    assert len(set(counted)) > 1
    rates = []
    for _ in range(3):
        while not slot.epoch_is_over:
            rates.append(slot.turn().step.learning_rate)
            take(slot, slot.turn())
        slot.end_epoch(1.0, {}, seconds=0.0)
    total = sum(counted)
    assert rates == [learning_rate(spec, step, total) for step in range(total)]
    assert rates[-1] == pytest.approx(spec.learning_rate / total)


LENGTHS = [3 + 7 * number % 31 for number in range(90)]


def test_streams_differ_by_use_and_seed():
    uses = [(0, "adapter"), (1, "adapter"), (0, "step 0, rank 0"), (0, "step 0, rank 1")]
    assert len({stream_seed(seed, use) for seed, use in uses}) == len(uses)
    assert all(0 <= stream_seed(seed, use) < 2**63 for seed, use in uses)
