"""DeepSpeed does what a plain loop does, and clips what is ours."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import deepspeed
import numpy as np
import pytest
import torch
from deepspeed import comm as deepspeed_comm
from deepspeed.comm.torch import build_shm_op
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy

from cluster.storage.base import LocalStorage, StorageKey
from jobs.families.layout import IGNORED_LABEL, Example
from jobs.spec.trial import EngineSpec, TrainingSpec
from jobs.training.adapter import Adapters
from jobs.training.engine.base import MicroStep
from jobs.training.engine.start import start_engine
from jobs.training.host import Host
from jobs.training.packing import AdapterUse
from tests.toy import toy_base, toy_clips, toy_trial

pytestmark = pytest.mark.usefixtures("process_group")


def test_the_op_that_compiles_for_minutes_is_off():
    assert deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] is False
    assert build_shm_op() is None
    assert deepspeed_comm.comm.cdb.shm_comm_op is None


# Independent of jobs.training: its own order, padding, loss, accumulation, clipping, optimiser.


def padded(examples: list[Example], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    length = max(len(e.input_ids) for e in examples)
    rest = [length - len(e.input_ids) for e in examples]
    rows = list(zip(examples, rest, strict=True))
    return (
        torch.tensor([e.input_ids + [pad] * r for e, r in rows]),
        torch.tensor([e.labels + [IGNORED_LABEL] * r for e, r in rows]),
        torch.tensor([[1] * len(e.input_ids) + [0] * r for e, r in rows]),
    )


def steps_of_epoch(clips: int, spec: TrainingSpec, epoch: int) -> Iterator[list[list[int]]]:
    order = list(np.random.default_rng([spec.seed, epoch]).permutation(clips))
    size = spec.batch_size
    batches = [order[at : at + size] for at in range(0, clips, size)]
    for at in range(0, len(batches), spec.accumulation):
        yield batches[at : at + spec.accumulation]


def plain_loop(
    spec: TrainingSpec, initial: dict[str, Tensor]
) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of every step, and the weights they end in."""
    assert spec.clip is not None
    base = toy_base()
    examples = base.examples([clip for clip in toy_clips() if clip.split == "train"])
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=2 * spec.rank,
        lora_dropout=spec.dropout,
        target_modules=list(spec.targets),
    )
    model = get_peft_model(base.model, config)
    model.train()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    parameters = {name.replace(".default.", "."): p for name, p in trained.items()}
    assert parameters.keys() == initial.keys()
    for name, parameter in parameters.items():
        parameter.data.copy_(initial[name])
    optimiser = torch.optim.AdamW(
        parameters.values(),
        lr=0.0,
        betas=spec.betas,
        weight_decay=spec.weight_decay,
        fused=True,
    )
    losses: list[float] = []
    for epoch in range(1, spec.epochs + 1):
        for batches in steps_of_epoch(len(examples), spec, epoch):
            # The stream of a step, as checkpoints document it: seed, step, rank.
            stream = hashlib.sha256(f"{spec.seed}: step {len(losses)}, rank 0".encode()).digest()
            torch.manual_seed(int.from_bytes(stream[:8], "big") >> 1)
            clips = [examples[i] for batch in batches for i in batch]
            targets = sum(label != IGNORED_LABEL for e in clips for label in e.labels)
            total = 0.0
            for batch in batches:
                ids, labels, mask = padded([examples[i] for i in batch], base.stream.pad_id)
                logits = model(input_ids=ids, attention_mask=mask).logits
                predicted, wanted = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
                loss = cross_entropy(predicted, wanted, reduction="sum")
                (loss / targets).backward()
                total += loss.item()
            losses.append(total / targets)
            gradients = [p.grad for p in parameters.values() if p.grad is not None]
            norm = torch.linalg.vector_norm(
                torch.stack([torch.linalg.vector_norm(g) for g in gradients])
            )
            for gradient in gradients:
                gradient.mul_(torch.clamp(spec.clip / (norm + 1e-6), max=1.0))
            warmth = min(1.0, len(losses) / spec.warmup_steps)
            optimiser.param_groups[0]["lr"] = spec.learning_rate * warmth
            optimiser.step()
            optimiser.zero_grad()
    return losses, {name: p.detach() for name, p in parameters.items()}


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_stage_0_is_a_plain_loop_bit_for_bit(dropout: float):
    trial = toy_trial(
        dropout=dropout,
        batch_size=3,
        accumulation=2,
        epochs=3,
        warmup_steps=3,
        weight_decay=0.1,
        betas=(0.8, 0.95),
        clip=0.5,
        seed=11,
    )
    host = Host(toy_base(), toy_clips(), EngineSpec())
    host.attach("slot", trial)
    initial = host.weights("slot")
    step_losses: list[float] = []
    for _ in range(3):
        step_losses += host.advance("slot").step_losses
    losses, weights = plain_loop(trial.training, initial)
    assert len(losses) == 6  # 7 clips: steps of two micro-batches and of one
    assert step_losses == pytest.approx(losses, rel=1e-6)
    ours = host.weights("slot")
    assert [name for name in weights if not torch.equal(ours[name], weights[name])] == []
    assert [name for name in weights if torch.equal(ours[name], initial[name])] == []


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("clip", [0.5, None])
def test_a_large_gradient_is_clipped_to_the_adapters_norm(zero_stage: int, clip: float | None):
    base = toy_base()
    trial = toy_trial(zero_stage=zero_stage, clip=clip, dropout=0.0)
    engine = start_engine(base.model, trial.engine)
    adapters = Adapters(base)
    adapters.add("slot", trial.training)
    engine.open("slot", adapters.parameters("slot"), trial.training)
    batch = base.collate(base.examples(toy_clips(count=4)))
    steps = {"slot": MicroStep(1e-3, last=True)}
    with adapters.rows.owned_by([AdapterUse("slot")]):
        (loss,) = base.loss_sums(engine.model, [batch], adapters.rows.share)
        engine.backward(1000 * loss, steps)
    engine.step(steps)
    # After its first step AdamW's exp_avg is the gradient times 1 - beta1.
    seen = [m for name, m in engine.moments("slot").items() if name.startswith("exp_avg/")]
    norm = torch.linalg.vector_norm(torch.cat([m.flatten() for m in seen])).item() / 0.1
    if clip is None:
        assert norm > 1000
    else:
        assert norm == pytest.approx(clip, rel=1e-4)
    # DeepSpeed's own default is 1.0, over every slot that it knows.
    assert isinstance(engine.model, deepspeed.DeepSpeedEngine)
    assert engine.model.gradient_clipping() == (0.0 if zero_stage == 0 else clip or 0.0)
    engine.close("slot")


def of_loraplus(stage: int, storage: LocalStorage, resume: StorageKey | None) -> Host:
    trial = toy_trial(zero_stage=stage, dropout=0.1, loraplus_lr_ratio=8.0, clip=0.3, seed=3)
    host = Host(toy_base(), toy_clips(), EngineSpec(zero_stage=stage), storage)
    host.attach("slot", trial, resume)
    return host


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_loraplus_is_the_same_at_every_stage_and_resumes(zero_stage: int, tmp_path: Path):
    storage = LocalStorage(tmp_path)
    plain = of_loraplus(0, storage, None)
    host = of_loraplus(zero_stage, storage, None)
    for _ in range(2):
        plain.advance("slot")
    losses = host.advance("slot")
    snapshot = host.snapshot("slot")
    with storage.commit("epoch-1") as directory:
        snapshot.write(directory, losses)
    host.advance("slot")
    whole = host.weights("slot")
    host.detach("slot")
    for name, weight in plain.weights("slot").items():
        torch.testing.assert_close(whole[name], weight, atol=2e-5, rtol=1e-3)
    resumed = of_loraplus(zero_stage, storage, StorageKey("epoch-1"))
    resumed.advance("slot")
    assert [n for n, w in resumed.weights("slot").items() if not torch.equal(w, whole[n])] == []
    resumed.detach("slot")
