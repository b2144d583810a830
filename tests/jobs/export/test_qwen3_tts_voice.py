"""A voice of a tiny random base in the official package."""

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from jobs.export.formats import EXPORTERS, formats_of
from jobs.export.load_back import LoadBackError
from jobs.export.write import export_voice
from jobs.speech.voice_files import VoiceFiles
from jobs.vendor import qwen_tts
from tests.tiny_qwen3_tts import PRESETS

ROW = "talker.model.codec_embedding.weight"


@pytest.fixture(scope="module")
def voice(qwen3_tts_voice: VoiceFiles) -> VoiceFiles:
    return qwen3_tts_voice


@pytest.fixture(scope="module")
def exported(voice: VoiceFiles, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By format."""
    folder = tmp_path_factory.mktemp("exported")
    wanted = formats_of("qwen3_tts")
    for name in wanted:
        export_voice(voice, name, folder / name)  # type: ignore[arg-type]
    return {name: folder / name for name in wanted}


def test_two_formats_were_exported_and_say_the_same_frames(exported: dict[str, Path]):
    assert sorted(exported) == ["native", "peft"]
    for directory in exported.values():
        told = json.loads((directory / "manifest.json").read_text())
        (codes,) = (c for c in told["load_back"]["checks"] if "greedy codes" in c["what"])
        assert codes["what"] == "greedy codes of 128, 8 frames, that differ"
        assert codes["difference"] == 0
        assert told["versions"]["qwen-tts"] == "0.1.1"


def test_native_is_all_that_the_package_needs(
    exported: dict[str, Path], voice: VoiceFiles, tmp_path: Path
):
    """Two speakers beside the presets, loaded from a place that knows nothing of the base."""
    moved = Path(shutil.copytree(exported["native"], tmp_path / "moved"))
    package = qwen_tts().Qwen3TTSModel.from_pretrained(str(moved))
    assert sorted(package.get_supported_speakers()) == ["ann", *sorted(PRESETS), "zoe"]
    sounds, rate = package.generate_custom_voice(
        "two four", speaker="Ann", language="Auto", max_new_tokens=4, do_sample=False
    )
    assert rate == 24_000
    assert np.isfinite(sounds[0]).all()
    weights = load_file(moved / "model.safetensors")
    assert not any(name.startswith("speaker_encoder") for name in weights)
    base = load_file(Path(voice.facts.host.source) / "model.safetensors")
    changed = {n for n, w in weights.items() if not w.equal(base[n])}
    assert {name.split(".")[-2] for name in changed} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        "codec_embedding",
    }
    rows = (weights[ROW] != base[ROW]).any(dim=1).nonzero().flatten().tolist()
    assert rows == [2999, 3000]


def change_the_strength(directory: Path) -> None:
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "lora_alpha": 2 * config["lora_alpha"]}))


def spoil_weights(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        path = directory / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    apply.__name__ = change.__name__
    return apply


def forget_the_speaker(tensors: dict[str, Any]) -> None:
    tensors[ROW][3000] = 0


def change_a_weight(tensors: dict[str, Any]) -> None:
    tensors["talker.code_predictor.model.layers.0.self_attn.q_proj.weight"] *= -1


def lose_the_name(directory: Path) -> None:
    path = directory / "config.json"
    path.write_text(path.read_text().replace('"zoe"', '"joe"'))


@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        ("peft", change_the_strength, "greedy codes"),
        ("native", spoil_weights(forget_the_speaker), "greedy codes"),
        ("native", spoil_weights(change_a_weight), "greedy codes"),
        ("native", lose_the_name, "speakers that the package does not know: 1"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_what_is_not_the_voice_does_not_pass(
    exported: dict[str, Path],
    voice: VoiceFiles,
    tmp_path: Path,
    name: str,
    spoil: Callable[[Path], None],
    told: str,
):
    copy = Path(shutil.copytree(exported[name], tmp_path / "copy"))
    spoil(copy)
    module = import_module(EXPORTERS[f"qwen3_tts.{name}"].module)
    with pytest.raises(LoadBackError, match=told):
        module.load_back(voice, copy, "q8_0")
