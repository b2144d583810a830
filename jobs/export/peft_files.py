"""An adapter as plain PEFT loads it: its strength is in its alpha, and its base is named.

Training's own PEFT code is in ``jobs/training/adapter.py``. Here PEFT loads the written files.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jobs.families.description import HUB, directory_of
from jobs.speech.voice_files import ADAPTER_FILES, EXTRAS_FILES, VoiceFiles

_WEIGHTS, _CONFIG = ADAPTER_FILES
_PREFIX, _ROWS = "base_model.model.", ".token_adapter.trainable_tokens_delta"
"""Around the name of a layer, in PEFT's name for trained rows of it."""


def write_adapter(voice: VoiceFiles, directory: Path, task: str | None = None) -> None:
    """Copy the adapter, with ``lora_scale`` times its alpha; ``task`` is PEFT's task type.

    Trained rows, which PEFT puts in place of the base's, are written at that strength.
    """
    config = json.loads((voice.adapter / _CONFIG).read_text(encoding="utf-8"))
    scale = voice.facts.lora_scale
    config["lora_alpha"] *= scale
    config["alpha_pattern"] = {name: scale * a for name, a in config["alpha_pattern"].items()}
    config["task_type"] = task
    config["base_model_name_or_path"] = base_name(voice.facts.host.source)
    text = json.dumps(config, indent=2, sort_keys=True)
    (directory / _CONFIG).write_text(text + "\n", encoding="utf-8")
    for name in EXTRAS_FILES:
        if (voice.adapter / name).is_file():
            shutil.copyfile(voice.adapter / name, directory / name)
    indices: dict[str, list[int]] | None = config.get("trainable_token_indices")
    if indices is None:
        shutil.copyfile(voice.adapter / _WEIGHTS, directory / _WEIGHTS)
        return
    weights = load_file(voice.adapter / _WEIGHTS)
    for layer, ids in indices.items():
        # PEFT's own configuration has the last part of the name alone.
        (key,) = (key for key in weights if key.endswith(f"{layer}{_ROWS}"))
        name = key.removeprefix(_PREFIX).removesuffix(_ROWS)
        original = _read_rows(directory_of(voice.facts.host.source), f"{name}.weight", ids)
        weights[key] = torch.lerp(original, weights[key], voice.facts.lora_scale)
    save_file(weights, directory / _WEIGHTS, {"format": "pt"})


def _read_rows(base: Path, name: str, ids: list[int]) -> Tensor:
    """(k, d), fp32: rows ``ids`` of a weight in a base's directory."""
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if name in file.keys():  # noqa: SIM118 (no dict)
                rows: Tensor = file.get_tensor(name)[ids].float()
                return rows
    raise FileNotFoundError(f"{base} must have the weight {name}, but has not")


def base_name(source: str) -> str:
    """What ``from_pretrained`` finds a base by: its id on the hub, or where it lies here."""
    if source.startswith(HUB):
        return source.removeprefix(HUB)
    return str(directory_of(source).resolve())


def load_adapter(model: nn.Module, directory: Path) -> PeftModel:
    """``model`` with the adapter, which goes into it in place."""
    return PeftModel.from_pretrained(model, str(directory))


def merge_voice(model: nn.Module, voice: VoiceFiles) -> nn.Module:
    """``model`` with the product of the voice's adapter in its weights."""
    with TemporaryDirectory() as adapter:
        write_adapter(voice, Path(adapter))
        merged: nn.Module = load_adapter(model, Path(adapter)).merge_and_unload()
    return merged
