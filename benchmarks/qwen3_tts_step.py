"""A training step of Qwen3-TTS against a plain implementation of the same, correct objective.

Command: python benchmarks/qwen3_tts_step.py [--quick] [--json]

Claim: with the share of frames that configs/qwen3_tts_0.6b.yaml takes its second loss over, a step
is at least 1.5 times as fast as the plain one, on a tiny model and on one of 0.6B's shape. With all
frames its loss is the plain one's to 1e-4, which is tested before anything is timed.
Baseline: the objective as one would write it down: every table looked up and every text embedding
projected at every position, padding too, the head of codebook 0 everywhere, all hidden states kept,
the speaker's vector made anew at every step. Same weights, adapters (PEFT's), optimiser and clips.
Where it loses: with all frames at 0.6B's shape there is nothing to gain on a CPU: the arithmetic of
the two transformers, which both do, is nearly all of a step.
Times are of the process's CPU, interleaved, medians. GPU: not measured.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

if os.environ.get("OMP_NUM_THREADS") != "1":
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from jobs.families.base import LossTerms, frozen, linear_layers, unshared
from jobs.families.layout import IGNORED_LABEL
from jobs.families.qwen3_tts import batch, objective
from jobs.families.qwen3_tts.description import TARGETS
from jobs.families.qwen3_tts.layout import NOTHING, ChatLayout, SpeechExample
from jobs.families.qwen3_tts.model import CodeTables, TalkingModel
from jobs.families.segments import segmented
from jobs.families.targets import chosen_layers
from jobs.vendor import qwen_tts

RATE = 24_000
WEIGHT = 0.3
SHARE = 0.25
TEXT_IDS = 1000
FRAMES = (38, 50, 25, 44)
"""Of the clips: 2 to 4 seconds."""
REFERENCE_SECONDS = 3.0
CONTROL = dict(
    zip(
        ("pad_id", "bos_id", "eos_token_id", "think_id", "nothink_id", "think_bos_id"),
        (2148, 2149, 2150, 2154, 2155, 2156),
        strict=True,
    )
)
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "heads": (4, 2, 16)}
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "tiny": (
        {**TINY, "text_hidden_size": 96},
        {**TINY, "hidden_size": 48},
        {
            "enc_channels": [64, 64, 64, 64, 192],
            "enc_attention_channels": 16,
            "enc_se_channels": 16,
        },
    ),
    "0.6B": (
        {
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "heads": (16, 8, 128),
            "text_hidden_size": 2048,
        },
        {
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 5,
            "heads": (16, 8, 128),
        },
        {},
    ),
}
"""Talker, code predictor and speaker encoder; all else is as released, but for a small text
vocabulary."""


class Characters:
    """A tokenizer of as many tokens as the layout asks for."""

    def __call__(self, text: str) -> dict[str, list[int]]:
        named = text.replace("<|im_start|>", "\x01").replace("<|im_end|>", "\x02")
        return {"input_ids": [ord(c) for c in named.replace("assistant", "\x03")]}


def make_model(shape: str, talker_layers: int | None) -> TalkingModel:
    """Random, frozen, with a fresh adapter on every linear layer of both transformers."""
    own, predictor, speaker = ({**part} for part in SHAPES[shape])
    for part in (own, predictor):
        heads, pairs, size = part.pop("heads")
        part |= {"num_attention_heads": heads, "num_key_value_heads": pairs, "head_dim": size}
        part["num_code_groups"] = 16
    own["num_hidden_layers"] = talker_layers or own["num_hidden_layers"]
    half = own["head_dim"] // 2
    sections = [half - 2 * (half // 4), half // 4, half // 4]
    config = qwen_tts().core.models.Qwen3TTSConfig(
        tts_model_type="base",
        talker_config={
            **own,
            **{f"codec_{name}": token for name, token in CONTROL.items()},
            "codec_think_eos_id": 2157,
            "text_vocab_size": TEXT_IDS,
            "pad_token_id": None,
            "rope_scaling": {"interleaved": True, "mrope_section": sections, "type": "default"},
            "spk_id": {},
            "spk_is_dialect": {},
            "codec_language_id": {},
            "code_predictor_config": predictor,
        },
        speaker_encoder_config={"enc_dim": own["hidden_size"], **speaker},
        tts_pad_token_id=4,
        tts_bos_token_id=5,
        tts_eos_token_id=6,
    )
    torch.manual_seed(0)
    model = TalkingModel(config)
    frozen(model)
    segmented(model.talker)
    names = ["talker.attention", "talker.mlp", "predictor.attention", "predictor.mlp"]
    chosen = chosen_layers(names, None, TARGETS, linear_layers(model))
    lora = LoraConfig(r=16, target_modules=chosen)
    inject_adapter_in_model(lora, model)
    return model.eval()


def make_clips(model: TalkingModel) -> tuple[ChatLayout, list[SpeechExample], np.ndarray]:
    """Clips of random codes, and the recording of their speaker."""
    draw = np.random.default_rng(0)
    layout = ChatLayout(model.config, Characters())
    reference = draw.normal(0, 0.1, int(REFERENCE_SECONDS * RATE)).astype(np.float32)
    vector = torch.tensor(model.extract_speaker_embedding(reference, RATE).tolist())
    examples = [
        layout.example(
            layout.prompt("some twenty letters."[: 8 + 4 * i], None),
            draw.integers(0, 2048, size=(count, 16)),
            vector,
        )
        for i, count in enumerate(FRAMES)
    ]
    return layout, examples, reference


def plain_loss(model: TalkingModel, examples: list[SpeechExample], reference: np.ndarray) -> Tensor:
    """The objective as it is written down, over all positions."""
    talker, predictor = model.talker, model.talker.code_predictor
    longest = max(len(example.labels) for example in examples)
    shape = (len(examples), longest)
    text, codec = torch.zeros(shape, dtype=torch.long), torch.full(shape, NOTHING)
    codes = torch.zeros(*shape, 16, dtype=torch.long)
    labels, mask = torch.full(shape, IGNORED_LABEL), torch.zeros(shape, dtype=torch.long)
    spoken, speaker = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    eos = model.config.talker_config.codec_eos_token_id
    for row, example in enumerate(examples):
        prompt, frames = example.utterance.prompt, torch.tensor(example.utterance.codes)
        length, start = len(example.labels), len(prompt.text_ids)
        text[row, :length] = torch.tensor(example.input_ids)
        codec[row, :start] = torch.tensor(prompt.codec_ids)
        codec[row, start : length - 1], codec[row, length - 1] = frames[:, 0], eos
        codes[row, start : length - 1] = frames
        labels[row, :length] = torch.tensor(example.labels)
        mask[row, :length] = 1
        spoken[row, start : length - 1] = True
        speaker[row, prompt.speaker_at] = True
    vectors = torch.stack([model.extract_speaker_embedding(reference, RATE) for _ in examples])
    read = talker.text_projection(talker.get_text_embeddings()(text)) * mask[..., None]
    read = read + talker.get_input_embeddings()(codec.clamp(min=0)) * (codec != NOTHING)[..., None]
    read = read + vectors.clone()[:, None] * speaker[..., None]
    for book, table in enumerate(predictor.get_input_embeddings(), start=1):
        read = read + table(codes[..., book]) * spoken[..., None]
    output = talker.model(
        inputs_embeds=read, attention_mask=mask, output_hidden_states=True, use_cache=False
    )
    hidden = output.hidden_states[-1]
    logits = talker.codec_head(hidden)
    first = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED_LABEL
    )
    frames, before = codes[spoken], hidden[:, :-1][spoken[:, 1:]]
    tables = [talker.get_input_embeddings(), *predictor.get_input_embeddings()]
    parts = [table(frames[:, k]) for k, table in enumerate(tables[:-1])]
    others = predictor.forward_finetune(inputs_embeds=torch.stack([before, *parts], dim=1)).logits
    # Clips count by their targets, as in the objective.
    cost = nn.functional.cross_entropy(
        others.flatten(0, 1), frames[:, 1:].flatten(), reduction="none"
    )
    counts = [len(example.utterance.codes) for example in examples]
    means = torch.stack([part.mean() for part in cost.view(-1, 15).split(counts)])
    sizes = torch.tensor(counts, dtype=torch.float32) + 1
    return first + WEIGHT * (means * sizes).sum() / sizes.sum()


def step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], float]:
    """One optimiser step; gives the loss."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=0.0, fused=True)

    def run() -> float:
        optimiser.zero_grad()
        found = loss()
        found.backward()
        optimiser.step()
        return found.item()

    return run


def measure(
    shape: str,
    repeats: int,
    talker_layers: int | None,
    device: str = "cpu",
    now: Callable[[], float] = time.process_time,
) -> dict[str, Any]:
    """Seconds of each kind of step, and how many times faster than the plain one ours are."""
    torch.set_default_device(device)
    model = make_model(shape, talker_layers).to(device)
    layout, examples, reference = make_clips(model)
    tables = CodeTables(model.talker)
    targets = sum(len(example.utterance.codes) + 1 for example in examples)

    def ours(share: float) -> Tensor:
        terms = LossTerms(WEIGHT, share)
        read = batch.collate(examples, terms, torch.device(device))
        sums = objective.loss_sums(model.talker, tables, layout.pad_id, [read], unshared)
        return sums[0] / targets

    steps = {
        "plain": step(model, lambda: plain_loss(model, examples, reference)),
        "all frames": step(model, lambda: ours(1.0)),
        f"{SHARE:.0%} of frames": step(model, lambda: ours(SHARE)),
    }
    losses = {name: run() for name, run in steps.items()}  # the first step is warm-up
    if not abs(losses["plain"] - losses["all frames"]) < 1e-4 * losses["plain"]:
        raise SystemExit(f"the two must have one objective, but their losses are {losses}")
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, run in steps.items():
            started = now()
            run()
            seconds[name].append(now() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = {name: medians["plain"] / value for name, value in medians.items() if name != "plain"}
    return {"shape": shape, "seconds": medians, "ratios": ratios, "loss": losses["plain"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats, 4 layers of the 28")
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    options = parser.parse_args()
    layers_of_large = 4 if options.quick else None
    rows = [
        measure("tiny", 5 if options.quick else 15, None),
        measure("0.6B", 1 if options.quick else 3, layers_of_large),
    ]
    if not options.json:
        for row in rows:
            times = ", ".join(f"{name} {value:.2f} s" for name, value in row["seconds"].items())
            ratios = ", ".join(f"{name} {value:.2f}x" for name, value in row["ratios"].items())
            print(f"{row['shape']:>5}: {times}; {ratios}")
    result = {
        "name": "qwen3_tts_step",
        "ratios": {row["shape"]: row["ratios"] for row in rows},
        "baseline": "a plain implementation of the same objective, same run",
        "conditions": {
            "clips": len(FRAMES),
            "frames": sum(FRAMES),
            "talker_layers_of_0.6B": layers_of_large or 28,
            "threads": torch.get_num_threads(),
            "gpu": "not measured",
        },
        "rows": rows,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
