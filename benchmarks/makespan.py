"""A grid of short trials: one sweep on warm hosts against a process for every trial.

Command: python benchmarks/makespan.py [--quick] [--json]

Claim: from the first process to the last adapter the sweep takes a fifth of the time or less, its
adapters are the same to the bit, it trains at most 0.46 of the epochs that the grid asks for, and
half of the slots that a trial leaves take the next trial's first step within half a second.
Baseline: Ray Tune with a function trainable over the whole grid, ranks x learning rates x epochs
{1, 2, 3, 5}: a new process for each trial, in it PEFT and torch's AdamW, which know nothing of
voxsweep but the order of the data and the seeds. "reused" is the same with Tune's reuse_actors,
which pays imports once a process and loads the base for each trial.
Ours: hosts, pool, Tune, Optuna and ledger as `voxsweep run` uses them; nothing speaks. Epochs 1, 2,
3 and 5 are checkpoints of one training, which a constant schedule allows.
Both get as many processes that train at once, one thread each. Data are prepared, and Ray runs,
before either clock starts.
Where it loses: the gain is of starts, and of epochs that are not trained twice. As epochs grow long
the ratio falls towards 11/5 = 2.2, and under a schedule that depends on the horizon, where each
trial is a training of its own, towards 1.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.ray.connect import ray_cluster
from cluster.storage.base import open_storage
from jobs.data.prepared.keys import data_key
from jobs.spec.trial import TrainingSpec
from orchestrator.scores.from_ledger import protocol_for
from orchestrator.spec.inputs import read_inputs
from orchestrator.spec.model import (
    Dimension,
    ResourcesSpec,
    RungSpec,
    ScoringSpec,
    SearchSpec,
    SweepSpec,
)
from orchestrator.workers.preparation import Prepared

EPOCHS = (1, 2, 3, 5)
PROCESSES = 2
"""That train at once, a core each: hosts of ours, trials of the baseline."""
CLIPS = {"train": 16, "validation": 4}
"""Few: starts weigh as in a sweep of short trials, whose epochs take half a second."""
WEIGHTS = "adapter_model.safetensors"

Space = dict[str, tuple[Any, ...]]
FULL: Space = {"rank": (8, 16, 32), "learning_rate": (5e-4, 1e-3, 2e-3, 4e-3)}
QUICK: Space = {"rank": (8, 32), "learning_rate": (5e-4, 2e-3)}


def sweep_spec(space: Space) -> SweepSpec:
    """The sweep that answers the grid: trainings of the longest, whose epochs are checkpoints."""
    return SweepSpec(
        name="makespan",
        family="codec_lm",
        training=TrainingSpec(epochs=max(EPOCHS), batch_size=2, dropout=0.05),
        search=SearchSpec(
            sampler="grid", space={k: Dimension(choices=v) for k, v in space.items()}
        ),
        rungs=RungSpec(scheduler="none"),
        scoring=ScoringSpec(metrics=("wada_snr",), primary="wada_snr", min_effect=0.05),
        resources=ResourcesSpec(hosts=PROCESSES, slots_per_host=1),
    )


def prepared_context(spec: SweepSpec, storage: Path) -> Any:  # noqa: ANN401 (a SweepContext)
    """Prepare a few clips of the embedded voice in a Ray worker; what the sweep's trials share."""
    import ray

    from orchestrator.context import SweepContext

    inputs = read_inputs(spec)
    clips = [
        clip
        for split, count in CLIPS.items()
        for clip in [clip for clip in inputs.clips if clip.row.split == split][:count]
    ]

    def prepare() -> Prepared:
        from jobs.data.prepared.prepare import prepare
        from jobs.families.registry import load_base

        base = load_base(spec.host())
        done = prepare(clips, base, open_storage(str(storage)), spec.data)
        return Prepared(base.digest, done.digest, base.encoder_digest)

    prepared: Prepared = ray.get(ray.remote(prepare).remote())
    protocol = protocol_for(spec, inputs.prompts, inputs.confirmation, prepared)
    scorers: Any = None
    base, data = prepared.base_digest, prepared.data_digest
    return SweepContext(spec, str(storage), base, data, protocol, scorers)


def run_ours(context: Any, storage: Path) -> dict[str, Any]:  # noqa: ANN401 (a SweepContext)
    """The sweep."""
    from _silent import Unobserved, run_silently

    until_warm, warm = run_silently(context, storage / "sweep", Unobserved())
    ledger = context.ledger()
    trainings = [ledger.epochs(record.id) for record in ledger.trials()]
    # Slots are taken in the order in which they became free.
    begun = sorted(epochs[0].finished_at - epochs[0].seconds for epochs in trainings)
    freed = sorted(epochs[-1].finished_at for epochs in trainings)
    gaps = [begin - free for begin, free in zip(begun[PROCESSES:], freed, strict=False)]
    return {
        "seconds": until_warm + warm,
        "seconds until hosts are warm": until_warm,
        "trials": len(trainings),
        "epochs": sum(map(len, trainings)),
        "median hand-over, seconds": statistics.median(gaps),
        "longest hand-over, seconds": max(gaps),
    }


def run_cold(
    context: Any,  # noqa: ANN401 (a SweepContext)
    space: Space,
    storage: Path,
    folder: Path,
    *,
    reuse: bool,
) -> dict[str, Any]:
    """The whole grid with Ray Tune and a plain function."""
    from ray import tune

    data = open_storage(str(storage)).fetch(data_key(context.data_digest))
    trainable = tune.with_parameters(
        plain_training, training=context.spec.training, data=data, folder=folder
    )
    grid = {**space, "epochs": EPOCHS}
    started = time.monotonic()
    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={name: tune.grid_search(list(values)) for name, values in grid.items()},
        tune_config=tune.TuneConfig(reuse_actors=reuse, max_concurrent_trials=PROCESSES),
        run_config=tune.RunConfig(name="ray", storage_path=str(folder), verbose=0),
    ).fit()
    seconds = time.monotonic() - started
    if results.num_errors:
        raise RuntimeError(f"the baseline failed: {results.errors[0]}")
    rows = [result.metrics for result in results]
    return {
        "seconds": seconds,
        "trials": len(rows),
        "epochs": sum(row["config"]["epochs"] for row in rows),
        "processes": len({row["process"] for row in rows}),
        "median load of a trial, seconds": statistics.median(row["loading"] for row in rows),
        "median epoch, seconds": statistics.median(
            row["training"] / row["config"]["epochs"] for row in rows
        ),
    }


def plain_training(
    config: dict[str, Any], training: TrainingSpec, data: Path, folder: Path
) -> None:
    """One trial as one would write it by hand: PEFT, torch's AdamW, Hugging Face's model."""
    began = time.monotonic()
    import torch
    from peft import LoraConfig, get_peft_model
    from ray import tune
    from torch.nn import functional
    from torch.nn.utils.rnn import pad_sequence
    from transformers import AutoTokenizer, Qwen2ForCausalLM

    from jobs.data.order.batches import BatchPlan
    from jobs.data.prepared.files import read_prepared
    from jobs.embedded import BASE_DIR
    from jobs.families.layout import IGNORED_LABEL, Layout, TokenStream
    from jobs.training.slot import stream_seed

    stream = TokenStream(Layout.read(BASE_DIR), AutoTokenizer.from_pretrained(BASE_DIR))
    clips = {
        split: [
            stream.example(clip.text, clip.codes.tolist(), clip.word_starts, None)
            for clip in read_prepared(data)
            if clip.split == split
        ]
        for split in CLIPS
    }
    torch.manual_seed(stream_seed(training.seed, "adapter"))
    model = get_peft_model(
        Qwen2ForCausalLM.from_pretrained(BASE_DIR, dtype=torch.float32),
        LoraConfig(
            r=config["rank"],
            lora_alpha=2 * config["rank"],
            lora_dropout=training.dropout,
            target_modules=list(training.targets),
        ),
    ).train()
    adapter = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        adapter,
        lr=config["learning_rate"],
        betas=training.betas,
        weight_decay=training.weight_decay,
        fused=True,
    )

    def loss_of(examples: Sequence[Any]) -> tuple[torch.Tensor, int]:
        ids, labels, mask = (
            pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad)
            for rows, pad in (
                ([e.input_ids for e in examples], stream.pad_id),
                ([e.labels for e in examples], IGNORED_LABEL),
                ([[1] * len(e.labels) for e in examples], 0),
            )
        )
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        targets = labels[:, 1:].flatten()
        summed = functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets, reduction="sum")
        return summed, int((targets != IGNORED_LABEL).sum())

    plan = BatchPlan(len(clips["train"]), training.batch_size, 1, training.seed)
    step, loaded = 0, time.monotonic()
    for epoch in range(1, config["epochs"] + 1):
        for (batch,) in plan.epoch(epoch):
            torch.manual_seed(stream_seed(training.seed, f"step {step}, rank 0"))
            loss, targets = loss_of([clips["train"][i] for i in batch])
            (loss / targets).backward()
            if training.clip:
                torch.nn.utils.clip_grad_norm_(adapter, training.clip)
            optimiser.step()
            optimiser.zero_grad()
            step += 1
    model.eval()
    with torch.no_grad():
        sums = [loss_of([example]) for example in clips["validation"]]
    model.save_pretrained(folder / adapter_name(config))
    tune.report(
        {
            "validation_loss": sum(float(s) for s, _ in sums) / sum(n for _, n in sums),
            "process": os.getpid(),
            "loading": loaded - began,
            "training": time.monotonic() - loaded,
        }
    )


def adapter_name(config: Mapping[str, Any]) -> str:
    return f"rank-{config['rank']}-rate-{config['learning_rate']}-epochs-{config['epochs']}"


def largest_difference(
    context: Any,  # noqa: ANN401 (a SweepContext)
    space: Space,
    folder: Path,
) -> float:
    """Of any weight of any adapter of the grid, ours and the baseline's."""
    from safetensors.numpy import load_file

    ledger, differences = context.ledger(), []
    for rank, rate, epochs in itertools.product(space["rank"], space["learning_rate"], EPOCHS):
        point = {"rank": rank, "learning_rate": rate}
        trial = context.trial_spec(point).id
        ours = load_file(ledger.storage.fetch(ledger.checkpoint(trial, epochs)) / WEIGHTS)
        theirs = load_file(folder / adapter_name({**point, "epochs": epochs}) / WEIGHTS)
        if ours.keys() != theirs.keys():
            raise RuntimeError(f"the adapters of {point} have different layers")
        differences += [float(abs(ours[key] - theirs[key]).max()) for key in ours]
    return max(differences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a third of the grid")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    options = parser.parse_args()
    space = QUICK if options.quick else FULL
    load, spec = os.getloadavg()[0], sweep_spec(space)
    runs: dict[str, dict[str, Any]] = {}
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # Ray's workers import _silent too

    def done(name: str, run: dict[str, Any]) -> None:
        runs[name] = {k: round(v, 2) if isinstance(v, float) else v for k, v in run.items()}
        if not options.json:
            print(f"{name}: " + ", ".join(f"{k} {v}" for k, v in runs[name].items()), flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        storage = Path(temporary, "storage")
        cold, reused = Path(temporary, "cold"), Path(temporary, "reused")
        with ray_cluster(None):
            context = prepared_context(spec, storage)
        with ray_cluster(None):
            done("ours", run_ours(context, storage))
        with ray_cluster(None):
            done("cold", run_cold(context, space, storage, cold, reuse=False))
        with ray_cluster(None):
            done("reused", run_cold(context, space, storage, reused, reuse=True))
        difference = largest_difference(context, space, cold)
    ours = runs["ours"]
    result = {
        "name": "makespan",
        "ratios": {
            "cold over ours": round(runs["cold"]["seconds"] / ours["seconds"], 2),
            "reused over ours": round(runs["reused"]["seconds"] / ours["seconds"], 2),
            "epochs trained over asked": round(ours["epochs"] / runs["cold"]["epochs"], 3),
            "largest difference of a weight": difference,
            "median hand-over, seconds": ours["median hand-over, seconds"],
        },
        "baseline": "Ray Tune function trainable, a process a trial, PEFT + torch AdamW in it",
        "conditions": {
            "runs": runs,
            "grid": {**space, "epochs": EPOCHS},
            "clips": CLIPS,
            "processes": PROCESSES,
            "load before": load,
            "quick": options.quick,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
