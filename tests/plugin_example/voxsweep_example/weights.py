"""The export format ``weights`` of ``codec_lm``: the adapter's tensors and nothing else."""

import shutil
from pathlib import Path

from safetensors.numpy import load_file

from jobs.export.formats import Quantization
from jobs.export.load_back import Check, LoadBack, passed
from jobs.speech.voice_files import VoiceFiles

_FILE = "adapter_model.safetensors"

USE = """\
from safetensors.numpy import load_file
tensors = load_file("THIS_DIRECTORY/adapter_model.safetensors")
"""


def write(voice: VoiceFiles, directory: Path, quantization: Quantization) -> None:
    """Into ``directory``, which is empty."""
    shutil.copyfile(voice.adapter / _FILE, directory / _FILE)


def load_back(voice: VoiceFiles, directory: Path, quantization: Quantization) -> LoadBack:
    """By safetensors.

    Raises:
        LoadBackError: it is not the voice.
    """
    expected, found = load_file(voice.adapter / _FILE), load_file(directory / _FILE)
    different = sum(
        name not in found or (found[name] != tensor).any() for name, tensor in expected.items()
    )
    return passed([Check(f"tensors of {len(expected)} that differ", int(different), 0)])
