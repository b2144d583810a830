"""The LoRA adapters of a host's slots, through PEFT: add, save in PEFT's format, remove."""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import cast_adapter_dtype
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jobs.families.base import AdapterExtras, DiffusionSide, FrozenBase, SpeechTokens
from jobs.spec.trial import TrainingSpec
from jobs.training.packed import Part, Rows, add_adapters
from jobs.training.token_rows import DELTA, TokenRowsOfSlots

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
EXTRAS_TENSORS = "voice.safetensors"
EXTRAS_FACTS = "voice.json"
"""Files of a family beside its adapter; not every family has them."""
_PEFT_PREFIX = "base_model.model."


class PackedLinear(LoraLinear):
    """PEFT's LoRA layer, but every row goes through the adapter of the slot that owns it."""

    rows: Rows

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 (as PEFT's)
        """(..., i) to (..., o)."""
        result: Tensor = self.base_layer(x, *args, **kwargs)
        # Looked up once: for nn.Module that is slow, and here are all layers of every pass.
        lora_a, lora_b, dropouts = self.lora_A, self.lora_B, self.lora_dropout
        parts, weights = [], []
        for owner, start, stop in self.rows.split(x.shape[:-1].numel()):
            slot = owner.slot
            if slot is None or slot not in lora_a:
                continue
            dropout, rank = dropouts[slot], self.r[slot]
            divisor = math.sqrt(rank) if self.use_rslora[slot] else rank
            part = Part(
                start,
                stop,
                scale=owner.lora_scale * self.lora_alpha[slot] / divisor,
                keep=1 - dropout.p if isinstance(dropout, nn.Dropout) else 1.0,
                dropout=owner.dropout,
            )
            parts.append(part)
            weights.append((_weight(lora_a[slot]), _weight(lora_b[slot])))
        return add_adapters(result, x, parts, weights) if parts else result


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter as it was at one moment, on the CPU."""

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    """By PEFT's key, fp32."""
    extras: AdapterExtras | None

    def write(self, directory: Path) -> None:
        """Write it so that ``PeftModel.from_pretrained`` loads it."""
        save_tensors(self.weights, directory / _WEIGHTS, {"format": "pt"})
        text = json.dumps(self.config, indent=2, sort_keys=True, default=str)
        (directory / _CONFIG).write_text(text + "\n")
        if self.extras is not None:
            save_tensors(self.extras.tensors, directory / EXTRAS_TENSORS)
            facts = json.dumps(self.extras.facts, indent=2, sort_keys=True)
            (directory / EXTRAS_FACTS).write_text(facts + "\n")


class Adapters:
    """The adapters in a base's model, each under the name of its slot."""

    def __init__(self, base: FrozenBase) -> None:
        self.rows = Rows()
        self._base = base
        self._model = base.model
        self._configs: dict[str, LoraConfig] = {}
        self._token_rows = TokenRowsOfSlots(base.model, self.rows)

    def add(self, slot: str, spec: TrainingSpec) -> None:
        """Add fresh LoRA layers; the initial A is drawn from torch's global generator.

        With ``spec.speech_rows`` trained, a copy of the base's rows too. An error leaves the model
        as it was.

        Raises:
            ValueError: ``spec`` names a layer that the base does not have, or asks for what it has
                not.
        """
        speech = spec.speech_rows == "trained"
        if speech and not isinstance(self._base, SpeechTokens):
            raise ValueError("speech_rows must be frozen: the base has no tokens of speech")
        names = self._base.layers(spec.targets, spec.layers_to_transform)
        ranks: dict[str, int] = {}
        if spec.dit_rank is not None:
            if not isinstance(self._base, DiffusionSide):
                raise ValueError("dit_rank must be null: the base has no diffusion decoder")
            ranks = dict.fromkeys(self._base.diffusion_layers(names), spec.dit_rank)
        config = LoraConfig(
            r=spec.rank,
            rank_pattern=ranks,
            alpha_pattern={name: spec.alpha_at(rank) for name, rank in ranks.items()},
            lora_alpha=spec.scaling_alpha,  # type: ignore[arg-type]  # PEFT takes floats too
            use_rslora=spec.rslora,
            lora_dropout=spec.dropout,
            target_modules=names,
            bias="none",
        )
        config._register_custom_module({nn.Linear: PackedLinear})
        try:
            inject_adapter_in_model(config, self._model, slot)
            # PEFT's note of what it injected; it would warn that the next is not the first.
            del self._model.peft_config
            cast_adapter_dtype(self._model, slot)
            trained = [name for name, module in self._layers().items() if slot in module.lora_A]
            if trained != names:
                differing = sorted({*trained} ^ {*names})
                raise RuntimeError(f"PEFT must adapt {len(names)} layers, but not so {differing}")
            if speech:
                assert isinstance(self._base, SpeechTokens)
                self._token_rows.add(slot, self._base.speech_ids)
        except BaseException:
            self.remove(slot)
            raise
        # PEFT shortens the names where a part of them suffices: in this model, with these adapters.
        config.target_modules = names
        config.trainable_token_indices = self._token_rows.of(slot)
        self._configs[slot] = config
        for module in self._layers().values():
            module.rows = self.rows
        self._unfreeze()

    def remove(self, slot: str) -> None:
        """Remove what a slot has, or what is there of it where adding it failed."""
        self._configs.pop(slot, None)
        self._token_rows.remove(slot)
        for name, module in self._layers().items():
            module.set_adapter([])  # or PEFT warns that it makes another one active
            module.delete_adapter(slot)
            if not module.lora_A:
                self._model.set_submodule(name, module.base_layer)
        self._unfreeze()

    def parameters(self, slot: str) -> dict[str, nn.Parameter]:
        """A slot's trainable parameters, by PEFT's key."""
        inner, last = f".{slot}.", f".{DELTA}.{slot}"
        return {
            _PEFT_PREFIX + name.removesuffix(f".{slot}").replace(inner, "."): parameter
            for name, parameter in self._model.named_parameters()
            if inner in name or name.endswith(last)
        }

    def saved(
        self, slot: str, weights: Mapping[str, Tensor], extras: AdapterExtras | None
    ) -> SavedAdapter:
        """A slot's adapter with these weights, by PEFT's key, and what the family keeps with it.

        The weights are given, because an engine may hold them in parts.
        """
        config = self._configs[slot].to_dict()
        config["target_modules"] = sorted(config["target_modules"])
        config["inference_mode"] = True
        config["base_model_name_or_path"] = None
        return SavedAdapter(config, weights, extras)

    def _unfreeze(self) -> None:
        """PEFT freezes the adapters that were there before."""
        for slot in self._configs:
            for parameter in self.parameters(slot).values():
                parameter.requires_grad_(True)

    def _layers(self) -> dict[str, PackedLinear]:
        named = self._model.named_modules()
        return {name: module for name, module in named if isinstance(module, PackedLinear)}


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def read_extras(directory: Path) -> AdapterExtras | None:
    """What the family kept with the adapter in ``directory``, if it did."""
    if not (directory / EXTRAS_FACTS).is_file():
        return None
    facts = json.loads((directory / EXTRAS_FACTS).read_text(encoding="utf-8"))
    return AdapterExtras(load_file(directory / EXTRAS_TENSORS), facts)


def read_weights(directory: Path) -> dict[str, Tensor]:
    """The weights saved in ``directory``, by PEFT's key."""
    return load_file(directory / _WEIGHTS)


def load_weights(parameters: Mapping[str, nn.Parameter], saved: Mapping[str, Tensor]) -> None:
    """Replace a slot's weights by saved ones."""
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(saved[key])


def add_resident(model: nn.Module, directory: Path, lora_scale: float) -> None:
    """Add a saved adapter to a loaded model by PEFT alone, at a strength.

    The strength is absolute, and 0 gives the base. A second call replaces the first one's.

    Raises:
        ValueError: the adapter is for another model.
    """
    adapter = "voxsweep"
    config = LoraConfig.from_pretrained(str(directory))
    if not any(isinstance(module, LoraLayer) for module in model.modules()):
        inject_adapter_in_model(config, model, adapter)
    saved = read_weights(directory)
    weights = {key.removeprefix(_PEFT_PREFIX): weight for key, weight in saved.items()}
    done: Any = set_peft_model_state_dict(model, weights, adapter_name=adapter)
    if done.unexpected_keys:
        raise ValueError(
            f"the adapter in {directory} must be made for this model, which has no "
            f"{done.unexpected_keys[0]}; use the base that it was trained on"
        )
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.eval()  # PEFT's come with their dropout on
            module.set_scale(adapter, lora_scale)


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file.

    Raises:
        OSError: it cannot be written, for a full disk say; safetensors has an error of its own for
            that, by which nobody knows that it may go away.
    """
    try:
        save_file(dict(tensors), path, metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from None
