"""Gradient checkpointing keeps less, and changes no bit: in packs, with dropout, at every stage."""

import pytest
import torch
from torch import Tensor, nn

from jobs.embedded import BASE_DIR, CODEC_DIR
from jobs.families.codec_lm import CodecLM
from jobs.spec.trial import EngineSpec, Precision, TrialSpec
from jobs.training.epochs import EpochLosses
from jobs.training.host import Host
from jobs.training.packed import Rows
from jobs.training.packing import AdapterUse
from jobs.training.recompute import recompute_blocks
from tests.toy import toy_base, toy_clips, toy_trial
from tests.trained_voice import few_clips

pytestmark = pytest.mark.usefixtures("process_group")

PASSES = 5


def trials(stage: int = 0) -> dict[str, TrialSpec]:
    shared = {"zero_stage": stage, "epochs": 40, "learning_rate": 3e-3}
    first = toy_trial(**shared, rank=8, dropout=0.1, batch_size=2, accumulation=2, seed=1)
    if stage:
        return {"first": first}
    second = toy_trial(
        **shared,
        rank=16,
        dropout=0.3,
        targets=("q_proj", "up_proj"),
        layers_to_transform=(1,),
        seed=2,
    )
    return {"first": first, "second": second, "third": toy_trial(**shared, dropout=0.0, seed=3)}


Outcome = tuple[list[tuple[float, ...]], list[dict[str, Tensor]]]


def trained(host: Host, stage: int = 0) -> Outcome:
    """Losses, and weights with the optimiser's moments, of trials that share every pass."""
    names = trials(stage)
    for name, trial in names.items():
        host.attach(name, trial)
    losses = []
    for _ in range(PASSES):
        assert host.step(list(names)) == {}
        for name in names:
            if host.epoch_is_over(name):
                losses.append(numbers(host.end_epoch(name)))
    states = []
    for name in names:
        while host.is_within_step(name):
            host.step([name])
        snapshot = host.snapshot(name)
        states.append({**snapshot.adapter.weights, **snapshot.moments})
        host.detach(name)
    return losses, states


def numbers(losses: EpochLosses) -> tuple[float, ...]:
    return losses.training_loss, losses.validation_loss, *losses.step_losses


def assert_same_bits(one: Outcome, other: Outcome) -> None:
    assert one[0] == other[0]
    for ours, theirs in zip(one[1], other[1], strict=True):
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
        assert any("lora_B" in key and bool(ours[key].any()) for key in ours)


@pytest.mark.parametrize(
    ("stage", "precision"), [(0, "fp32"), (0, "bf16"), (1, "fp32"), (2, "fp32"), (3, "fp32")]
)
def test_what_is_computed_again_has_the_same_bits(stage: int, precision: Precision):
    outcomes = []
    for again in (False, True):
        base = toy_base(hidden=64, layers=3)
        if precision == "bf16":
            base.model.bfloat16()
        engine = EngineSpec(zero_stage=stage, precision=precision, gradient_checkpointing=again)
        outcomes.append(trained(Host(base, toy_clips(count=8), engine), stage))
    assert_same_bits(*outcomes)


@pytest.mark.full
def test_the_shipped_base_trains_the_same():
    outcomes = []
    for again in (False, True):
        base = CodecLM.load(BASE_DIR, CODEC_DIR, None, "fp32")
        host = Host(base, few_clips(base), EngineSpec(gradient_checkpointing=again))
        outcomes.append(trained(host))
    assert_same_bits(*outcomes)


def kept_bytes(again: bool) -> int:
    """What a forward pass allocates and does not free, for its gradients."""
    engine = EngineSpec(gradient_checkpointing=again)
    host = Host(toy_base(hidden=64, layers=6), toy_clips(), engine)
    host.attach("slot", toy_trial())
    rows = host._adapters.rows
    batch = host.base.collate(host._training[:4])
    with (
        rows.owned_by([AdapterUse("slot")]),
        torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile,
    ):
        (loss,) = host.base.loss_sums(host._engine.model, [batch], rows.share)
    assert loss.requires_grad
    return sum(event.self_cpu_memory_usage for event in profile.key_averages())


def test_blocks_keep_their_inputs_alone():
    assert 0 < kept_bytes(again=True) < kept_bytes(again=False) / 3


def test_without_gradients_nothing_is_kept_or_computed_again():
    base = toy_base()
    calls = []
    block = base.model.get_submodule("model.layers.0")
    forward = block.forward
    block.forward = lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs)
    host = Host(base, toy_clips(), EngineSpec(gradient_checkpointing=True))
    host.attach("slot", toy_trial())
    host._validation_sums("slot")
    assert len(calls) == 1
    calls.clear()
    host.step(["slot"])
    assert len(calls) == 2


def test_a_model_without_blocks_is_told_so():
    with pytest.raises(
        ValueError, match=r"GradientCheckpointingLayer.*Linear has none; set it to f"
    ):
        recompute_blocks(nn.Linear(2, 2), Rows())
