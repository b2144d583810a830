"""A ``qwen3_tts`` voice as a model of the official package, which needs nothing else to load it.

It is a custom-voice model, as those that upstream releases: the adapter's product is in the
weights, and each speaker's vector in the talker's table, beside the base's presets. Such a model
has no speaker encoder. Weights are fp32: rounded to bf16 they would lose of the adapter what is
smaller than their last bit.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor

from jobs.export.formats import Quantization
from jobs.export.load_back import Check, LoadBack, passed
from jobs.export.peft_files import merge_voice
from jobs.export.qwen3_tts import KeptVoice, add_speakers, compare_package, reference_codes
from jobs.families.description import directory_of
from jobs.families.qwen3_tts.model import SPEECH_TOKENIZER
from jobs.speech.voice_files import VoiceFiles
from jobs.vendor import qwen_tts

_ENCODER = "speaker_encoder."
_NOT_COPIED = ("config.json", "model.safetensors.index.json")

USE = """\
from qwen_tts import Qwen3TTSModel

package = Qwen3TTSModel.from_pretrained("THIS_DIRECTORY")
print(package.get_supported_speakers())
sounds, rate = package.generate_custom_voice("TEXT", speaker="NAME", language="Auto")
"""


def write(voice: VoiceFiles, directory: Path, quantization: Quantization) -> None:
    """Into ``directory``, which is empty."""
    source = directory_of(voice.facts.host.source)
    kept = KeptVoice.read(voice.adapter)
    package = qwen_tts().Qwen3TTSModel.from_pretrained(str(source))
    package.model = merge_voice(package.model, voice)
    add_speakers(package, kept)
    save_torch_state_dict(_weights(package.model), str(directory))
    for path in sorted(source.iterdir()):
        if path.suffix in (".json", ".txt", ".jinja") and path.name not in _NOT_COPIED:
            shutil.copyfile(path, directory / path.name)
    shutil.copytree(source / SPEECH_TOKENIZER, directory / SPEECH_TOKENIZER)
    _write_config(source, directory, package.model)


def load_back(voice: VoiceFiles, directory: Path, quantization: Quantization) -> LoadBack:
    """By the official package alone.

    Raises:
        LoadBackError: it is not the voice.
    """
    package = qwen_tts().Qwen3TTSModel.from_pretrained(str(directory))
    missing = set(KeptVoice.read(voice.adapter).vectors) - set(package.get_supported_speakers())
    known = Check("speakers that the package does not know", len(missing), 0)
    passed([known])  # it would refuse to speak
    reference = reference_codes(voice)
    return passed([known, compare_package(package, reference, {"speakers": [reference.speaker]})])


def _weights(model: Any) -> dict[str, Tensor]:  # noqa: ANN401 (the package's own)
    return {
        name: tensor.to(torch.float32) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith(_ENCODER)
    }


def _write_config(source: Path, directory: Path, model: Any) -> None:  # noqa: ANN401 (as above)
    """As it was, but for what kind of model it is, and its speakers.

    The package's own writer gives what the package does not read.
    """
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    talker = model.config.talker_config
    config["tts_model_type"] = model.tts_model_type
    config["talker_config"]["spk_id"] = talker.spk_id
    config["talker_config"]["spk_is_dialect"] = talker.spk_is_dialect
    text = json.dumps(config, indent=2)
    (directory / "config.json").write_text(text + "\n", encoding="utf-8")
