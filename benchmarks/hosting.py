"""What a codec LM costs to be heard on one core: llama.cpp, transformers' ``generate``, voxsweep's.

Command: python benchmarks/hosting.py [--quick] [--json]

Claim: of the embedded base, llama.cpp writes at least three times the tokens a second of
``generate``, and is heard within 80 ms (p95) at a real-time factor of at most 0.10.
Baseline: ``generate`` of transformers in the same process, one prompt after another, fp32.
Where it loses: what is quantized is another model (docs/verdict.md says how that is tested), and
the large model's weights are random, so that only its tokens are counted and nothing is heard.
Times are CPU seconds of the process: what a core that does nothing else takes.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from huggingface_hub import save_torch_state_dict
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.generation.streamers import BaseStreamer

from jobs.embedded import BASE_DIR, CODEC_DIR
from jobs.export.formats import Quantization
from jobs.export.gguf.file import write_gguf
from jobs.export.gguf.speaking import FIRST_SECONDS, speak_hosted
from jobs.families.codec_lm import CodecLM
from jobs.families.description import TOKENIZER_FILES
from jobs.families.layout import LAYOUT_FILE
from jobs.spec.trial import DecodingSpec, PromptSpec

Prompts = Sequence[PromptSpec]
CLOCK = time.process_time
KINDS: tuple[Quantization, ...] = ("q8_0", "q4_0")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LARGE = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}
"""SmolLM2-135M's, with the embedded base's vocabulary: 106 million weights of its 135 are in the
blocks."""


HEARD = ("embedded, 2 M",)
"""Models whose tokens are speech."""


@dataclass(frozen=True)
class Heard:
    """One prompt. Seconds."""

    tokens: int
    generated: float
    first_audio: float
    decoded: float
    audio: float


class Arrivals(BaseStreamer):
    """When each token came."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.at.append(CLOCK())

    def end(self) -> None:
        pass


def prompts_of(count: int) -> list[PromptSpec]:
    """Four digits each, the first of which goes round."""
    words = [[DIGITS[(at + step) % 10] for step in (0, 3, 7, 2)] for at in range(count)]
    return [PromptSpec(id=f"p{at}", text=" ".join(of)) for at, of in enumerate(words)]


def small(folder: Path) -> None:
    """The embedded base in fp32."""
    model = AutoModelForCausalLM.from_pretrained(BASE_DIR, dtype=torch.float32)
    _save(model, folder)


def large(folder: Path) -> None:
    """A Llama of 135 million weights' shape with random ones, and the embedded base's tokens."""
    read = AutoModelForCausalLM.from_pretrained(BASE_DIR).config
    torch.manual_seed(0)
    config = LlamaConfig(
        **LARGE,
        vocab_size=read.vocab_size,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=read.eos_token_id,
        pad_token_id=read.pad_token_id,
        bos_token_id=None,
    )
    _save(LlamaForCausalLM(config), folder)


def _save(model: torch.nn.Module, folder: Path) -> None:
    weights = model.state_dict()
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    folder.mkdir()
    save_torch_state_dict(weights, str(folder))
    model.config.save_pretrained(folder)
    for name in (*TOKENIZER_FILES, LAYOUT_FILE):
        if (BASE_DIR / name).is_file():
            shutil.copyfile(BASE_DIR / name, folder / name)


def by_generate(
    plain: PreTrainedModel, base: CodecLM, prompts: Prompts, decoding: DecodingSpec
) -> list[Heard]:
    """By transformers' own loop, and a model as transformers loads it."""
    found = []
    for prompt in prompts:
        ids, cap = base.request(prompt, decoding)
        arrivals, begun = Arrivals(), CLOCK()
        written = plain.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=cap,
                eos_token_id=base.stream.end_id,
                pad_token_id=base.stream.pad_id,
            ),
            streamer=arrivals,
        )[0, len(ids) :].tolist()
        # The first call of a streamer is for the prompt.
        found.append(_heard(base, written, [at - begun for at in arrivals.at[1:]]))
    return found


def by_voxsweep(base: CodecLM, prompts: Prompts, decoding: DecodingSpec) -> list[Heard]:
    """By the loop of a sweep and of `voxsweep say`."""
    found = []
    for prompt in prompts:
        written, arrived, begun = [], [], CLOCK()
        for _, token in base.tokens(base.model, [prompt], decoding):
            written.append(token)
            arrived.append(CLOCK() - begun)
        found.append(_heard(base, written, arrived))
    return found


def by_stream(base: CodecLM, prompts: Prompts, decoding: DecodingSpec) -> list[Heard]:
    """By `voxsweep say --stream` once it is loaded: sound is decoded between tokens."""
    found = []
    for prompt in prompts:
        arrived, samples, begun = [], 0, CLOCK()
        for piece in base.speak_stream(base.model, prompt, decoding):
            if piece.audio.size:
                arrived.append(CLOCK() - begun)
            samples += len(piece.audio)
        seconds = samples / base.speech_rate
        codes = round(seconds * base.codec.frame_rate)
        found.append(Heard(codes, CLOCK() - begun, arrived[0], 0.0, seconds))
    return found


def _heard(base: CodecLM, written: Sequence[int], arrived: Sequence[float]) -> Heard:
    is_code = [len(base.stream.codes([token])) > 0 for token in written]
    places = [at for at, code in enumerate(is_code) if code]
    begun = CLOCK()
    audio = base.codec.decode(base.stream.codes(written)) if places else []
    decoded = CLOCK() - begun
    seconds = len(audio) / base.speech_rate
    first = max(1, round(len(places) * min(1.0, FIRST_SECONDS / max(seconds, 1e-9))))
    begun = CLOCK()
    if places:
        base.codec.decode(base.stream.codes(written)[:first])
    first_audio = CLOCK() - begun + (arrived[places[first - 1]] if places else 0.0)
    return Heard(len(written), arrived[-1], first_audio, decoded, seconds)


def by_llama(
    path: Path,
) -> Callable[[CodecLM, Prompts, DecodingSpec], list[Heard]]:
    """By llama.cpp, on one thread."""

    def speak(base: CodecLM, prompts: Prompts, decoding: DecodingSpec) -> list[Heard]:
        timings = speak_hosted(path, base, prompts, decoding, CLOCK).timings
        return [Heard(**vars(each)) for each in timings]

    return speak


def figures(heard: Sequence[Heard], *, is_heard: bool) -> dict[str, float]:
    generated = sum(each.generated for each in heard)
    rate = round(sum(each.tokens for each in heard) / generated, 1)
    if not is_heard:
        return {"tokens_per_second": rate}
    first = quantiles([each.first_audio for each in heard], n=20, method="inclusive")
    audio = sum(each.audio for each in heard)
    worked = generated + sum(each.decoded for each in heard)
    return {
        "tokens_per_second": rate,
        "first_audio_p50": round(first[9], 3),
        "first_audio_p95": round(first[18], 3),
        "real_time_factor": round(worked / audio, 3),
        "of it, codec": round(sum(each.decoded for each in heard) / audio, 3),
    }


def measure(name: str, folder: Path, count: int, most: int, *, as_json: bool) -> dict[str, object]:
    """Every way on the same prompts, in the same process, one after another."""
    base = CodecLM.load(folder, CODEC_DIR, None, "fp32")
    prompts, decoding = prompts_of(count), DecodingSpec(max_tokens=most)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ways = {"transformers": partial(by_generate, plain), "voxsweep": by_voxsweep}
    if name in HEARD:
        ways["voxsweep, streamed"] = by_stream
    for kind in KINDS:
        path = folder / f"model-{kind}.gguf"
        write_gguf(folder, path, kind)
        ways[f"llama.cpp {kind}"] = by_llama(path)
    rows = {}
    for way, speak in ways.items():
        speak(base, prompts[:2], decoding)  # the first is slower everywhere
        rows[way] = figures(speak(base, prompts, decoding), is_heard=name in HEARD)
        if not as_json:
            print(json.dumps({"model": name, "by": way, **rows[way]}), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 prompts")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    count = 3 if options.quick else 10
    rows = {}
    with TemporaryDirectory() as place:
        for name, write, most in ((*HEARD, small, 400), ("Llama, 135 M", large, 100)):
            folder = Path(place) / write.__name__
            write(folder)
            rows[name] = measure(name, folder, count, most, as_json=options.json)
    ratios = {
        f"{name}, {way}, over transformers": round(
            of[way]["tokens_per_second"] / of["transformers"]["tokens_per_second"], 2
        )
        for name, of in rows.items()
        for way in of
        if way != "transformers"
    }
    result = {
        "name": "hosting",
        "ratios": ratios,
        "baseline": "generate of transformers, fp32, the same prompts",
        "conditions": {"prompts": count, "threads": 1, "rows": rows},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
