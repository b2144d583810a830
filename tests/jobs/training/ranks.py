"""What the tests of ZeRO stages train, in this process and in groups of two."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import distributed as dist

from cluster.storage.base import DamagedError, LocalStorage
from jobs.spec.trial import EngineSpec, Precision, TrialSpec
from jobs.training.adapter import save_tensors
from jobs.training.engine.start import start_distributed
from jobs.training.epochs import EpochLosses
from jobs.training.host import Host
from tests.toy import toy_base, toy_clips, toy_trial

EPOCHS = 4
HALF = 2
STAGES = (0, 1, 2, 3)
HALF_STAGES = (0, 1, 2, 3)
WIDE_STAGES = (0, 3)
SLOT = "slot"
MIDDLE = "middle"
"""The checkpoint between the two steps of epoch ``HALF + 1``."""

DAMAGED = "damaged/epoch-1"
"""A checkpoint, one byte of which is turned over."""


def stage_host(
    stage: int, ranks: int, storage: LocalStorage, precision: Precision = "fp32"
) -> Host:
    """Wide enough that ZeRO stage 3 cuts some of its layers: from 100,000 weights on.

    Seven clips to train on.
    """
    engine = EngineSpec(zero_stage=stage, ranks=ranks, precision=precision)
    clips = toy_clips(count=8, validation=1)
    base = toy_base(hidden=256, layers=1)
    if precision == "bf16":
        base.model.bfloat16()
    return Host(base, clips, engine, storage)


def stage_trial(
    stage: int,
    ranks: int,
    dropout: float = 0.1,
    rank: int = 4,
    learning_rate: float = 5e-3,
    precision: Precision = "fp32",
) -> TrialSpec:
    """Steps of 6 clips and of 1: with two ranks, one of them goes without."""
    return toy_trial(
        zero_stage=stage,
        ranks=ranks,
        precision=precision,
        rank=rank,
        learning_rate=learning_rate,
        dropout=dropout,
        targets=("q_proj", "gate_proj", "down_proj"),
        batch_size=3,
        accumulation=2,
        epochs=EPOCHS,
        schedule="cosine",
        warmup_steps=3,
        weight_decay=0.1,
        clip=0.5,
        seed=7,
    )


def wide_trial(stage: int, ranks: int) -> TrialSpec:
    """Of a rank at which ZeRO stage 3 cuts the adapter as well as the base."""
    return stage_trial(stage, ranks, rank=200, learning_rate=5e-4)


def half_trial(stage: int, ranks: int) -> TrialSpec:
    """Over a base in half precision."""
    return stage_trial(stage, ranks, precision="bf16")


def pair_trials() -> dict[str, TrialSpec]:
    """What two ranks train."""
    return {
        **{f"stage{stage}": stage_trial(stage, ranks=2) for stage in STAGES},
        **{f"wide{stage}": wide_trial(stage, ranks=2) for stage in WIDE_STAGES},
        **{f"half{stage}": half_trial(stage, ranks=2) for stage in HALF_STAGES},
        "no-dropout": stage_trial(2, ranks=2, dropout=0.0),
    }


def train(
    host: Host, trial: TrialSpec, storage: LocalStorage, out: str, resume: str | None = None
) -> None:
    """Train to the last epoch, from ``resume`` on if given; saves every epoch under ``out``.

    Uninterrupted, it saves the middle of an epoch as well.
    """
    host.attach(SLOT, trial, resume)
    losses: EpochLosses | None = None
    while losses is None or losses.epoch < EPOCHS:
        if resume is None and losses is not None and losses.epoch == HALF:
            for _ in range(trial.training.accumulation):
                assert host.step([SLOT]) == {}
            assert not host.epoch_is_over(SLOT)
            save(host, storage, f"{out}/{MIDDLE}", None)
        losses = host.advance(SLOT)
        save(host, storage, f"{out}/epoch-{losses.epoch}", losses)
    host.detach(SLOT)
    dist.barrier()


def save(host: Host, storage: LocalStorage, key: str, losses: EpochLosses | None) -> None:
    """Every rank takes the snapshot, and one commits it."""
    snapshot = host.snapshot(SLOT)
    if dist.get_rank() == 0:
        with storage.commit(key) as directory:
            snapshot.write(directory, losses)
    dist.barrier()


def train_and_resume(host: Host, trial: TrialSpec, storage: LocalStorage, out: str) -> None:
    """Once through in ``whole``; from half-way in ``resumed``, from amid an epoch in ``amid``."""
    train(host, trial, storage, f"{out}/whole")
    train(host, trial, storage, f"{out}/resumed", f"{out}/whole/epoch-{HALF}")
    train(host, trial, storage, f"{out}/amid", f"{out}/whole/{MIDDLE}")


PACKS = (("rows", "plain"), ("rows",), ("plain",))
"""Slots that are trained together."""


def train_packs(ranks: int, out: Path) -> None:
    """Slots with and without rows of their own, together and alone; files of their weights."""
    shared = {"ranks": ranks, "dropout": 0.0, "epochs": EPOCHS}
    trials = {
        "rows": toy_trial(**shared, speech_rows="trained", batch_size=3, accumulation=2),
        "plain": toy_trial(**shared, rank=2, batch_size=2, seed=1),
    }
    for names in PACKS:
        host = stage_host(0, ranks, LocalStorage(out))
        for name in names:
            host.attach(name, trials[name])
        for _ in range(2 * EPOCHS):
            assert host.step(names) == {}
            for name in names:
                if host.epoch_is_over(name):
                    host.end_epoch(name)
        folder = out / f"pack-{dist.get_rank()}" / "-".join(names)
        folder.mkdir(parents=True)
        for name in names:
            save_tensors(host.weights(name), folder / f"{name}.safetensors")


def run_rank(rank: int, port: int, trials: Mapping[str, TrialSpec], out: Path) -> None:
    """The body of one of two processes."""
    start_distributed(rank, 2, f"127.0.0.1:{port}")
    storage = LocalStorage(out)
    for name, trial in trials.items():
        engine = trial.engine
        host = stage_host(engine.zero_stage, 2, storage, engine.precision)
        train_and_resume(host, trial, storage, name)
    train_packs(2, out)
    attach_damaged(rank, out)
    dist.destroy_process_group()


def attach_damaged(rank: int, out: Path) -> None:
    """Take up a checkpoint that the first of two ranks alone finds damaged, each in its own copy.

    Each rank writes what it was told and the loss of the epoch that is trained again.
    """
    storage = LocalStorage(out / f"copy-{rank}")
    host, trial = stage_host(0, 2, storage), stage_trial(0, ranks=2)
    host.attach(SLOT, trial, None)
    host.advance(SLOT)
    snapshot = host.snapshot(SLOT)
    with storage.commit(DAMAGED) as directory:
        snapshot.write(directory, None)
    host.detach(SLOT)
    if rank == 0:
        file = storage.fetch(DAMAGED) / "adapter_model.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    told = ""
    try:
        host.attach(SLOT, trial, DAMAGED)
    except DamagedError as error:
        told = str(error)
    host.attach(SLOT, trial, None)
    loss = host.advance(SLOT).training_loss
    (out / f"told-{rank}.json").write_text(json.dumps([told, loss]))
