"""An adapter as plain PEFT loads it: its strength is in its alpha, and its base is named.

Training's own PEFT code is in ``jobs/training/adapter.py``. Here PEFT loads the written files.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from peft import PeftModel
from torch import nn

from jobs.families.description import HUB, directory_of
from jobs.speech.voice_files import ADAPTER_FILES, EXTRAS_FILES, VoiceFiles

_WEIGHTS, _CONFIG = ADAPTER_FILES


def write_adapter(voice: VoiceFiles, directory: Path, task: str | None = None) -> None:
    """Copy the adapter, with ``lora_scale`` times its alpha; ``task`` is PEFT's task type."""
    config = json.loads((voice.adapter / _CONFIG).read_text(encoding="utf-8"))
    config["lora_alpha"] *= voice.facts.lora_scale
    config["task_type"] = task
    config["base_model_name_or_path"] = base_name(voice.facts.host.source)
    text = json.dumps(config, indent=2, sort_keys=True)
    (directory / _CONFIG).write_text(text + "\n", encoding="utf-8")
    for name in (_WEIGHTS, *EXTRAS_FILES):
        if (voice.adapter / name).is_file():
            shutil.copyfile(voice.adapter / name, directory / name)


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
