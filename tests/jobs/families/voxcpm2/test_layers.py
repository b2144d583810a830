"""Which layers are trained, and how many weights that is on the real configuration."""

import json
import shutil
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.families.base import FrozenBase, linear_layers
from jobs.families.targets import chosen_layers
from jobs.families.voxcpm2.description import RELEASED, TARGETS, _size, base_size, layer_names
from jobs.families.voxcpm2.model import load_model
from jobs.spec.trial import HostSpec, TrainingSpec
from jobs.training.adapter import Adapters
from jobs.training.packing import AdapterUse
from tests.tiny_voxcpm2 import NO_TOKENIZER, config, lm_config, network, random_clips, side

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
WHOLE = 2_384_218_498
"""Weights of the released base, its AudioVAE among them."""
REAL = config(
    lm_config=lm_config(
        hidden_size=2048,
        intermediate_size=6144,
        max_position_embeddings=32768,
        num_attention_heads=16,
        num_hidden_layers=28,
        kv_channels=128,
        vocab_size=73448,
        rope_scaling={
            "type": "longrope",
            "long_factor": [1.0] * 64,
            "short_factor": [1.0] * 64,
            "original_max_position_embeddings": 32768,
        },
    ),
    feat_dim=64,
    residual_lm_num_layers=8,
    scalar_quantization_latent_dim=512,
    encoder_config={**side(1024, 4096, 12), "num_heads": 16, "kv_channels": 128},
    dit_config={**side(1024, 4096, 12), "num_heads": 16, "kv_channels": 128, "cfm_config": {}},
    audio_vae_config={},
)
"""As released; on no device, so that it is shapes alone."""


@pytest.fixture(scope="module")
def real() -> Any:
    with warnings.catch_warnings(), redirect_stderr(StringIO()), torch.device("meta"):
        warnings.simplefilter("ignore", FutureWarning)
        read = network.VoxCPMConfig.model_validate({**REAL, "max_length": 1})
        vae = network.AudioVAEV2(read.audio_vae_config)
        return network.VoxCPM2Model(read, NO_TOKENIZER, vae, device="cpu")


def weights(model: Any, names: Sequence[str], rank: int) -> int:
    return rank * sum(sum(model.get_submodule(name).weight.shape) for name in names)


def test_the_trained_weights_are_as_many_as_published(real: Any):
    names = chosen_layers(ATTENTION, None, TARGETS, linear_layers(real))
    stacks = {"base_lm": 28, "residual_lm": 8, "feat_decoder.estimator.decoder": 12}
    assert names == [
        f"{stack}.layers.{block}.self_attn.{name}"
        for stack, blocks in stacks.items()
        for block in range(blocks)
        for name in ATTENTION
    ]
    assert len(names) == 192
    ranks = (8, 16, 32, 64, 128)
    found = {rank: weights(real, names, rank) for rank in ranks}
    assert found == {
        8: 4_521_984,
        16: 9_043_968,
        32: 18_087_936,
        64: 36_175_872,
        128: 72_351_744,
    }
    assert sum(parameter.numel() for parameter in real.parameters()) == WHOLE
    assert [f"{found[rank] / WHOLE:.3%}" for rank in ranks] == [
        "0.190%",
        "0.379%",
        "0.759%",
        "1.517%",
        "3.035%",
    ]
    # The set of names is the claim: other layers at another rank have as many weights.
    fewer = chosen_layers(["q_proj", "v_proj"], None, TARGETS, linear_layers(real))
    assert weights(real, fewer, 16) == found[8]


@pytest.mark.parametrize(
    ("targets", "count", "at_8"),
    [
        (("lm.attention",), 144, 3_686_400),
        (("dit.attention",), 48, 835_584),
        (("lm.attention", "dit.attention", "projections"), 196, 4_644_864),
    ],
)
def test_groups_of_targets_are_one_side_each(
    real: Any, targets: tuple[str, ...], count: int, at_8: int
):
    names = chosen_layers(targets, None, TARGETS, linear_layers(real))
    assert (len(names), weights(real, names, 8)) == (count, at_8)
    assert not any(name.startswith(("feat_encoder", "audio_vae")) for name in names)


def test_a_plain_suffix_would_adapt_the_local_encoder_too(real: Any):
    """What PEFT does with bare names; here they are patterns of whole names."""
    bare = [name for name in linear_layers(real) if name.rpartition(".")[2] in ATTENTION]
    assert weights(real, bare, 8) == 5_357_568


def test_the_layers_are_known_without_the_weights(real: Any, tmp_path: Path):
    host = HostSpec(
        family="voxcpm2", source=str(tmp_path), codec="embedded", voice=None, precision="fp32"
    )
    (tmp_path / "config.json").write_text(json.dumps(REAL))
    everything = chosen_layers(list(TARGETS), None, TARGETS, linear_layers(real))
    assert sorted(layer_names(host) or []) == sorted(everything)
    (tmp_path / "config.json").write_text(json.dumps({**REAL, "architecture": "voxcpm"}))
    with pytest.raises(ValueError, match="architecture must be 'voxcpm2', got 'voxcpm'"):
        layer_names(host)
    assert layer_names(host.model_copy(update={"source": "hub:nobody/nothing"})) is None


def test_blocks_leave_layers_outside_of_them_alone(real: Any):
    names = linear_layers(real)
    assert chosen_layers(["lm.attention", "projections"], [27], TARGETS, names) == [
        *[f"base_lm.layers.27.self_attn.{name}" for name in ATTENTION],
        "enc_to_lm_proj",
        "lm_to_dit_proj",
        "res_to_dit_proj",
        "fusion_concat_proj",
    ]


def test_what_is_missing_or_does_not_fit_is_named(tmp_path: Path, tiny_voxcpm2_source: Path):
    with pytest.raises(FileNotFoundError, match=r"must have config.json, tokenizer.json, model"):
        load_model(tmp_path, "fp32")
    source = tmp_path / "base"
    shutil.copytree(tiny_voxcpm2_source, source)
    written = json.loads((source / "config.json").read_text())
    written["dit_config"] |= {"dit_mean_mode": True}
    (source / "config.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match="dit_mean_mode must be False, got True; use a released"):
        load_model(source, "fp32")
    (source / "config.json").write_text(json.dumps(config(residual_lm_num_layers=2)))
    with pytest.raises(ValueError, match=r"model.safetensors must have the weights of config"):
        load_model(source, "fp32")
    (source / "audiovae.safetensors").rename(source / "audiovae.pth")
    with pytest.raises(FileNotFoundError, match="a pickle, which voxsweep does not load; convert"):
        load_model(source, "fp32")


def test_its_size_is_known_without_the_weights(real: Any, tiny_voxcpm2_source: Path):
    """To a thousandth: norms and biases are left out."""
    host = HostSpec(
        family="voxcpm2",
        source=str(tiny_voxcpm2_source),
        codec="embedded",
        voice=None,
        precision="fp32",
    )
    released = base_size(host.model_copy(update={"source": f"hub:{RELEASED}"}))
    tiny = base_size(host)
    assert released is not None
    assert tiny is not None
    shapes = {name: tuple(real.get_submodule(name).weight.shape) for name in released.layers}
    assert {name: (i, o) for name, (o, i) in shapes.items()} == dict(released.layers)
    codec = sum(weight.numel() for weight in real.audio_vae.parameters())
    assert released.codec == codec
    assert released.weights == pytest.approx(WHOLE - codec, rel=1e-3)
    assert released.frame_rate == tiny.frame_rate == 6.25
    loaded, _ = load_model(tiny_voxcpm2_source, "fp32")
    assert tiny.weights == pytest.approx(sum(p.numel() for p in loaded.parameters()), rel=0.01)


def test_what_a_pass_keeps_is_near_what_is_worked_out(tiny_voxcpm2: FrozenBase):
    """Of all that autograd saves what is no weight, each storage once."""
    adapters = Adapters(tiny_voxcpm2)
    adapters.add("kept", TrainingSpec(rank=1, dropout=0.0))
    weights = {
        tensor.untyped_storage().data_ptr() for tensor in tiny_voxcpm2.model.state_dict().values()
    }
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    clips = random_clips((40, 40))
    try:
        batch = tiny_voxcpm2.collate(tiny_voxcpm2.examples(clips))
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            adapters.rows.owned_by([AdapterUse("kept")]),
        ):
            (loss,) = tiny_voxcpm2.loss_sums(tiny_voxcpm2.model, [batch], adapters.rows.share)
            held = sum(kept.values())  # while the graph holds them, no storage is another's
            del loss
    finally:
        adapters.remove("kept")
    size = _size(config())
    assert size is not None
    tokens = (len(batch["text"]) - len(clips)) / len(clips)
    worked_out = len(clips) * size.activation_bytes(tokens, 40, 4, again=False)
    assert 0.5 < worked_out / held < 1.5, (worked_out, held)
