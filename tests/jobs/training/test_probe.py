"""What a host measures of itself before its first trial."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from jobs.spec.trial import EngineSpec, TrainingSpec
from jobs.training import probe
from jobs.training.epochs import DivergedError
from jobs.training.host import Host
from jobs.training.packing import LEAST_GAIN, PackingPlan, best_width, reason
from tests.toy import toy_base, toy_clips, toy_trial

pytestmark = pytest.mark.usefixtures("process_group")

TRAINING = TrainingSpec(rank=4, batch_size=4, accumulation=3, dropout=0.1)


class Watched(Host):
    """Notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__(toy_base(), toy_clips(), EngineSpec())
        self.passes: list[tuple[str, ...]] = []
        self.trained: list[TrainingSpec] = []

    def attach(self, slot: str, trial: Any, checkpoint: Any = None) -> None:
        super().attach(slot, trial, checkpoint)
        self.trained.append(trial.training)

    def step(self, slots: Sequence[str]) -> Mapping[str, DivergedError]:
        self.passes.append(tuple(slots))
        return super().step(slots)


@pytest.mark.parametrize(("slots", "sizes"), [(2, [2]), (3, [2, 3]), (4, [2, 4]), (6, [2, 4, 6])])
def test_the_sizes_tried_are_powers_of_two_and_all_slots(slots: int, sizes: list[int]):
    host = Watched()
    plan = probe.measure(host, TRAINING, [2], slots)
    assert plan.slots == slots
    assert sorted(plan.ratios[2]) == sizes
    assert all(ratio > 0 for ratio in plan.ratios[2].values())
    assert {len(each) for each in host.passes} == {1, *sizes}


def test_every_batch_size_that_will_come_is_measured_with_the_adapter_that_will_come():
    host = Watched()
    plan = probe.measure(host, TRAINING, [1, 4], 2)
    assert plan.widths.keys() == plan.ratios.keys() == {1, 4}
    assert {spec.batch_size for spec in host.trained} == {1, 4}
    assert {(spec.rank, spec.dropout) for spec in host.trained} == {(4, 0.1)}
    for size, ratios in plan.ratios.items():
        assert plan.widths[size] == best_width(ratios)
        assert (plan.widths[size] > 1) == (max(ratios.values()) >= LEAST_GAIN)
    assert plan.reason == reason(plan.widths, plan.ratios, plan.difference)


def test_a_pack_is_exact_or_the_plan_says_by_how_much():
    plan = probe.measure(Watched(), TRAINING, [1, 2], 3)
    assert 0 <= plan.difference < 1e-3
    if max(plan.widths.values()) > 1:
        assert ("to the same bits as alone" in plan.reason) == (plan.difference == 0.0)
        assert (f"{plan.difference:.1e}" in plan.reason) == (plan.difference > 0.0)


def test_the_host_is_left_as_it_was():
    host = Watched()
    names = [name for name, _ in host.base.model.named_parameters()]
    probe.measure(host, TRAINING, [2], 3)
    assert [name for name, _ in host.base.model.named_parameters()] == names
    fresh = Watched()
    for each in (host, fresh):
        each.attach("slot", toy_trial())
        each.advance("slot")
    after, expected = host.weights("slot"), fresh.weights("slot")
    assert [name for name in expected if not torch.equal(after[name], expected[name])] == []


class Breaks(Watched):
    """Cannot take two slots in one pass."""

    def step(self, slots: Sequence[str]) -> Mapping[str, DivergedError]:
        if len(slots) > 1:
            raise MemoryError
        return super().step(slots)


def test_also_when_a_pass_fails():
    host = Breaks()
    names = [name for name, _ in host.base.model.named_parameters()]
    with pytest.raises(MemoryError):
        probe.measure(host, TRAINING, [2], 2)
    assert [name for name, _ in host.base.model.named_parameters()] == names


def test_one_slot_needs_no_measurement():
    host = Watched()
    why = "one slot a host: trials run one after another"
    assert probe.measure(host, TRAINING, [1, 4], 1) == PackingPlan(1, {1: 1, 4: 1}, {}, 0.0, why)
    assert host.passes == []


def test_without_a_gpu_the_slots_must_be_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="on a GPU alone: say how many in the spec"):
        probe.measure(Watched(), TRAINING, [2], None)
