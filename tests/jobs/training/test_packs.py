"""A trial in a pack equals the trial alone, and both equal PEFT with torch's AdamW."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from jobs.data.batches import BatchPlan
from jobs.data.prepared import PreparedClip
from jobs.spec import EngineSpec, TrialSpec
from jobs.training.host import Host
from jobs.training.schedule import learning_rate
from jobs.training.slot import stream_seed
from tests.toy import toy_base, toy_clips, toy_trial

pytestmark = pytest.mark.usefixtures("process_group")

STEPS = 20
Weights = dict[str, Tensor]


def five(dropout: float) -> dict[str, TrialSpec]:
    """Everything that a pack must keep apart differs."""
    training = [
        {"rank": 8, "learning_rate": 5e-3, "batch_size": 2, "clip": 1.0},
        {"rank": 16, "learning_rate": 2e-3, "batch_size": 1, "clip": 0.1, "accumulation": 2},
        {"rank": 32, "learning_rate": 1e-3, "batch_size": 3, "clip": None, "accumulation": 3},
        {"rank": 64, "learning_rate": 3e-3, "batch_size": 4, "clip": 0.5, "schedule": "cosine"},
        {"rank": 128, "learning_rate": 5e-4, "batch_size": 2, "weight_decay": 0.1, "alpha": 32.0},
    ]
    return {
        f"r{each['rank']}": toy_trial(**each, dropout=dropout, seed=seed, epochs=40, warmup_steps=3)
        for seed, each in enumerate(training)
    }


@pytest.fixture(scope="module")
def clips() -> list[PreparedClip]:
    """Of one to three words, so that every batch is ragged."""
    return toy_clips(count=26, validation=2)


def new_host(clips: list[PreparedClip]) -> Host:
    return Host(toy_base(hidden=64), clips, EngineSpec())


def train(host: Host, slots: list[str]) -> None:
    """One pass; whoever ends an epoch with it begins the next."""
    assert host.step(slots) == {}
    for slot in slots:
        if host.epoch_is_over(slot):
            host.end_epoch(slot)


def alone(trial: TrialSpec, clips: list[PreparedClip], passes: int) -> Weights:
    host = new_host(clips)
    host.attach("alone", trial)
    for _ in range(passes):
        train(host, ["alone"])
    return host.weights("alone")


def difference(one: Weights, other: Weights) -> float:
    assert one.keys() == other.keys()
    assert len(one) == 28
    return max((one[key] - other[key]).abs().max().item() for key in one)


def plain(trial: TrialSpec, clips: list[PreparedClip], passes: int) -> Weights:
    """PEFT, torch's AdamW and Hugging Face's own attention; nothing of the host's."""
    spec, base = trial.training, toy_base(hidden=64)
    base.model.set_attn_implementation("sdpa")
    examples = [e for e, c in zip(base.examples(clips), clips, strict=True) if c.split == "train"]
    torch.manual_seed(stream_seed(spec.seed, "adapter"))
    model = get_peft_model(
        base.model,
        LoraConfig(
            r=spec.rank,
            lora_alpha=spec.scaling_alpha,
            lora_dropout=spec.dropout,
            target_modules=list(spec.targets),
        ),
    ).train()
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(
        parameters.values(), betas=spec.betas, weight_decay=spec.weight_decay
    )
    plan = BatchPlan(len(examples), spec.batch_size, spec.accumulation, spec.seed)
    for step, position, micro_batches in passes_of(plan, passes):
        if position == 0:
            torch.manual_seed(stream_seed(spec.seed, f"step {step}, rank 0"))
        batch = base.collate([examples[i] for i in micro_batches[position]])
        logits = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).logits
        loss = nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
        )
        targets = base.targets([examples[i] for each in micro_batches for i in each])
        (loss / targets).backward()
        if position < len(micro_batches) - 1:
            continue
        if spec.clip:
            nn.utils.clip_grad_norm_(parameters.values(), spec.clip)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(spec, step, plan.steps_per_epoch * spec.epochs)
        optimiser.step()
        optimiser.zero_grad()
    return {n.replace(".default.", "."): p.detach().clone() for n, p in parameters.items()}


def passes_of(plan: BatchPlan, passes: int) -> Iterator[tuple[int, int, tuple[tuple[int, ...], ...]]]:
    """The first ``passes`` of a training: optimiser step, micro-batch in it, all of the step's."""
    step = 0
    for epoch in range(1, passes + 1):
        for micro_batches in plan.epoch(epoch):
            for position in range(len(micro_batches)):
                if passes == 0:
                    return
                passes -= 1
                yield step, position, micro_batches
            step += 1


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_pack_of_five_equals_each_alone_and_plain_peft(clips, dropout):
    host = new_host(clips)
    for name, trial in five(dropout).items():
        host.attach(name, trial)
    for _ in range(STEPS):
        train(host, list(five(dropout)))
    for name, trial in five(dropout).items():
        packed = host.weights(name)
        assert max(abs(tensor).max().item() for key, tensor in packed.items() if "_B" in key) > 0
        assert difference(packed, alone(trial, clips, STEPS)) == 0.0
        assert difference(packed, plain(trial, clips, STEPS)) == 0.0
