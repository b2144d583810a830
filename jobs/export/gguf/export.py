"""Write a voice's GGUF file, read it again, and run it."""

from pathlib import Path
from tempfile import TemporaryDirectory

from jobs.export import codec_lm_merged
from jobs.export.codec_lm_reference import reference_tokens
from jobs.export.formats import Quantization
from jobs.export.gguf.check import read_again
from jobs.export.gguf.file import write_gguf
from jobs.export.gguf.llama import RUNTIME, is_installed
from jobs.export.gguf.run import in_llama, in_transformers
from jobs.export.load_back import LoadBack, passed
from jobs.families.layout import LAYOUT_FILE
from jobs.speech.voice_files import VoiceFiles

USE = """\
llama-server --model THIS_DIRECTORY/NAME.gguf
curl http://127.0.0.1:8080/completion --data '{"prompt": PROMPT, "temperature": 0}'
# layout.json says how a prompt is written. Where it is that of NeuTTS:
NeuTTS(backbone_repo="THIS_DIRECTORY/NAME.gguf")
"""


def file_name(quantization: Quantization) -> str:
    """NeuTTS takes what ends in ``gguf`` for such a file."""
    return f"model-{quantization}.gguf"


def write(voice: VoiceFiles, directory: Path, quantization: Quantization) -> None:
    """Into ``directory``, which is empty: the file, and the layout that its prompts have."""
    with TemporaryDirectory(dir=directory) as folder:
        merged = Path(folder)
        codec_lm_merged.write(voice, merged, quantization)
        write_gguf(merged, directory / file_name(quantization), quantization)
        (merged / LAYOUT_FILE).rename(directory / LAYOUT_FILE)


def load_back(voice: VoiceFiles, directory: Path, quantization: Quantization) -> LoadBack:
    """By gguf's reader, by Hugging Face's, and by llama.cpp where it is installed.

    Raises:
        LoadBackError: it is not the voice.
    """
    path = directory / file_name(quantization)
    with TemporaryDirectory(dir=directory) as folder:
        codec_lm_merged.write(voice, Path(folder), quantization)
        checks = read_again(path, Path(folder), quantization)
    passed(checks)  # what is not whole is not run
    reference = reference_tokens(voice)
    checks.append(in_transformers(path, reference, quantization))
    if not is_installed():
        step = f"pip install {RUNTIME} runs it, too"
        return passed(checks, f"written and read again, but not run by llama.cpp; {step}")
    return passed(checks + in_llama(path, reference, quantization))
