"""Which layers are trained, and how many weights that is on the real configurations."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model

from jobs.families.base import linear_layers
from jobs.families.qwen3_tts.description import TARGETS, layer_names
from jobs.families.targets import chosen_layers
from jobs.spec.trial import HostSpec
from jobs.vendor import qwen_tts

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
SIZES = {
    "0.6B": {"hidden_size": 1024, "intermediate_size": 3072},
    "1.7B": {"hidden_size": 2048, "intermediate_size": 6144},
}
"""As released; all else is equal."""


def layers(
    targets: Sequence[str], names: Sequence[str], blocks: Sequence[int] | None = None
) -> list[str]:
    return chosen_layers(targets, blocks, TARGETS, names)


def real_model(size: str) -> Any:
    """On no device: shapes alone."""
    models = qwen_tts().core.models
    shape = {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}
    talker = {
        **SIZES[size],
        **shape,
        "num_hidden_layers": 28,
        "num_code_groups": 16,
        "text_vocab_size": 151936,
        "pad_token_id": None,
        "rope_scaling": {"interleaved": True, "mrope_section": [24, 20, 20], "type": "default"},
        "spk_id": {},
        "spk_is_dialect": {},
        "codec_language_id": {},
        "code_predictor_config": {**shape, "num_code_groups": 16},
    }
    speaker = {"enc_dim": SIZES[size]["hidden_size"]}
    config = models.Qwen3TTSConfig(
        talker_config=talker, speaker_encoder_config=speaker, tts_model_type="base"
    )
    with torch.device("meta"):
        return models.Qwen3TTSForConditionalGeneration(config)


@pytest.fixture(scope="module", params=SIZES)
def sized(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param, real_model(request.param)


COUNTS = {
    # rank 16; the first two are the figures of facts anyone can work out: rank x (in + out)
    ("0.6B", ("talker.attention",)): (112, 4_587_520),
    ("1.7B", ("talker.attention",)): (112, 6_422_528),
    ("0.6B", ("talker.attention", "talker.mlp")): (196, 10_092_544),
    ("1.7B", ("talker.attention", "talker.mlp")): (196, 17_432_576),
    ("0.6B", ("predictor.attention", "predictor.mlp")): (35, 1_802_240),
    ("1.7B", ("predictor.attention", "predictor.mlp")): (35, 1_802_240),
    ("0.6B", (*ATTENTION, *MLP)): (231, 11_894_784),
    ("1.7B", (*ATTENTION, *MLP)): (231, 19_234_816),
}


def test_the_trained_weights_are_as_many_as_the_table_says(sized: tuple[str, Any]):
    size, model = sized
    names = linear_layers(model)
    found = {}
    for case in COUNTS:
        if case[0] == size:
            chosen = layers(case[1], names)
            shapes = [model.get_submodule(name).weight.shape for name in chosen]
            found[case] = (len(chosen), 16 * sum(sum(shape) for shape in shapes))
    assert found == {case: count for case, count in COUNTS.items() if case[0] == size}


def test_the_names_are_those_of_the_two_transformers(sized: tuple[str, Any]):
    names = linear_layers(sized[1])
    talker, predictor = "talker.model.layers", "talker.code_predictor.model.layers"
    assert layers(["talker.attention"], names) == [
        f"{talker}.{i}.self_attn.{name}" for i in range(28) for name in ATTENTION
    ]
    assert layers(["predictor.mlp"], names) == [
        f"{predictor}.{i}.mlp.{name}" for i in range(5) for name in MLP
    ]
    q = [f"{predictor}.{i}.self_attn.q_proj" for i in range(5)]
    q += [f"{talker}.{i}.self_attn.q_proj" for i in range(28)]
    assert sorted(layers(["q_proj"], names)) == sorted(q)


def test_peft_trains_just_those():
    model = real_model("0.6B")
    chosen = layers(["talker.attention"], linear_layers(model))
    inject_adapter_in_model(LoraConfig(r=16, target_modules=chosen), model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == COUNTS["0.6B", ("talker.attention",)][1]


def test_every_target_means_something(sized: tuple[str, Any]):
    names = linear_layers(sized[1])
    assert len(TARGETS) == 11
    assert all(layers([target], names) for target in TARGETS)


def test_an_unknown_target_is_told_its_neighbours():
    with pytest.raises(ValueError, match=r"Did you mean .*talker\.attention"):
        layers(["talker.atention"], [])


def test_blocks_are_those_of_each_stack(sized: tuple[str, Any]):
    names = linear_layers(sized[1])
    talker, predictor = "talker.model.layers", "talker.code_predictor.model.layers"
    assert sorted(layers(["q_proj"], names, [1])) == [
        f"{predictor}.1.self_attn.q_proj",
        f"{talker}.1.self_attn.q_proj",
    ]
    assert layers(["talker.mlp"], names, [27, 27]) == [f"{talker}.27.mlp.{name}" for name in MLP]
    with pytest.raises(ValueError, match=r"predictor.mlp is in blocks 0 to 4, not in \[20\]"):
        layers(["predictor.mlp", "talker.mlp"], names, [20])


def test_the_layers_are_known_without_the_weights(sized: tuple[str, Any], tmp_path: Path):
    model = sized[1]
    host = HostSpec(
        family="qwen3_tts", source=str(tmp_path), codec="embedded", voice=None, precision="fp32"
    )
    real = sorted(layers(list(TARGETS), linear_layers(model)))
    written = json.loads(model.config.to_json_string(use_diff=False))
    predictor = written["talker_config"]["code_predictor_config"]
    assert predictor.pop("num_hidden_layers") == 5  # the default, which a file may leave out
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert sorted(layer_names(host) or []) == real
    predictor["num_hidden_layers"] = 4
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert len(layer_names(host) or []) == len(real) - 7
    written["model_type"] = "qwen2"
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(
        ValueError, match=r"config.json: model_type must be 'qwen3_tts', got 'qwen2'"
    ):
        layer_names(host)
    assert layer_names(host.model_copy(update={"source": "hub:nobody/nothing"})) is None


def test_defaults_of_a_config_are_those_of_the_package():
    config = qwen_tts().core.models.configuration_qwen3_tts
    talker = config.Qwen3TTSTalkerConfig(code_predictor_config={})
    assert talker.num_hidden_layers == 20
    assert talker.code_predictor_config.num_hidden_layers == 5
