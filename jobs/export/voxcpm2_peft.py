"""A ``voxcpm2`` voice as an adapter that PEFT puts on the base."""

from pathlib import Path

from jobs.export.formats import Quantization
from jobs.export.load_back import LoadBack, passed
from jobs.export.peft_files import load_adapter, write_adapter
from jobs.export.voxcpm2 import compare_speech, open_package, reference_speech
from jobs.families.description import directory_of
from jobs.speech.voice_files import VoiceFiles

USE = """\
from peft import PeftModel
from voxcpm import VoxCPM

package = VoxCPM.from_pretrained("THE_BASE", load_denoiser=False, optimize=False)
PeftModel.from_pretrained(package.tts_model, "THIS_DIRECTORY")  # goes into the model in place
sound = package.generate("TEXT")  # 48 kHz; the tag of a language stands before the text
"""


def write(voice: VoiceFiles, directory: Path, quantization: Quantization) -> None:
    """Into ``directory``, which is empty."""
    write_adapter(voice, directory)


def load_back(voice: VoiceFiles, directory: Path, quantization: Quantization) -> LoadBack:
    """By the official package and PEFT.

    Raises:
        LoadBackError: it is not the voice.
    """
    reference = reference_speech(voice)
    package = open_package(directory_of(voice.facts.host.source))
    load_adapter(package, directory).eval()
    return passed([compare_speech(package, reference)])
