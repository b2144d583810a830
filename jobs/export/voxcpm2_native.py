"""A ``voxcpm2`` adapter in the official package's own format, and back.

``lora_weights.safetensors`` has ``LAYER.lora_A`` (r, i) and ``LAYER.lora_B`` (o, r) of each layer,
``lora_config.json`` what the layers are, the rank and alpha. The package adds ``alpha / r`` times
their product. It skips keys that it does not know without an error, leaves layers without a key as
they began, and takes alpha and rank from a default where nobody names them: so both files are
written together, they list every layer that their configuration means, and reading is strict.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import pad

from jobs.export.formats import Quantization
from jobs.export.load_back import Check, LoadBack, passed
from jobs.export.peft_files import base_name
from jobs.export.voxcpm2 import compare_speech, open_package, reference_speech
from jobs.families.description import directory_of
from jobs.families.registry import layer_names
from jobs.families.voxcpm2.description import PROJECTIONS
from jobs.speech.voice_files import ADAPTER_FILES, VoiceFiles
from jobs.training.adapter import SavedAdapter, save_tensors
from jobs.vendor import voxcpm

WEIGHTS, CONFIG = "lora_weights.safetensors", "lora_config.json"
_PEFT_WEIGHTS, _PEFT_CONFIG = ADAPTER_FILES
_PEFT_PREFIX = "base_model.model."
_LM, _DIT = ("base_lm.", "residual_lm."), "feat_decoder."

USE = """\
import json
from voxcpm import VoxCPM
from voxcpm.model.voxcpm2 import LoRAConfig

lora = json.load(open("THIS_DIRECTORY/lora_config.json"))["lora_config"]
package = VoxCPM.from_pretrained(
    "THE_BASE", load_denoiser=False, optimize=False,
    lora_config=LoRAConfig(**lora), lora_weights_path="THIS_DIRECTORY",
)
sound = package.generate("TEXT")  # 48 kHz; the tag of a language stands before the text
"""


def write(voice: VoiceFiles, directory: Path, quantization: Quantization) -> None:
    """Into ``directory``, which is empty."""
    peft = json.loads((voice.adapter / _PEFT_CONFIG).read_text(encoding="utf-8"))
    saved = load_file(voice.adapter / _PEFT_WEIGHTS)
    weights = {
        key.removeprefix(_PEFT_PREFIX).removesuffix(".weight"): tensor
        for key, tensor in saved.items()
    }
    # The package has one rank: the smaller one of two is filled up with zeros, which add nothing.
    rank = max([peft["r"], *peft["rank_pattern"].values()])
    weights = {key: _filled(key, tensor, rank) for key, tensor in weights.items()}
    own = peft["r"]
    strength = voice.facts.lora_scale * peft["lora_alpha"] * rank / own
    strength *= math.sqrt(own) if peft["use_rslora"] else 1
    # The package's alpha is an integer: what it leaves is put into B.
    alpha = max(1, math.ceil(strength))
    if alpha != strength:
        for key in [key for key in weights if key.endswith(".lora_B")]:
            weights[key] = weights[key] * (strength / alpha)
    adapted = {key.rpartition(".")[0] for key in weights}
    config = {**_sides(adapted), "r": rank, "alpha": alpha, "dropout": 0.0}
    there = layer_names(voice.facts.host)
    assert there is not None, "the base was loaded to speak"
    for layer in meant(config, there):
        if layer not in adapted:  # layers_to_transform left it out: it adds nothing
            for half in (".lora_A", ".lora_B"):
                like = _like(layer, weights, half)
                weights[layer + half] = torch.zeros_like(like)
    save_tensors(weights, directory / WEIGHTS, {"format": "pt"})
    text = {"base_model": base_name(voice.facts.host.source), "lora_config": config}
    (directory / CONFIG).write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")


def load_back(voice: VoiceFiles, directory: Path, quantization: Quantization) -> LoadBack:
    """By the official package alone.

    Raises:
        LoadBackError: it is not the voice.
    """
    reference = reference_speech(voice)
    read = json.loads((directory / CONFIG).read_text(encoding="utf-8"))["lora_config"]
    config = voxcpm().model.voxcpm2.LoRAConfig(**read)
    package = open_package(directory_of(voice.facts.host.source), config)
    wanted = {name for name, _ in package.named_parameters() if ".lora_" in name}
    loaded, skipped = package.load_lora_weights(str(directory))
    keys = Check(
        "keys that the package skips or misses",
        len(skipped) + len(wanted.symmetric_difference(loaded)),
        0,
    )
    passed([keys])  # what it says would be another voice
    return passed([keys, compare_speech(package, reference)])


def read_adapter(directory: Path, layers: Sequence[str]) -> SavedAdapter:
    """An adapter in the package's format as one of PEFT's, the same to the bit.

    Args:
        directory: has both files.
        layers: the base's layers that may be adapted, as
            :func:`jobs.families.registry.layer_names` gives them.

    Raises:
        FileNotFoundError: a file is missing; without ``lora_config.json`` the strength of the
            weights is not known.
        ValueError: the files do not belong together, or to the base; the message has all problems.
    """
    config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))["lora_config"]
    weights = load_file(directory / WEIGHTS)
    names = meant(config, layers)
    wanted = {name + half for name in names for half in (".lora_A", ".lora_B")}
    problems = [f"{key} is missing" for key in sorted(wanted - weights.keys())]
    problems += [f"{key} is of no layer meant" for key in sorted(weights.keys() - wanted)]
    for key in sorted(wanted & weights.keys()):
        found = weights[key].shape[0 if key.endswith("A") else 1]
        if found != config["r"]:
            problems.append(f"{key} has rank {found}, and {CONFIG} says {config['r']}")
    if problems:
        raise ValueError(
            f"{directory / WEIGHTS} must have the layers that {CONFIG} means on this base: "
            f"{'; '.join(problems[:_MOST])}"
            + (f"; and {len(problems) - _MOST} more" if len(problems) > _MOST else "")
        )
    peft = {
        "peft_type": "LORA",
        "r": config["r"],
        "lora_alpha": config["alpha"],
        "lora_dropout": 0.0,
        "use_rslora": False,
        "bias": "none",
        "target_modules": sorted(names),
        "inference_mode": True,
        "base_model_name_or_path": None,
    }
    return SavedAdapter(
        peft, {f"{_PEFT_PREFIX}{key}.weight": tensor for key, tensor in weights.items()}, None
    )


_MOST = 5
"""Problems that a message names; hundreds of keys may be missing."""


def meant(config: Mapping[str, Any], layers: Sequence[str]) -> list[str]:
    """Those of ``layers`` that the package adapts by a ``lora_config``, in their order."""
    wanted: list[str] = []
    for layer in layers:
        name = layer.rpartition(".")[2]
        if layer in PROJECTIONS:
            is_meant = config["enable_proj"] and name in config["target_proj_modules"]
        elif layer.startswith(_DIT):
            is_meant = config["enable_dit"] and name in config["target_modules_dit"]
        else:
            is_meant = config["enable_lm"] and name in config["target_modules_lm"]
        if is_meant:
            wanted.append(layer)
    return wanted


def _sides(adapted: set[str]) -> dict[str, Any]:
    """What a ``lora_config`` says of these layers."""

    def names(start: str | tuple[str, ...]) -> list[str]:
        return sorted({each.rpartition(".")[2] for each in adapted if each.startswith(start)})

    lm, dit = names(_LM), names(_DIT)
    projections = [name for name in PROJECTIONS if name in adapted]
    return {
        "enable_lm": bool(lm),
        "enable_dit": bool(dit),
        "enable_proj": bool(projections),
        "target_modules_lm": lm,
        "target_modules_dit": dit,
        "target_proj_modules": projections,
    }


def _filled(key: str, tensor: Tensor, rank: int) -> Tensor:
    """A half of a layer's adapter at a larger rank."""
    missing = rank - tensor.shape[0 if key.endswith("A") else 1]
    if not missing:
        return tensor
    return pad(tensor, (0, 0, 0, missing) if key.endswith("A") else (0, missing))


def _like(layer: str, weights: Mapping[str, Tensor], half: str) -> Tensor:
    """The weights of a layer of the same name and side, whose shape is the same."""
    side, name = layer.startswith(_DIT), layer.rpartition(".")[2]
    return next(
        tensor
        for key, tensor in weights.items()
        if key.startswith(_DIT) == side and key.endswith(f".{name}{half}")
    )
