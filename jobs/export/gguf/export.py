"""Write a voice's GGUF file, read it again, and compare what it says with the voice."""

import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForCausalLM

from jobs.export import codec_lm_merged
from jobs.export.codec_lm_reference import ReferenceTokens, logits_of, reference_tokens
from jobs.export.formats import QUANTIZED, Quantization
from jobs.export.gguf.check import read_again
from jobs.export.gguf.file import write_gguf
from jobs.export.gguf.llama import RUNTIME, TOP, Llama, Run, is_installed
from jobs.export.load_back import Check, LoadBack, count_differences, passed
from jobs.families.layout import LAYOUT_FILE
from jobs.speech.voice_files import VoiceFiles

USE = """\
llama-server --model THIS_DIRECTORY/NAME.gguf
curl http://127.0.0.1:8080/completion --data '{"prompt": PROMPT, "temperature": 0}'
# layout.json says how a prompt is written, and voice.json, where there is one, behind what clip of
# the speaker: its text before the text, its codes after the prompt. Where it is that of NeuTTS:
NeuTTS(backbone_repo="THIS_DIRECTORY/NAME.gguf")
"""


def file_name(quantization: Quantization) -> str:
    """NeuTTS takes what ends in ``gguf`` for such a file."""
    return f"model-{quantization}.gguf"


def write(voice: VoiceFiles, directory: Path, quantization: Quantization) -> None:
    """Into ``directory``, which is empty: the file, and what its prompts are made by."""
    with TemporaryDirectory(dir=directory) as folder:
        merged = Path(folder)
        codec_lm_merged.write(voice, merged, quantization)
        write_gguf(merged, directory / file_name(quantization), quantization)
        (merged / LAYOUT_FILE).rename(directory / LAYOUT_FILE)
    codec_lm_merged.copy_references(voice, directory)


def load_back(voice: VoiceFiles, directory: Path, quantization: Quantization) -> LoadBack:
    """By gguf's reader, by Hugging Face's, and by llama.cpp where it is installed.

    Raises:
        LoadBackError: it is not the voice.
    """
    path = directory / file_name(quantization)
    with TemporaryDirectory(dir=directory) as folder:
        codec_lm_merged.write(voice, Path(folder), quantization)
        checks = read_again(path, Path(folder), quantization)
    passed(checks)  # a file that differs is not run
    reference = reference_tokens(voice)
    checks.append(in_transformers(path, reference, quantization))
    if not is_installed():
        step = f"pip install {RUNTIME} runs it, too"
        return passed(checks, f"written and read again, but not run by llama.cpp; {step}")
    return passed(checks + in_llama(path, reference, quantization))


_NATS = {"f32": 0.05, "f16": 0.05, "q8_0": 1.0, "q4_0": 5.0}
"""How far the likeliest tokens' log-probabilities may be from the voice's. Seen with the embedded
base: 0.005, 0.007 and 0.17 in llama.cpp, whose products are not fp32; a tensor or a token in a
wrong place moves them by several."""


def in_transformers(path: Path, reference: ReferenceTokens, quantization: Quantization) -> Check:
    """By Hugging Face's reader, which makes fp32 of all weights."""
    with redirect_stderr(StringIO()):  # a progress bar, which cannot be switched off
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )
    logits = logits_of(model, reference.prompt, reference.written).log_softmax(-1)
    values, ids = logits.topk(min(TOP, logits.shape[-1]))
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    places = [dict(zip(*pair, strict=True)) for pair in pairs]
    return _nats("transformers", places, reference, quantization)


def in_llama(path: Path, reference: ReferenceTokens, quantization: Quantization) -> list[Check]:
    """By llama.cpp: a prompt of ids, and the same as a text, as NeuTTS gives it."""
    tokens = len(reference.written)
    llama = Llama(path, context=len(reference.prompt) + tokens + 1)
    run, again = llama.write(reference.prompt, tokens), llama.write(reference.text, tokens)
    written = zip(run.written, reference.written, strict=False)
    first = next((i for i, (one, other) in enumerate(written) if one != other), tokens)
    # After a token that the voice did not write, what follows is another clip.
    places = run.likeliest[: first + 1]
    prompt = abs(again.prompt_tokens - len(reference.prompt))
    checks = [
        _nats("llama.cpp", places, reference, quantization),
        Check("tokens by which llama.cpp reads the prompt's text otherwise", prompt, 0),
        Check(
            "tokens that it then writes otherwise", count_differences(again.written, run.written), 0
        ),
        Check("codes that its text does not have", _codes_missed(run, reference), 0),
    ]
    if quantization not in QUANTIZED:
        what = f"greedy tokens of {tokens} that differ in llama.cpp"
        checks.append(Check(what, count_differences(run.written, reference.written), 0))
    return checks


def _codes_missed(run: Run, reference: ReferenceTokens) -> int:
    """Codes by which a reader of llama.cpp's text differs from a reader of its token ids."""
    before, after = reference.stream.layout.code.split("{code}")
    read = re.findall(rf"{re.escape(before)}(\d+){re.escape(after)}", run.text)
    return count_differences(
        [int(code) for code in read], reference.stream.codes(run.written).tolist()
    )


def _nats(
    reader: str,
    places: Sequence[Mapping[int, float]],
    reference: ReferenceTokens,
    quantization: Quantization,
) -> Check:
    own = reference.logits.log_softmax(-1)
    differences = [
        abs(value - own[place, token].item())
        for place, likeliest in enumerate(places)
        for token, value in likeliest.items()
    ]
    what = f"log-probabilities of the {TOP} likeliest at {len(places)} places in {reader}, nats"
    return Check(what, max(differences, default=float("inf")), _NATS[quantization])
