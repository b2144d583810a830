"""What a host measures of itself before its first trial."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jobs.families.codec_lm import CodecLM
from jobs.spec.trial import EngineSpec, TrainingSpec
from jobs.training import adapter, probe
from jobs.training.epochs import DivergedError
from jobs.training.host import Host
from jobs.training.packed import Part, add_adapters
from jobs.training.packing import LEAST_GAIN, PackingPlan, best_width, reason
from tests.toy import toy_base, toy_clips, toy_trial

pytestmark = pytest.mark.usefixtures("process_group")

TRAINING = TrainingSpec(rank=4, batch_size=4, accumulation=3, dropout=0.1)


class Watched(Host):
    """Notes what is asked of it."""

    def __init__(self, base: CodecLM | None = None) -> None:
        super().__init__(base or toy_base(), toy_clips(), EngineSpec())
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
    # And with the smallest, in the pack that is held against each of its adapters alone.
    assert {(spec.rank, spec.dropout) for spec in host.trained} == {(4, 0.1), (2, 0.1)}
    for size, ratios in plan.ratios.items():
        assert plan.widths[size] == best_width(ratios)
        assert (plan.widths[size] > 1) == (max(ratios.values()) >= LEAST_GAIN)
    assert plan.reason == reason(plan.widths, plan.ratios, plan.difference)  # rows are even


def test_a_pack_is_exact_or_the_plan_says_by_how_much():
    plan = probe.measure(Watched(), TRAINING, [1, 2], 3)
    assert 0 <= plan.difference < 1e-3
    if max(plan.widths.values()) > 1:
        assert ("to the same bits as alone" in plan.reason) == (plan.difference == 0.0)
        assert (f"{plan.difference:.1e}" in plan.reason) == (plan.difference > 0.0)


class Backward(torch.autograd.Function):
    """Gradients that depend on how many rows they have."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * (1 + 1e-6 * gradient.shape[:-1].numel())


class Dependent(nn.Module):
    """An activation whose values depend on what shares the pass, in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(x)
        if self.how == "rows":
            return x * (1 + 1e-6 * x.shape[:-1].numel())
        if self.how == "backward":
            return Backward.apply(x)
        # As the end of a tensor is by torch's own where rows do not fill its vectors. Nobody looks
        # at what comes of the very last row: it may be of a batch's padding.
        factors = torch.ones(*x.shape[:-1], 1)
        factors.view(-1)[-16:] = 1 + 1e-6
        return x * factors


@pytest.mark.parametrize("how", ["rows", "backward", "place"])
def test_a_layer_that_depends_on_what_shares_the_pass_is_found(how: str):
    base = toy_base()
    base.model.model.layers[0].mlp.act_fn = Dependent(how)
    plan = probe.measure(Watched(base), TRAINING, [2], 2)
    assert plan.difference > 0


def test_products_of_the_smallest_adapter_that_depend_on_where_they_lie_are_found(
    monkeypatch: pytest.MonkeyPatch,
):
    """As products of views do that begin at no multiple of a cache line."""

    def add(result: Tensor, x: Tensor, parts: Sequence[Part], weights: Any) -> Tensor:
        factors = torch.ones(*x.shape[:-1], 1)
        for part, (a, _) in zip(parts, weights, strict=True):
            if len(a) == 2 and part.start % 2:
                factors.view(-1)[part.start : part.stop] = 1 + 1e-6
        return add_adapters(result, x, parts, weights) * factors

    monkeypatch.setattr(adapter, "add_adapters", add)
    # Of one clip more or less: that one slot begins at an odd row.
    plans = [probe.measure(Watched(), TRAINING, [size], 2) for size in (1, 2, 3)]
    assert max(plan.difference for plan in plans) > 0


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
