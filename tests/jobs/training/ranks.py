"""What the tests of ZeRO stages train, in this process and in groups of two."""

from collections.abc import Mapping
from pathlib import Path

from torch import distributed as dist

from jobs.spec import TrialSpec
from jobs.training.engine.start import start_distributed
from jobs.training.epochs import EpochLosses
from jobs.training.host import Host
from tests.toy import toy_base, toy_clips, toy_trial

EPOCHS = 4
HALF = 2
STAGES = (0, 1, 2, 3)


def stage_host() -> Host:
    """Wide enough that ZeRO stage 3 cuts some of its layers: from 100,000 weights on.

    Seven clips to train on.
    """
    return Host(toy_base(hidden=256, layers=1), toy_clips(count=8, validation=1))


def stage_trial(stage: int, ranks: int, dropout: float = 0.1) -> TrialSpec:
    """Steps of 6 clips and of 1: with two ranks, one of them goes without."""
    return toy_trial(
        zero_stage=stage,
        ranks=ranks,
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


def pair_trials() -> dict[str, TrialSpec]:
    """What two ranks train."""
    trials = {f"stage{stage}": stage_trial(stage, ranks=2) for stage in STAGES}
    return {**trials, "no-dropout": stage_trial(2, ranks=2, dropout=0.0)}


def train(host: Host, trial: TrialSpec, out: Path, resume: Path | None = None) -> None:
    """Train to the last epoch, from ``resume`` on if given; saves every epoch."""
    host.attach(trial, resume)
    losses: EpochLosses | None = None
    while losses is None or losses.epoch < EPOCHS:
        losses = host.advance()
        directory = out / f"epoch-{losses.epoch}"
        writes = dist.get_rank() == 0
        if writes:
            directory.mkdir(parents=True)
        host.save(directory if writes else None, losses)
    host.detach()
    dist.barrier()


def train_and_resume(host: Host, trial: TrialSpec, out: Path) -> None:
    """Once through in ``whole``; once more from half-way in ``resumed``."""
    train(host, trial, out / "whole")
    train(host, trial, out / "resumed", out / "whole" / f"epoch-{HALF}")


def run_rank(rank: int, port: int, trials: Mapping[str, TrialSpec], out: Path) -> None:
    """The body of one of two processes."""
    start_distributed(rank, 2, f"127.0.0.1:{port}")
    host = stage_host()
    for name, trial in trials.items():
        train_and_resume(host, trial, out / name)
    dist.destroy_process_group()
