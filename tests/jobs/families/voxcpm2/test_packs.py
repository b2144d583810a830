"""Adapters of the family that share passes are those that train alone; what a host reports."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jobs.families.base import FrozenBase
from jobs.families.voxcpm2.base import load
from jobs.spec.trial import EngineSpec, TrainingSpec, TrialSpec
from jobs.training.adapter import Adapters, PackedLinear
from jobs.training.epochs import EpochLosses
from jobs.training.host import Host
from tests.tiny_voxcpm2 import random_clips

TRAININGS = {
    "all": TrainingSpec(rank=4, dit_rank=2, dropout=0.1, batch_size=2, epochs=2),
    "flow": TrainingSpec(
        rank=2, batch_size=3, epochs=2, targets=("dit.attention", "projections"), stop_weight=0.0
    ),
    "models": TrainingSpec(rank=3, dropout=0.1, batch_size=1, epochs=2, targets=("lm.attention",)),
}


@pytest.fixture(scope="module")
def host(tiny_voxcpm2_source: Path, process_group: None) -> Host:
    clips = random_clips((5, 9, 6, 4, 7, 5), ("km", "ko"))
    clips[4:] = [replace(clip, split="validation") for clip in clips[4:]]
    base: FrozenBase = load(tiny_voxcpm2_source, tiny_voxcpm2_source, None, "fp32")
    return Host(base, clips, EngineSpec())


def attach(host: Host, name: str) -> None:
    trial = TrialSpec(
        family="voxcpm2",
        base_digest="b",
        data_digest="d",
        training=TRAININGS[name],
        engine=EngineSpec(),
    )
    host.attach(name, trial)


def trained(host: Host, names: list[str]) -> dict[str, tuple[dict[str, Tensor], EpochLosses]]:
    """An epoch of each, those that have not ended it together in every pass."""
    for name in names:
        attach(host, name)
    try:
        while under_way := [name for name in names if not host.epoch_is_over(name)]:
            assert not host.step(under_way)
        return {name: (host.weights(name), host.end_epoch(name)) for name in names}
    finally:
        for name in names:
            host.detach(name)


def trained_with_moments(host: Host) -> tuple[dict[str, Tensor], dict[str, Tensor], EpochLosses]:
    """An epoch of the largest: its weights, its optimiser's moments, its losses."""
    attach(host, "all")
    try:
        while not host.epoch_is_over("all"):
            assert not host.step(["all"])
        taken = host.snapshot("all")
        return host.weights("all"), dict(taken.moments), host.end_epoch("all")
    finally:
        host.detach("all")


def test_in_a_pack_each_trains_as_alone(host: Host):
    """Rows of the diffusion decoder included, whose shares are others than those of the models."""
    together = trained(host, list(TRAININGS))
    for name in TRAININGS:
        weights, losses = trained(host, [name])[name]
        packed_weights, packed = together[name]
        assert packed.validation_loss == losses.validation_loss
        assert packed.step_losses == losses.step_losses
        assert packed.validation_figures == losses.validation_figures
        assert weights.keys() == packed_weights.keys()
        moved = {key for key, weight in weights.items() if "lora_B" in key and weight.any()}
        assert len(moved) == len(weights) // 2
        assert [k for k, w in weights.items() if not torch.equal(packed_weights[k], w)] == []


def test_the_first_validation_is_the_bases_to_the_bit(host: Host):
    attach(host, "all")
    try:
        assert host._validation_sums("all") == host._validation_sums(None)
    finally:
        host.detach("all")


def test_an_epoch_reports_parts_languages_and_the_difference_to_the_base(host: Host):
    _, losses = trained(host, ["all"])["all"]
    figures = losses.validation_figures
    assert set(losses.training_parts) == {"loss_diff", "loss_stop"}
    assert sum(losses.training_parts.values()) == pytest.approx(losses.training_loss)
    total = figures["loss_diff"] + figures["loss_stop"]
    assert total == pytest.approx(losses.validation_loss)
    assert set(losses.group_losses) == {"language/km", "language/ko"}
    assert {"to_base", "to_base_se", "to_base.language.km", "to_base.language.ko"} <= set(figures)
    assert figures["to_base"] != 0
    by_clip = [figures[f"to_base.language.{language}"] for language in ("km", "ko")]
    assert sum(by_clip) / 2 == pytest.approx(figures["to_base"])
    clips = losses.clip_losses
    assert list(clips) == ["00004", "00005"]
    differences = [own - of_base for own, of_base in clips.values()]
    assert sum(differences) / 2 == pytest.approx(figures["to_base"])
    assert {of_base for _, of_base in clips.values()} == {
        base / len(clip.patches)
        for base, clip in zip(host._base_sums, host._validation, strict=True)
    }
    # Noise of training, ten shuffled batches: another number, beside the one that ranks.
    assert figures["official_style"] != losses.validation_loss


def test_training_goes_on_where_a_checkpoint_left_it(host: Host):
    """Noise follows from the step: nothing of torch's global generator takes part."""
    attach(host, "models")
    torch.manual_seed(1)
    host.step(["models"])
    first = host.weights("models")
    host.detach("models")
    attach(host, "models")
    torch.manual_seed(2)
    host.step(["models"])
    again = host.weights("models")
    host.detach("models")
    assert [key for key in first if not torch.equal(first[key], again[key])] == []


def test_a_base_in_bf16_trains_fp32_adapters(tiny_voxcpm2_source: Path, process_group: None):
    base = load(tiny_voxcpm2_source, tiny_voxcpm2_source, None, "bf16")
    assert {p.dtype for p in base.model.parameters()} == {torch.bfloat16}
    assert base.model.base_lm.rope_emb.cos_cached.dtype == torch.float32
    clips = random_clips((5, 6, 4))
    host = Host(base, [*clips[:2], replace(clips[2], split="validation")], EngineSpec())
    weights, losses = trained(host, ["all"])["all"]
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert all(weight.isfinite().all() for weight in weights.values())
    assert losses.validation_loss > 0


@pytest.mark.full
def test_a_base_that_is_cut_up_trains_the_same(host: Host, tiny_voxcpm2_source: Path):
    """But for the order in which gradients are added up.

    So gradients agree to a share of the largest of their tensor, and with them Adam's first
    moments, which are linear in them. A weight does not: Adam divides a gradient by its own size,
    so that one near its epsilon of 1e-8 moves by any part of the learning rate for a rounding.
    """
    whole, whole_moments, losses = trained_with_moments(host)
    clips = random_clips((5, 9, 6, 4, 7, 5), ("km", "ko"))
    clips[4:] = [replace(clip, split="validation") for clip in clips[4:]]
    base = load(tiny_voxcpm2_source, tiny_voxcpm2_source, None, "fp32")
    cut = Host(base, clips, EngineSpec(zero_stage=3))
    weights, moments, cut_losses = trained_with_moments(cut)
    assert cut_losses.step_losses == pytest.approx(losses.step_losses, rel=1e-6)
    assert cut_losses.validation_loss == pytest.approx(losses.validation_loss, rel=1e-6)
    compared = 0
    for key, moment in whole_moments.items():
        if key.startswith("exp_avg/"):
            largest = moment.abs().max().item()
            torch.testing.assert_close(moments[key], moment, rtol=0, atol=1e-5 * largest)
            compared += largest > 0
    assert compared == len(whole)
    apart = sum((weights[key] - weight).square().sum() for key, weight in whole.items())
    moved = sum(weight.square().sum() for key, weight in whole.items() if "lora_B" in key)
    assert (apart / moved).sqrt() < 1e-4


@pytest.mark.parametrize("rslora", [False, True])
def test_a_rank_of_its_own_leaves_the_decoder_as_strong(host: Host, rslora: bool):
    adapters = Adapters(host.base)
    spec = TrainingSpec(rank=8, dit_rank=2, alpha=8, rslora=rslora, targets=("q_proj",))
    adapters.add("ranks", spec)
    try:
        found = {
            name.split(".")[0]: (module.r["ranks"], module.scaling["ranks"])
            for name, module in host.base.model.named_modules()
            if isinstance(module, PackedLinear) and "ranks" in module.lora_A
        }
    finally:
        adapters.remove("ranks")
    strength = pytest.approx(8 / 8**0.5 if rslora else 1.0)
    assert found == {
        "base_lm": (8, strength),
        "residual_lm": (8, strength),
        "feat_decoder": (2, strength),
    }
