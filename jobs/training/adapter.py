"""The LoRA adapter of a slot, through PEFT: attach, scale, save in PEFT's format, detach."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jobs.spec import TrainingSpec

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_NAME = "default"


@dataclass(frozen=True)
class Adapter:
    """LoRA layers in place in a base's model."""

    model: PeftModel

    @classmethod
    def attach(cls, base_model: nn.Module, spec: TrainingSpec) -> "Adapter":
        """Add fresh LoRA layers; the initial A is drawn from torch's global generator.

        Raises:
            ValueError: no layer of the model has a name in ``spec.targets``.
        """
        config = LoraConfig(
            r=spec.rank,
            lora_alpha=spec.scaling_alpha,  # type: ignore[arg-type]  # PEFT takes floats too
            lora_dropout=spec.dropout,
            target_modules=list(spec.targets),
            bias="none",
        )
        return cls(get_peft_model(base_model, config))

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def load_weights(self, directory: Path) -> None:
        """Replace the weights by those saved in ``directory``."""
        saved = load_file(directory / _WEIGHTS)
        for name, parameter in self.parameters().items():
            parameter.data.copy_(saved[_peft_key(name)])

    def save(self, directory: Path, weights: Mapping[str, Tensor]) -> None:
        """Write ``weights`` (by parameter name) so that ``PeftModel.from_pretrained`` loads them.

        The weights are given, because an engine may hold them in parts.
        """
        tensors = {_peft_key(name): tensor.contiguous() for name, tensor in weights.items()}
        save_file(tensors, directory / _WEIGHTS, metadata={"format": "pt"})
        config = self.model.peft_config[_NAME].to_dict()
        config["target_modules"] = sorted(config["target_modules"])
        config["inference_mode"] = True
        config["base_model_name_or_path"] = None
        text = json.dumps(config, indent=2, sort_keys=True, default=str)
        (directory / _CONFIG).write_text(text + "\n")

    def set_scale(self, scale: float) -> None:
        """Set the strength to ``scale`` times alpha / rank; 0 is the base. Absolute, idempotent."""
        for module in self.model.modules():
            if isinstance(module, LoraLayer):
                module.set_scale(_NAME, scale)

    def detach(self) -> None:
        """Take the layers out again; the base's model is as it was."""
        self.model.unload()


def _peft_key(parameter_name: str) -> str:
    """PEFT leaves the adapter's name out of what it saves."""
    return parameter_name.replace(f".{_NAME}.", ".")
