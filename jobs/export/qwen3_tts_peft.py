"""A ``qwen3_tts`` voice as an adapter that PEFT puts on the base, with its speakers' vectors."""

from pathlib import Path

from jobs.export.formats import Quantization
from jobs.export.load_back import LoadBack, passed
from jobs.export.peft_files import load_adapter, write_adapter
from jobs.export.qwen3_tts import KeptVoice, clone_prompt, compare_package, reference_codes
from jobs.families.description import directory_of
from jobs.speech.voice_files import VoiceFiles
from jobs.vendor import qwen_tts

USE = """\
from peft import PeftModel
from qwen_tts import Qwen3TTSModel, VoiceClonePromptItem
from safetensors.torch import load_file

package = Qwen3TTSModel.from_pretrained("THE_BASE")
PeftModel.from_pretrained(package.model, "THIS_DIRECTORY")  # goes into the model in place
(name, vector), *_ = load_file("THIS_DIRECTORY/voice.safetensors").items()
speaker = VoiceClonePromptItem(
    ref_code=None, ref_spk_embedding=vector, x_vector_only_mode=True, icl_mode=False
)
sounds, rate = package.generate_voice_clone(
    "TEXT", language="Auto", voice_clone_prompt=[speaker], non_streaming_mode=True
)
"""


def write(voice: VoiceFiles, directory: Path, quantization: Quantization) -> None:
    """Into ``directory``, which is empty."""
    write_adapter(voice, directory)


def load_back(voice: VoiceFiles, directory: Path, quantization: Quantization) -> LoadBack:
    """By the official package and PEFT.

    Raises:
        LoadBackError: it is not the voice.
    """
    reference = reference_codes(voice)
    source = directory_of(voice.facts.host.source)
    package = qwen_tts().Qwen3TTSModel.from_pretrained(str(source))
    load_adapter(package.model, directory)
    items = clone_prompt(KeptVoice.read(directory), reference.speaker)
    prompt = package._prompt_items_to_voice_clone_prompt(items)
    return passed([compare_package(package, reference, {"voice_clone_prompt": prompt})])
