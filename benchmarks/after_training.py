"""What an epoch costs after its training: validation, speech and the decoding of speech.

Command: python benchmarks/after_training.py [--quick] [--json]

Claim: validation in passes of several clips gives the bits of one clip at a time in less time, and
so does a batch of several voices from which whoever has ended leaves, against the same batch that
keeps every row to the end, and against one voice at a time.
Baseline: the same host with one clip a pass; the same loop of generation with every row kept; a
call for each voice. Interleaved, medians, in the CPU time of one thread.
Ours: jobs/training/host.py, and speech of the shipped base at five LoRA scales.
Where it loses: nothing is gained by validation clips of 1,024 tokens or more, which are alone in
their pass anyway, and little by rows that leave where all texts are of one length.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
}
if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})

import numpy as np
import torch
from packing import FixedLength

from jobs.clips import PreparedClip
from jobs.embedded import PROMPTS_DIR
from jobs.families import items
from jobs.families.registry import load_base
from jobs.families.sampling import Sampler
from jobs.spec import EMBEDDED
from jobs.spec.trial import DecodingSpec, EngineSpec, HostSpec, TrainingSpec, TrialSpec
from jobs.speech.prompts import read_prompts
from jobs.training.engine.start import start_distributed
from jobs.training.host import Host
from jobs.training.packing import AdapterUse

MODELS = ((4, 192), (8, 512))
"""Layers and width; the first has the shipped base's."""
TOKENS = (16, 64, 256, 1024)
CLIPS = 16
SCALES = (0.0, 0.5, 0.7, 1.0, 1.3)
WAYS = dict[str, Callable[[], Any]]


def seconds(ways: WAYS, repeats: int) -> dict[str, float]:
    """CPU seconds of each way, medians of interleaved runs. All must give the same.

    Raises:
        SystemExit: they do not.
    """
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        given = []
        for name, way in ways.items():
            begun = time.process_time()
            given.append(way())
            if repeat:
                spent[name].append(time.process_time() - begun)
        if any(each != given[0] for each in given):
            raise SystemExit(f"{' and '.join(ways)} give different results: nothing is compared")
    return {name: statistics.median(times) for name, times in spent.items()}


def trained(base: Any, clips: list[PreparedClip]) -> Host:  # noqa: ANN401 (a FrozenBase)
    """A host with one adapter that differs from the base."""
    host = Host(base, clips, EngineSpec())
    training = TrainingSpec(rank=16, batch_size=1, learning_rate=3e-3, epochs=100)
    trial = TrialSpec(
        family="", base_digest="", data_digest="", training=training, engine=EngineSpec()
    )
    host.attach("slot", trial)
    for _ in range(2):
        host.step(["slot"])
    return host


def validation(layers: int, hidden: int, tokens: int, repeats: int) -> dict[str, Any]:
    """One row: the validation of an adapter on clips of so many tokens."""
    clips = [
        PreparedClip(str(at), "", "validation" if at >= 4 else "train", np.zeros(1), None)
        for at in range(4 + CLIPS)
    ]
    host = trained(FixedLength(layers, hidden, tokens), clips)

    def one_at_a_time() -> list[float]:
        with mock.patch.object(items, "_PASS_TOKENS", 1):
            return host._validation_sums("slot")

    def in_passes() -> list[float]:
        return host._validation_sums("slot")

    cost = seconds({"one at a time": one_at_a_time, "in passes": in_passes}, repeats)
    return {
        "validation": f"{layers}x{hidden}, {CLIPS} clips of {tokens} tokens",
        **{f"{name}, ms": round(1e3 * spent, 1) for name, spent in cost.items()},
        "ratio": round(cost["one at a time"] / cost["in passes"], 2),
    }


def speech(prompts: int, repeats: int) -> list[dict[str, Any]]:
    """The rows of speech: prompts of the shipped set at every LoRA scale, greedy."""
    base: Any = load_base(
        HostSpec(family="codec_lm", source=EMBEDDED, codec=EMBEDDED, voice=None, precision="fp32")
    )
    codes = np.arange(40) % base.stream.layout.codebook_size
    clips = [
        PreparedClip(str(at), "one two", "train" if at else "validation", codes, (0, 20))
        for at in range(3)
    ]
    host = trained(base, clips)
    texts = read_prompts(PROMPTS_DIR / "a.jsonl")[:prompts]
    decoding = DecodingSpec(temperature=0.7, seed=1)
    voices = [AdapterUse("slot", scale) for scale in SCALES]
    rows = host._adapters.rows

    def generate(some: list[AdapterUse]) -> list[list[int]]:
        with rows.owned_by(some):
            return base.generate(host._engine.model, texts, decoding, len(some), rows.share)

    def together() -> list[list[int]]:
        return generate(voices)

    def one_voice_at_a_time() -> list[list[int]]:
        return [ids for voice in voices for ids in generate([voice])]

    def every_row_kept() -> list[list[int]]:
        with rows.owned_by(voices), rows.share([len(texts)] * len(voices)):
            return keep_every_row(base, host._engine.model, texts * len(voices), decoding)

    ways: WAYS = {
        "one voice at a time": one_voice_at_a_time,
        "every row kept": every_row_kept,
        "together": together,
    }
    cost = seconds(ways, repeats)
    made = [base.stream.codes(ids) for ids in together()]
    decoded = seconds({"decode": lambda: [base.codec.decode(c).size for c in made if len(c)]}, 3)
    what = f"{len(texts)} prompts at {len(voices)} scales"
    return [
        {
            "speech": what,
            **{f"{name}, s": round(spent, 2) for name, spent in cost.items()},
            "over one voice at a time": round(cost["one voice at a time"] / cost["together"], 2),
            "over every row kept": round(cost["every row kept"] / cost["together"], 2),
        },
        {
            "decoding": what,
            "decode, s": round(decoded["decode"], 2),
            "share of speech": round(decoded["decode"] / (decoded["decode"] + cost["together"]), 3),
        },
    ]


def keep_every_row(base: Any, model: Any, prompts: list[Any], decoding: DecodingSpec) -> Any:  # noqa: ANN401
    """The same generation, in a batch that stays whole until the last has ended."""
    ids = [base.stream.prompt_ids(p.text, base.voice_of(p.speaker), None) for p in prompts]
    caps = [base.stream.max_new_tokens(p.text) for p in prompts]
    longest = max(map(len, ids))
    read = torch.tensor([[base.stream.pad_id] * (longest - len(row)) + row for row in ids])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in ids])
    sampler, cache = Sampler(decoding, [p.id for p in prompts]), None
    written: list[list[int]] = [[] for _ in prompts]

    def ended(row: int) -> bool:
        return len(written[row]) >= caps[row] or written[row][-1:] == [base.stream.end_id]

    with torch.no_grad():
        while not all(map(ended, range(len(prompts)))):
            output = model(
                input_ids=read,
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, -read.shape[1] :],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            chosen = sampler.pick(output.logits[:, -1].float())
            for row, token in enumerate(chosen.tolist()):
                if not ended(row):
                    written[row].append(token)
            read = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small model, fewer repeats")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    start_distributed()
    models, repeats = (MODELS[:1], 2) if options.quick else (MODELS, 5)
    rows = [
        validation(layers, hidden, tokens, repeats)
        for layers, hidden in models
        for tokens in TOKENS
    ]
    rows += speech(4 if options.quick else 16, 1 if options.quick else 3)
    if not options.json:
        for row in rows:
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    result = {
        "name": "after_training",
        "ratios": {row["validation"]: row["ratio"] for row in rows if "validation" in row}
        | {key: rows[-2][key] for key in ("over one voice at a time", "over every row kept")},
        "baseline": "the same host: a clip a pass; a call a voice; a batch that keeps every row",
        "conditions": {"rows": rows, "threads": 1, "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
