"""A ``codec_lm`` voice as a model of its own: the adapter's product is in the base's weights.

The weights are written in fp32. Rounded to bf16, as the base may have been, they would lose of the
adapter what is smaller than their last bit.
"""

import shutil
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.export.codec_lm_reference import compare_model, reference_tokens
from jobs.export.formats import Quantization
from jobs.export.load_back import Check, LoadBack, passed
from jobs.export.peft_files import merge_voice
from jobs.families.description import TOKENIZER_FILES, directory_of
from jobs.families.layout import LAYOUT_FILE, Layout
from jobs.speech.voice_files import VoiceFiles
from jobs.training.adapter import EXTRAS_FACTS

USE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("THIS_DIRECTORY")
tokenizer = AutoTokenizer.from_pretrained("THIS_DIRECTORY")
"""


def write(voice: VoiceFiles, directory: Path, quantization: Quantization) -> None:
    """Into ``directory``, which is empty: what a base of the family has."""
    source = directory_of(voice.facts.host.source)
    base = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    weights = merge_voice(base, voice).state_dict()
    if base.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    # Not by the model's own save_pretrained, which imports DeepSpeed, which prints.
    save_torch_state_dict(weights, str(directory))
    base.config.save_pretrained(directory)
    if base.generation_config is not None:
        base.generation_config.save_pretrained(directory)
    for name in (*TOKENIZER_FILES, "chat_template.jinja", LAYOUT_FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)
    copy_references(voice, directory)


def copy_references(voice: VoiceFiles, directory: Path) -> None:
    """What the voice speaks behind, if it does: text and codes, in ``voice.json``."""
    if voice.facts.host.reference_prefix:
        shutil.copyfile(voice.adapter / EXTRAS_FACTS, directory / EXTRAS_FACTS)


def load_back(voice: VoiceFiles, directory: Path, quantization: Quantization) -> LoadBack:
    """By Hugging Face's model and tokenizer.

    Raises:
        LoadBackError: it is not the voice.
    """
    reference = reference_tokens(voice)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    read = tokenizer.encode(reference.text, add_special_tokens=False)
    reading = [
        Check("tokens of the prompt, 1 if they differ", int(read != reference.prompt), 0),
        Check("layout, 1 if it differs", int(Layout.read(directory) != reference.stream.layout), 0),
    ]
    return passed(reading + compare_model(model, reference))
