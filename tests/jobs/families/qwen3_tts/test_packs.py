"""Adapters of the family that share passes are those that train alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jobs.clips import PreparedClip
from jobs.families.qwen3_tts.base import load
from jobs.spec.trial import EngineSpec, TrainingSpec, TrialSpec
from jobs.training import packing
from jobs.training.host import Host
from jobs.training.probe import measure
from tests.tiny_qwen3_tts import random_clips, write_tiny_qwen3_tts

TRAININGS = {
    "all": TrainingSpec(rank=4, dropout=0.1, batch_size=2, epochs=2),
    "share": TrainingSpec(
        rank=2,
        dropout=0.1,
        batch_size=3,
        epochs=2,
        acoustic_share=0.4,
        targets=("talker.attention", "predictor.mlp"),
    ),
    "first codebook": TrainingSpec(rank=3, batch_size=1, epochs=2, acoustic_weight=0.0),
}


@pytest.fixture(scope="module")
def data(recording_path: Path) -> list[PreparedClip]:
    made = random_clips(recording_path, (5, 9, 6, 4, 7))
    return [*made[:-1], replace(made[-1], split="validation")]


@pytest.fixture(scope="module")
def host(tiny_source: Path, data: list[PreparedClip], process_group: None) -> Host:
    return Host(load(tiny_source, tiny_source, None, "fp32"), data, EngineSpec())


def trained(host: Host, names: list[str]) -> dict[str, tuple[dict[str, Tensor], float]]:
    """An epoch of each, those that have not ended it together in every pass."""
    for name in names:
        trial = TrialSpec(
            family="qwen3_tts",
            base_digest="b",
            data_digest="d",
            training=TRAININGS[name],
            engine=EngineSpec(),
        )
        host.attach(name, trial)
    try:
        while under_way := [name for name in names if not host.epoch_is_over(name)]:
            assert not host.step(under_way)
        return {name: (host.weights(name), host.end_epoch(name).validation_loss) for name in names}
    finally:
        for name in names:
            host.detach(name)


def test_in_a_pack_each_trains_as_alone(host: Host):
    together = trained(host, list(TRAININGS))
    for name in TRAININGS:
        weights, loss = trained(host, [name])[name]
        packed_weights, packed_loss = together[name]
        assert packed_loss == loss
        assert weights.keys() == packed_weights.keys()
        moved = False
        for key, weight in weights.items():
            assert torch.equal(packed_weights[key], weight)
            moved = moved or ("lora_B" in key and bool(weight.abs().sum() > 0))
        assert moved


def test_the_code_predictor_is_left_alone_where_it_has_no_loss(host: Host):
    weights, _ = trained(host, ["first codebook"])["first codebook"]
    touched = {key for key, weight in weights.items() if "lora_B" in key and weight.abs().sum() > 0}
    assert touched
    assert not any("code_predictor" in key for key in touched)


def test_blocks_of_both_stacks_that_are_computed_again_train_the_same(
    host: Host, tiny_source: Path, data: list[PreparedClip]
):
    """In a pack, where the two stacks see the trials' rows in different shares."""
    base = load(tiny_source, tiny_source, None, "fp32")
    again = Host(base, data, EngineSpec(gradient_checkpointing=True))
    assert again.base.model.talker.model.layers[0].forward.func.__name__ == "_run"
    assert again.base.model.talker.code_predictor.model.layers[1].forward.func.__name__ == "_run"
    expected = trained(host, list(TRAININGS))
    for name, (weights, loss) in trained(again, list(TRAININGS)).items():
        assert loss == expected[name][1]
        assert [k for k, w in weights.items() if not torch.equal(w, expected[name][0][k])] == []


def test_a_base_that_is_cut_up_trains_the_same(
    host: Host, tiny_source: Path, data: list[PreparedClip]
):
    whole, loss = trained(host, ["all"])["all"]
    base = load(tiny_source, tiny_source, None, "fp32")
    cut = Host(base, data, EngineSpec(zero_stage=3))
    weights, cut_loss = trained(cut, ["all"])["all"]
    assert cut_loss == pytest.approx(loss, rel=1e-5)
    for key, weight in whole.items():
        torch.testing.assert_close(weights[key], weight, rtol=0, atol=1e-5)


def test_a_base_whose_rows_do_not_fill_the_vectors_is_told_so(
    tmp_path: Path, recording_path: Path, process_group: None, monkeypatch: pytest.MonkeyPatch
):
    """Its last rows go another way through silu than those of a pack's middle."""
    monkeypatch.setattr(packing, "LEAST_GAIN", 0.0)  # packs, whatever they gain
    source = write_tiny_qwen3_tts(tmp_path / "base", intermediate_size=56)
    made = random_clips(recording_path, tuple(range(3, 15)))
    clips = [*made[:-1], replace(made[-1], split="validation")]
    host = Host(load(source, source, None, "fp32"), clips, EngineSpec())
    plan = measure(host, TrainingSpec(rank=4), [2], 3)
    vector = torch.backends.cpu.get_cpu_capability()
    if vector == "AVX512":
        assert plan.difference > 0
        assert f"differs from alone by up to {plan.difference:.1e}" in plan.reason
    assert ("rows 56 wide, no multiple of the " in plan.reason) == vector.startswith("AVX")
