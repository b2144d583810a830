"""Which layers are adapted, known from a base's config.json and exact on its model."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from jobs.embedded import BASE_DIR, CODEC_DIR
from jobs.families import codec_lm
from jobs.families.base import FrozenBase, linear_layers
from jobs.families.codec_lm_text import layer_names
from jobs.families.registry import check_layers
from jobs.families.targets import CODEC_LM_TARGETS, chosen_layers
from jobs.spec.trial import HostSpec, TrainingSpec

ALL = list(CODEC_LM_TARGETS)


def host(source: Path | str) -> HostSpec:
    return HostSpec(
        family="codec_lm", source=str(source), codec="embedded", voice=None, precision="fp32"
    )


@pytest.mark.parametrize("blocks", [None, 3])
def test_the_layers_are_known_without_the_weights(tmp_path: Path, blocks: int | None):
    """``None`` is the embedded base as it is; a file may leave out what is the default."""
    written = json.loads((BASE_DIR / "config.json").read_text())
    if blocks is not None:
        written |= {"num_hidden_layers": blocks, "layer_types": ["full_attention"] * blocks}
    (tmp_path / "config.json").write_text(json.dumps(written))
    with torch.device("meta"):
        model = Qwen2ForCausalLM(Qwen2Config.from_pretrained(tmp_path))
    real = chosen_layers(ALL, None, CODEC_LM_TARGETS, linear_layers(model))
    assert layer_names(host(tmp_path)) == real
    assert {*linear_layers(model)} - {*real} == {"lm_head"}
    if blocks is None:
        assert layer_names(host("embedded")) == real
    del written["num_hidden_layers"]
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert len(layer_names(host(tmp_path)) or []) == 7 * Qwen2Config().num_hidden_layers


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_every_architecture_has_the_same_layers(tmp_path: Path, architecture: str):
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = AutoConfig.for_model(architecture, num_hidden_layers=2, vocab_size=9, **sizes)
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert layer_names(host(tmp_path)) == [n for n in linear_layers(model) if n != "lm_head"]


def test_targets_and_blocks_choose_in_the_order_of_the_model():
    names = [*(layer_names(host("embedded")) or []), "lm_head"]
    assert chosen_layers(["up_proj", "q_proj", "up_proj"], [2, 0], CODEC_LM_TARGETS, names) == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.up_proj",
        "model.layers.2.self_attn.q_proj",
        "model.layers.2.mlp.up_proj",
    ]


@pytest.mark.parametrize(
    ("targets", "blocks", "expected"),
    [
        (("q_proj", "v_prooj"), None, ["v_prooj is no layer", "Did you mean v_proj"]),
        (
            ("nothing", "lm_head"),
            None,
            ["nothing is", "lm_head is", "heads stay frozen", "up_proj"],
        ),
        (("q_proj",), (0, 7), ["blocks 0 to 3, not in 7"]),
        (("q_proj",), (8, 9), ["not in 8", "not in 9", "q_proj is in blocks 0 to 3"]),
    ],
)
def test_what_a_base_has_not_is_refused_without_its_weights(
    embedded_base: FrozenBase, targets, blocks, expected
):
    training = TrainingSpec(targets=targets, layers_to_transform=blocks)
    pattern = ".*".join(map(re.escape, expected))
    with pytest.raises(ValueError, match=pattern) as caught:
        check_layers(host("embedded"), training)
    with pytest.raises(ValueError, match=pattern) as on_model:
        embedded_base.layers(targets, blocks)
    assert str(on_model.value) == str(caught.value)


def test_a_layer_that_this_base_has_not_is_named():
    with pytest.raises(ValueError, match=r"^this base has no up_proj$"):
        chosen_layers(
            ["q_proj", "up_proj"], None, CODEC_LM_TARGETS, ["model.layers.0.self_attn.q_proj"]
        )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"model_type": "gemma3"},
            "model_type must be 'qwen2' or 'qwen3' or 'llama', got 'gemma3'$",
        ),
        ({"use_sliding_window": True}, ".*use_sliding_window is true"),
    ],
)
def test_another_architecture_is_refused_before_its_weights(
    tmp_path: Path, monkeypatch, changes, expected
):
    shutil.copytree(BASE_DIR, tmp_path / "base")
    where = tmp_path / "base" / "config.json"
    where.write_text(json.dumps(json.loads(where.read_text()) | changes))

    def load_weights(*_: object, **__: object) -> None:
        raise AssertionError("the weights were read")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", load_weights)
    for check in (
        lambda: codec_lm.load(tmp_path / "base", CODEC_DIR, None, "fp32"),
        lambda: layer_names(host(tmp_path / "base")),
    ):
        with pytest.raises(ValueError, match=f"^{where}: {expected}"):
            check()
