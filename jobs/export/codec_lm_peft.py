"""A ``codec_lm`` voice as an adapter that PEFT puts on the base."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from jobs.export.codec_lm_reference import compare_model, reference_tokens
from jobs.export.formats import Quantization
from jobs.export.load_back import LoadBack, passed
from jobs.export.peft_files import load_adapter, write_adapter
from jobs.families.description import directory_of
from jobs.speech.voice_files import VoiceFiles

USE = """\
from peft import AutoPeftModelForCausalLM
model = AutoPeftModelForCausalLM.from_pretrained("THIS_DIRECTORY")  # finds the base by its name
"""


def write(voice: VoiceFiles, directory: Path, quantization: Quantization) -> None:
    """Into ``directory``, which is empty."""
    write_adapter(voice, directory, task="CAUSAL_LM")


def load_back(voice: VoiceFiles, directory: Path, quantization: Quantization) -> LoadBack:
    """By Hugging Face's model of the base and PEFT.

    Raises:
        LoadBackError: it is not the voice.
    """
    reference = reference_tokens(voice)
    base = AutoModelForCausalLM.from_pretrained(
        directory_of(voice.facts.host.source), dtype=torch.float32
    )
    return passed(compare_model(load_adapter(base, directory), reference))
