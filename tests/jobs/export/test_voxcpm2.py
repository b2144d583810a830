"""A voice of a tiny random base in the official package, and an official adapter in PEFT."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.export.formats import EXPORTERS, formats_of
from jobs.export.load_back import LoadBackError
from jobs.export.voxcpm2 import open_package
from jobs.export.voxcpm2_native import read_adapter, write
from jobs.export.write import export_voice
from jobs.families.base import LossTerms
from jobs.families.registry import layer_names, load_base
from jobs.speech.voice_files import VoiceFiles
from jobs.training.adapter import add_resident, read_weights
from jobs.vendor import voxcpm
from tests.jobs.families.voxcpm2.official import losses
from tests.tiny_voxcpm2 import random_clips

WEIGHTS, CONFIG = "lora_weights.safetensors", "lora_config.json"


@pytest.fixture(scope="module")
def exported(
    voxcpm2_voice: VoiceFiles, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """By format."""
    folder = tmp_path_factory.mktemp("exported")
    wanted = formats_of("voxcpm2")
    for name in wanted:
        export_voice(voxcpm2_voice, name, folder / name)
    return {name: folder / name for name in wanted}


def test_both_formats_say_the_same_in_the_package(exported: dict[str, Path]):
    assert sorted(exported) == ["native", "peft"]
    for directory in exported.values():
        told = json.loads((directory / "manifest.json").read_text())
        speech = told["load_back"]["checks"][-1]
        assert speech["what"].endswith("of speech, largest difference")
        assert speech["difference"] < 1e-4
        assert told["versions"]["voxcpm"] == "2.0.3"
        assert told["voice"]["sample_rate"] == 48_000


def test_the_native_adapter_has_the_loss_of_the_voice(
    exported: dict[str, Path], voxcpm2_voice: VoiceFiles, monkeypatch: pytest.MonkeyPatch
):
    """By the package's loader, without voxsweep; the alpha is told, and is not its default."""
    facts = voxcpm2_voice.facts
    told = json.loads((exported["native"] / CONFIG).read_text())
    assert told["base_model"] == facts.host.source
    config = told["lora_config"]
    assert (config["r"], config["alpha"]) == (4, 5)  # 0.6 * 8 is 4.8: the rest is in B
    lora = voxcpm().model.voxcpm2.LoRAConfig(**config)
    package = open_package(Path(facts.host.source), lora)
    loaded, skipped = package.load_lora_weights(str(exported["native"]))
    assert (len(loaded), skipped) == (2 * 7 * 5, [])
    base: Any = load_base(facts.host)
    examples = base.examples([replace(clip, language="km") for clip in random_clips()])
    batch = base.collate(examples, LossTerms(draw=torch.Generator().manual_seed(2)))
    with torch.no_grad():
        expected = torch.stack([*losses(package, examples, batch, monkeypatch).values()])
        (without,) = base.loss_sums(base.model, [batch])
        add_resident(base.model, voxcpm2_voice.adapter, facts.lora_scale)
        (found,) = base.loss_sums(base.model, [batch])
    count = base.targets(examples)
    torch.testing.assert_close(found / count, expected, rtol=1e-5, atol=0)
    assert not torch.allclose(without / count, expected, rtol=1e-2)


def test_a_whole_strength_leaves_every_weight_as_it_is_both_ways(
    voxcpm2_voice: VoiceFiles, tmp_path: Path
):
    facts = voxcpm2_voice.facts.model_copy(update={"lora_scale": 0.5})
    write(replace(voxcpm2_voice, facts=facts), tmp_path, "q8_0")
    assert json.loads((tmp_path / CONFIG).read_text())["lora_config"]["alpha"] == 4
    read = read_adapter(tmp_path, layer_names(facts.host) or [])
    own = read_weights(voxcpm2_voice.adapter)
    assert own.keys() == read.weights.keys()
    for key, weight in read.weights.items():
        kept, rest = (weight, weight[:0]) if own[key].shape == weight.shape else halves(weight)
        assert torch.equal(kept, own[key])
        assert not rest.any()
        assert (rest.numel() > 0) == (".estimator." in key)  # the smaller one of two ranks
    (tmp_path / "peft").mkdir()
    read.write(tmp_path / "peft")
    base = load_base(facts.host)
    add_resident(base.model, tmp_path / "peft", 1.0)  # PEFT takes it as it was written


def halves(weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Its first two of four ranks, and the others."""
    return weight.split(2, dim=0 if weight.shape[0] == 4 else 1)


def lose_a_layer(weights: dict[str, Any], config: dict[str, Any]) -> None:
    del weights["base_lm.layers.1.self_attn.q_proj.lora_A"]


def name_it_as_peft_does(weights: dict[str, Any], config: dict[str, Any]) -> None:
    name = "residual_lm.layers.0.self_attn.v_proj.lora_B"
    weights[f"base_model.model.{name}.weight"] = weights.pop(name)


def take_alpha_from_the_default(weights: dict[str, Any], config: dict[str, Any]) -> None:
    del config["alpha"]


def take_the_rank_from_the_default(weights: dict[str, Any], config: dict[str, Any]) -> None:
    config["r"] = 8


def spoiled(source: Path, target: Path, spoil: Callable[[dict[str, Any], dict[str, Any]], None]):
    copy = Path(shutil.copytree(source, target))
    weights, config = load_file(copy / WEIGHTS), json.loads((copy / CONFIG).read_text())
    spoil(weights, config["lora_config"])
    save_file(weights, copy / WEIGHTS)
    (copy / CONFIG).write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lose_a_layer, "keys that the package skips or misses: 1,"),
        (name_it_as_peft_does, "keys that the package skips or misses: 2,"),
        (take_alpha_from_the_default, "samples of"),
    ],
)
def test_what_the_package_loads_without_a_word_is_seen(
    exported: dict[str, Path],
    voxcpm2_voice: VoiceFiles,
    tmp_path: Path,
    spoil: Callable[..., None],
    told: str,
):
    copy = spoiled(exported["native"], tmp_path / "copy", spoil)
    module = import_module(EXPORTERS["voxcpm2.native"].module)
    with pytest.raises(LoadBackError, match=told):
        module.load_back(voxcpm2_voice, copy, "q8_0")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lose_a_layer, r"base_lm.layers.1.self_attn.q_proj.lora_A is missing$"),
        (name_it_as_peft_does, r"lora_B is missing; base_model.* is of no layer meant$"),
        (take_the_rank_from_the_default, r"has rank 4, and lora_config.json says 8; .* 65 more$"),
    ],
)
def test_an_adapter_that_does_not_fit_is_not_read(
    exported: dict[str, Path],
    voxcpm2_voice: VoiceFiles,
    tmp_path: Path,
    spoil: Callable[..., None],
    told: str,
):
    copy = spoiled(exported["native"], tmp_path / "copy", spoil)
    with pytest.raises(ValueError, match=told):
        read_adapter(copy, layer_names(voxcpm2_voice.facts.host) or [])


def test_weights_alone_do_not_say_how_strong_they_are(
    exported: dict[str, Path], voxcpm2_voice: VoiceFiles, tmp_path: Path
):
    shutil.copyfile(exported["native"] / WEIGHTS, tmp_path / WEIGHTS)
    with pytest.raises(FileNotFoundError, match="lora_config"):
        read_adapter(tmp_path, layer_names(voxcpm2_voice.facts.host) or [])


def test_a_block_that_was_not_adapted_is_written_as_one_that_adds_nothing(
    voxcpm2_voice: VoiceFiles, tmp_path: Path
):
    """The package adapts all blocks of a side or none, and skips what it is not told of."""
    directory = Path(shutil.copytree(voxcpm2_voice.directory, tmp_path / "voice"))
    fewer = replace(voxcpm2_voice, directory=directory)
    path = fewer.adapter / "adapter_model.safetensors"
    kept = {k: w for k, w in load_file(path).items() if "base_lm.layers.1." not in k}
    save_file(kept, path)
    out = tmp_path / "out"
    out.mkdir()
    write(fewer, out, "q8_0")
    weights = load_file(out / WEIGHTS)
    assert len(weights) == 2 * 7 * 5
    absent = {key for key in weights if key.startswith("base_lm.layers.1.")}
    assert len(absent) == 14
    assert {key for key, weight in weights.items() if not weight.any()} == absent
