"""Packs of five adapters against PEFT training the same five one after another, warm.

Command: python benchmarks/packing.py [--quick] [--json]

Claim: with few tokens an adapter a pack of five (ranks 8 to 128, each with its own AdamW, clipping
and dropout) is 1.5 times as fast on models of 4x128, 8x256 and 8x512 (layers x hidden), and nowhere
is what the host chooses slower than one after another; five packed adapters take less than half the
memory of five processes.
Baseline: PEFT and torch's fused AdamW in a process that is warm, without DeepSpeed or voxsweep.
Where it loses: with more tokens or a larger model the matrix products of one adapter fill the
processor by themselves, and the ratio goes to 1. There a host's own measurement, whose choice is
printed with each row, has slots trained one after another.
Times are of the process's CPU, interleaved, medians: on a machine that does other work the clock on
the wall says little.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

# Before torch: one thread, and no memory given back between two steps, as in a sweep's workers.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
}
if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from jobs.clips import PreparedClip
from jobs.families.base import frozen, linear_layers
from jobs.families.codec_lm import CodecLM
from jobs.families.layout import IGNORED_LABEL, Example
from jobs.families.segments import segmented
from jobs.spec.trial import EngineSpec, TrainingSpec, TrialSpec

if TYPE_CHECKING:
    from jobs.training.host import Host

RANKS = (8, 16, 32, 64, 128)
MODELS = ((4, 128), (8, 256), (8, 512))
TOKENS = (16, 32, 64, 256)
VOCABULARY = 1000
CLIPS = 500


class FixedLength(CodecLM):
    """A random base whose clips all have the same number of tokens."""

    def __init__(self, layers: int, hidden: int, tokens: int) -> None:
        self.model = segmented(frozen(random_model(layers, hidden)))
        self._layers = linear_layers(self.model)
        self.stream, self._references = SimpleNamespace(pad_id=0), None
        self._tokens = tokens

    def examples(self, clips: list[PreparedClip]) -> list[Example]:
        generator = torch.Generator().manual_seed(0)
        rows = torch.randint(VOCABULARY, (len(clips), self._tokens), generator=generator).tolist()
        return [Example(row, [IGNORED_LABEL, *row[1:]]) for row in rows]


def random_model(layers: int, hidden: int) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=8,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    )


def training(rank: int) -> TrainingSpec:
    return TrainingSpec(rank=rank, batch_size=1, dropout=0.05, epochs=100)


def new_host(layers: int, hidden: int, tokens: int) -> "Host":
    # Not above: the processes that are the baseline do without DeepSpeed.
    from jobs.training.engine.start import start_distributed
    from jobs.training.host import Host

    start_distributed()
    clips = [
        PreparedClip(str(i), "", "train" if i else "validation", torch.zeros(1).numpy(), None)
        for i in range(CLIPS)
    ]
    return Host(FixedLength(layers, hidden, tokens), clips, EngineSpec())


def packed(host: "Host") -> tuple[Callable[[], None], Callable[[], None]]:
    """One step of all five: in a pack, and one after another on the same host."""
    names = [f"r{rank}" for rank in RANKS]
    for rank, name in zip(RANKS, names, strict=True):
        trial = TrialSpec(
            family="", base_digest="", data_digest="", training=training(rank), engine=EngineSpec()
        )
        host.attach(name, trial)

    def together() -> None:
        host.step(names)

    def one_after_another() -> None:
        for name in names:
            host.step([name])

    return together, one_after_another


def plain(layers: int, hidden: int, tokens: int, rank: int) -> Callable[[], None]:
    """One step of PEFT alone."""
    spec, base = training(rank), FixedLength(layers, hidden, tokens)
    base.model.set_attn_implementation("sdpa")
    examples = base.examples([None] * CLIPS)
    config = LoraConfig(
        r=rank,
        lora_alpha=spec.scaling_alpha,
        lora_dropout=spec.dropout,
        target_modules=list(spec.targets),
    )
    model = get_peft_model(base.model, config).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=spec.learning_rate, fused=True)

    def batches() -> Iterator[Example]:
        while True:
            yield from examples

    data = batches()

    def step() -> None:
        batch = base.collate([next(data)])
        logits = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).logits
        nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1),
            batch["labels"][:, 1:].flatten(),
            ignore_index=IGNORED_LABEL,
        ).backward()
        nn.utils.clip_grad_norm_(parameters, spec.clip)
        optimiser.step()
        optimiser.zero_grad()

    return step


def speed(layers: int, hidden: int, tokens: int, repeats: int) -> dict[str, float | str]:
    """One row: CPU milliseconds for a step of each of the five adapters."""
    from jobs.training.probe import measure

    host = new_host(layers, hidden, tokens)
    plan = measure(host, training(max(RANKS)), batch_sizes=[1], slots=len(RANKS))
    together, one_after_another = packed(host)
    solos = [plain(layers, hidden, tokens, rank) for rank in RANKS]

    def peft() -> None:
        for solo in solos:
            solo()

    ways = {"peft": peft, "one after another": one_after_another, "packed": together}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 2):
        for name, way in ways.items():
            started = time.process_time()
            way()
            if repeat >= 2:
                spent[name].append(1e3 * (time.process_time() - started))
    cost = {name: statistics.median(times) for name, times in spent.items()}
    # Ratios within a round, so that a burst of other work spoils one of them at most.
    rounds = zip(spent["peft"], spent["one after another"], spent["packed"], strict=True)
    ratios = [(p / k, o / k) for p, o, k in rounds]
    return {
        "model": f"{layers}x{hidden}",
        "tokens": tokens,
        **{f"{name}, ms": round(ms, 1) for name, ms in cost.items()},
        "packed over peft": round(statistics.median(a for a, _ in ratios), 2),
        "packed over one after another": round(statistics.median(b for _, b in ratios), 2),
        "the host packs": plan.widths[1],
    }


def memory(layers: int, hidden: int, tokens: int) -> dict[str, float]:
    """Peak resident megabytes of five packed adapters, and of five processes with one each."""
    asked = [sys.executable, __file__, "--peak"]
    shape = [str(layers), str(hidden), str(tokens)]

    def peak(what: str) -> float:
        ended = subprocess.run([*asked, what, *shape], capture_output=True, text=True, check=True)
        return float(ended.stdout.splitlines()[-1])

    five = sum(peak(str(rank)) for rank in RANKS)
    together = peak("packed")
    return {"five processes, MB": five, "packed, MB": together, "ratio": round(together / five, 2)}


def print_peak(what: str, layers: int, hidden: int, tokens: int) -> None:
    """Train a few steps in this process, and print its peak."""
    if what == "packed":
        step, _ = packed(new_host(layers, hidden, tokens))
    else:
        step = plain(layers, hidden, tokens, int(what))
    for _ in range(3):
        step()
    # Not getrusage's, which begins with what the process that started this one had.
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    print(round(int(status["VmHWM"].split()[0]) / 1024, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small model, fewer repeats")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        what, *shape = options.peak
        print_peak(what, *map(int, shape))
        return
    models, repeats = (MODELS[:1], 5) if options.quick else (MODELS, 9)
    rows = []
    for layers, hidden in models:
        for tokens in TOKENS:
            rows.append(speed(layers, hidden, tokens, repeats))
            if not options.json:
                print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    space = memory(*models[-1], tokens=256)
    if not options.json:
        print(", ".join(f"{key} {value}" for key, value in space.items()))
    least = {
        f"least at {tokens} tokens": min(
            row["packed over peft"] for row in rows if row["tokens"] == tokens
        )
        for tokens in TOKENS
    }
    chosen = min(
        row["packed over one after another"] if row["the host packs"] > 1 else 1.0 for row in rows
    )
    result = {
        "name": "packing",
        "ratios": {
            **least,
            "least where the host packs, over one after another": chosen,
            "memory, packed over five processes": space["ratio"],
        },
        "baseline": "PEFT + torch AdamW (fused), warm, one adapter after another",
        "conditions": {
            "ranks": RANKS,
            "rows": rows,
            "memory": {"model": models[-1], "tokens": 256, **space},
            "threads": 1,
            "quick": options.quick,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
