"""One GPU in ten minutes: packs, equality, Qwen3-TTS, slots, speech, scores and ZeRO.

Command: python benchmarks/gpu.py [--tiny] [--out FILE] [--part NAME]
(``benchmarks/gpu.sh`` sets the environment; ``--quick`` is ``--tiny``, which a CPU runs too.)

Claim: none yet, since it was not run on a GPU.
Baseline: in each part's own run. Packs: PEFT training the same adapters one after another, eagerly
and by CUDA graphs. Equality: each adapter alone. Qwen3-TTS: the objective written down plainly.
Speech: one variant at a time. Scores: speechmos. ZeRO: stage 0.
Where it loses: not known; a row says what a host would choose beside what each way takes.

Each part is a process with a time limit of its own, 590 s together. One that fails, or takes too
long, is recorded with its error, and the others go on. Times are of the clock on the wall once the
GPU is idle, interleaved, medians; without a GPU they are of the process's CPU.
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from jobs.spec.trial import TrialSpec
    from jobs.training.host import Host

RANKS = (4, 8, 16, 24, 32, 64, 96, 128)
PRECISIONS = ("fp32", "bf16")
HALF_BILLION = (24, 896)
"""Layers and hidden size of Qwen2.5-0.5B; the rest of the random model is not its."""
STEPS = 5
"""After which adapters are compared."""

Step = Callable[[], object]


def now() -> float:
    """Seconds on the wall once the GPU is idle, or of this process's CPU without a GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def timed(ways: Mapping[str, Step], repeats: int) -> dict[str, float]:
    """Median milliseconds of each way, interleaved, after two rounds of warm-up."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 2):
        for name, way in ways.items():
            started = now()
            way()
            if repeat >= 2:
                spent[name].append(1e3 * (now() - started))
    return {name: statistics.median(times) for name, times in spent.items()}


def open_host(shape: tuple[int, int], tokens: int, precision: str, stage: int = 0) -> "Host":
    """A host of a random base with clips that all have so many tokens."""
    import torch
    from packing import CLIPS, FixedLength

    from jobs.clips import PreparedClip
    from jobs.families.base import to_accelerator
    from jobs.spec.trial import EngineSpec
    from jobs.training.engine.start import start_distributed
    from jobs.training.host import Host

    start_distributed()
    base = FixedLength(*shape, tokens)
    if precision == "bf16":
        base.model.to(torch.bfloat16)
    to_accelerator(base.model)
    clips = [
        PreparedClip(str(i), "", "train" if i else "validation", torch.zeros(1).numpy(), None)
        for i in range(CLIPS)
    ]
    return Host(base, clips, EngineSpec(zero_stage=stage, precision=precision))


def trial_of(rank: int) -> "TrialSpec":
    from packing import training

    from jobs.spec.trial import EngineSpec, TrialSpec

    return TrialSpec(
        family="",
        base_digest="",
        data_digest="",
        training=training(rank),
        engine=EngineSpec(),
    )


def attach_all(host: "Host") -> list[str]:
    """A slot for each of ``RANKS``."""
    names = [f"slot{place}" for place in range(len(RANKS))]
    for name, rank in zip(names, RANKS, strict=True):
        host.attach(name, trial_of(rank))
    return names


# packs against PEFT


def peft_step(base: Any, frozen: "nn.Module", rank: int, *, graph: bool) -> Step:  # noqa: ANN401
    """A training step of PEFT alone on a copy of the base; ``graph`` replays a CUDA graph of it."""
    import torch
    from packing import training
    from peft import LoraConfig, get_peft_model

    from jobs.families.layout import IGNORED_LABEL

    spec, model = training(rank), copy.deepcopy(frozen)
    model.set_attn_implementation("sdpa")
    config = LoraConfig(
        r=rank,
        lora_alpha=spec.scaling_alpha,
        lora_dropout=spec.dropout,
        target_modules=list(spec.targets),
    )
    adapted = get_peft_model(model, config).train()
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=spec.learning_rate, fused=True, capturable=graph)
    examples = base.examples([None] * 64)
    batch = {name: value.clone() for name, value in base.collate(examples[:1]).items()}
    place = 0

    def run() -> None:
        # No mask: all clips are of one length.
        logits = adapted(input_ids=batch["input_ids"], use_cache=False).logits
        torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(),
            batch["labels"][:, 1:].flatten(),
            ignore_index=IGNORED_LABEL,
        ).backward()
        torch.nn.utils.clip_grad_norm_(parameters, spec.clip, foreach=True)
        optimiser.step()
        optimiser.zero_grad(set_to_none=not graph)

    def load() -> None:
        nonlocal place
        place = (place + 1) % len(examples)
        for name, value in base.collate(examples[place : place + 1]).items():
            batch[name].copy_(value)

    if not graph:
        return lambda: (load(), run())
    # As torch's notes on CUDA graphs say: warm up on a side stream, then capture.
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        run()
    return lambda: (load(), captured.replay())


def each(steps: Sequence[Step]) -> Step:
    """All of them, one after another."""
    return lambda: [step() for step in steps]


def packs_row(shape: tuple[int, int], tokens: int, precision: str, repeats: int) -> dict[str, Any]:
    """Milliseconds for a step of each of eight adapters, by way."""
    import torch
    from packing import training

    from jobs.training.probe import measure

    host = open_host(shape, tokens, precision)
    base, plain = host.base, copy.deepcopy(host.base.model)
    plan = measure(host, training(max(RANKS)), batch_sizes=[1], slots=len(RANKS))
    names = attach_all(host)
    ways: dict[str, Step] = {
        "PEFT": each([peft_step(base, plain, rank, graph=False) for rank in RANKS]),
        "one after another": each([partial(host.step, [name]) for name in names]),
        "packed": partial(host.step, names),
    }
    if torch.cuda.is_available():
        graphs = [peft_step(base, plain, rank, graph=True) for rank in RANKS]
        ways["PEFT, CUDA graphs"] = each(graphs)
    cost = timed(ways, repeats)
    return {
        "model": f"{shape[0]}x{shape[1]}",
        "precision": precision,
        "tokens": tokens,
        "ms": cost,
        "packed over": {name: cost[name] / cost["packed"] for name in cost if name != "packed"},
        "the host packs": plan.widths[1],
        "why": plan.reason,
    }


def run_packs(*, tiny: bool) -> dict[str, Any]:
    """Packs of eight against PEFT, in both precisions."""
    shape, lengths, repeats = ((2, 64), (16,), 2) if tiny else (HALF_BILLION, (64, 256), 9)
    rows = [
        packs_row(shape, tokens, precision, repeats)
        for precision in PRECISIONS
        for tokens in lengths
    ]
    return {"ranks": RANKS, "rows": rows}


# equality


def run_equality(*, tiny: bool) -> dict[str, Any]:
    """Each adapter after some steps in a pack, less the same adapter trained alone."""
    shape, tokens = ((2, 64), 16) if tiny else (HALF_BILLION, 64)
    rows = {}
    for precision in PRECISIONS:
        host = open_host(shape, tokens, precision)
        names = attach_all(host)
        for _ in range(STEPS):
            host.step(names)
        packed = {name: host.weights(name) for name in names}
        for name in names:
            host.detach(name)
        apart: dict[str, dict[str, float]] = {}
        for name, rank in zip(names, RANKS, strict=True):
            host.attach(name, trial_of(rank))
            for _ in range(STEPS):
                host.step([name])
            alone = host.weights(name)
            host.detach(name)
            apart[f"rank {rank}"] = {
                "largest difference": max(
                    float((packed[name][key] - alone[key]).abs().max()) for key in alone
                ),
                "largest B": max(float(v.abs().max()) for k, v in alone.items() if "lora_B" in k),
            }
        rows[precision] = apart
    return {"steps": STEPS, "rows": rows}


# the other parts


def run_qwen3_tts(*, tiny: bool) -> dict[str, Any]:
    """voxsweep's step of Qwen3-TTS against the plain one, random weights."""
    import qwen3_tts_step
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape, repeats = ("tiny", 2) if tiny else ("0.6B", 7)
    return qwen3_tts_step.measure(shape, repeats, None, device, now)


def run_slots(*, tiny: bool) -> dict[str, Any]:
    """``slots_per_host: auto``: how many slots, and whether so many step together."""
    import torch
    from packing import training

    from jobs.training.probe import measure

    host = open_host((2, 64) if tiny else HALF_BILLION, 16 if tiny else 256, "bf16")
    free, total = torch.cuda.mem_get_info() if torch.cuda.is_available() else (0, 0)
    plan = measure(host, training(max(RANKS)), batch_sizes=[1], slots=None)
    names = [f"slot{place}" for place in range(plan.slots)]
    for name in names:
        host.attach(name, trial_of(max(RANKS)))
    failed = host.step(names)
    return {
        "slots": plan.slots,
        "pack": plan.widths[1],
        "why": plan.reason,
        "failed": len(failed),
        "free before, MB": free / 2**20,
        "all, MB": total / 2**20,
        "peak, MB": torch.cuda.max_memory_allocated() / 2**20,
    }


def run_speech(*, tiny: bool) -> dict[str, Any]:
    """The embedded base speaks eight times: in one batch, and one after another; no adapters."""
    from jobs.embedded import PROMPTS_DIR
    from jobs.families.registry import load_base
    from jobs.spec.trial import DecodingSpec, EngineSpec, HostSpec, PromptSpec
    from jobs.training.engine.start import start_distributed
    from jobs.training.host import Host
    from jobs.training.packing import AdapterUse

    start_distributed()
    embedded = HostSpec(
        family="codec_lm", source="embedded", codec="embedded", voice=None, precision="fp32"
    )
    host = Host(load_base(embedded), [], EngineSpec())
    lines = (PROMPTS_DIR / "a.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[: 2 if tiny else 16]]
    prompts = [PromptSpec(id=row["id"], text=row["text"]) for row in rows]
    scales = (0.0,) * len(RANKS)
    # Adapters that are not trained say what the base says: it is their cost that is measured.
    voices = [AdapterUse(None, scale) for scale in scales[: 2 if tiny else None]]
    decoding = DecodingSpec(temperature=0.0)
    clips = host.speak(voices, prompts, decoding)
    seconds = sum(len(clip.audio) / clip.rate for voice in clips for clip in voice)
    ways: dict[str, Step] = {
        "one after another": lambda: [host.speak([voice], prompts, decoding) for voice in voices],
        "one batch": lambda: host.speak(voices, prompts, decoding),
    }
    cost = timed(ways, 1 if tiny else 3)
    return {
        "clips": len(voices) * len(prompts),
        "seconds of speech": seconds,
        "ms": cost,
        "seconds of speech a second": {name: 1e3 * seconds / ms for name, ms in cost.items()},
        "one batch over one after another": cost["one after another"] / cost["one batch"],
    }


def run_scores(*, tiny: bool) -> dict[str, Any]:
    """The offline tier on this machine's processor: nothing of it runs on the GPU."""
    import warnings

    import scoring

    warnings.filterwarnings("ignore", "Conversion of an array", category=DeprecationWarning)
    cost, difference = scoring.measure(scoring.spoken(1 if tiny else 4, scoring.SECONDS), 1)
    tier = sum(ms for name, ms in cost.items() if not name.startswith("speechmos"))
    return {
        "CPU ms a clip of 4 s": tier,
        "clips a minute and core": 6e4 / tier,
        "largest difference": difference,
        "ms": cost,
        "ratios": scoring.ratios(cost),
    }


def run_zero(*, tiny: bool) -> dict[str, Any]:
    """DeepSpeed's stages at one rank: time of a step, and the adapter's difference from stage 0."""
    from torch import distributed as dist

    shape, tokens = ((2, 64), 16) if tiny else ((8, 896), 64)
    rows: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for stage in range(4):
        host = open_host(shape, tokens, "fp32", stage)
        host.attach("slot", trial_of(16))
        for _ in range(STEPS):
            host.step(["slot"])
        found = host.weights("slot")
        weights = weights or found
        apart = max(float((found[key] - weights[key]).abs().max()) for key in found)
        cost = timed({"step": partial(host.step, ["slot"])}, 3 if tiny else 9)
        host.detach("slot")
        rows[f"stage {stage}"] = {"ms": cost["step"], "largest difference": apart}
    return {"backend": dist.get_backend(), "rows": rows}


PARTS: dict[str, tuple[Callable[..., dict[str, Any]], int]] = {
    "packs": (run_packs, 170),
    "equality": (run_equality, 80),
    "qwen3_tts": (run_qwen3_tts, 90),
    "slots": (run_slots, 60),
    "speech": (run_speech, 60),
    "scores": (run_scores, 50),
    "zero": (run_zero, 80),
}
"""What measures each part, and its seconds at most."""


def machine() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"gpu": gpu, "torch": torch.__version__, "cuda": torch.version.cuda}


def run_part(name: str, *, tiny: bool) -> dict[str, Any]:
    """What a part has found, or its error, from a process of its own."""
    command = [sys.executable, __file__, "--part", name, *(["--tiny"] if tiny else [])]
    started = time.monotonic()
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PARTS[name][1])
    except subprocess.TimeoutExpired:
        found: dict[str, Any] = {"error": f"not done after {PARTS[name][1]} s"}
    else:
        last = (ended.stdout.strip().splitlines() or [""])[-1]
        if ended.returncode == 0:
            found = json.loads(last)
        else:
            lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
            trace = [line.removeprefix("[rank0]: ") for line in lines]
            found = {"error": trace[-1], "trace": trace[-20:]}
    return {**found, "seconds": round(time.monotonic() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", "--quick", action="store_true", help="small shapes, for a CPU")
    parser.add_argument("--out", type=Path, help="write the JSON object to this file too")
    parser.add_argument("--part", choices=PARTS, help="only this part, in this process")
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part][0](tiny=options.tiny)))
        return
    result: dict[str, Any] = {
        "name": "gpu",
        "baseline": "in each part's own run: see benchmarks/gpu.py",
        "conditions": {**machine(), "tiny": options.tiny, "load before": os.getloadavg()[0]},
        "parts": {},
    }
    for name in PARTS:
        result["parts"][name] = run_part(name, tiny=options.tiny)
        print(f"{name}: {json.dumps(result['parts'][name])}", file=sys.stderr, flush=True)
        if options.out:
            # After each part: what ends this process early spoils none of those before.
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
