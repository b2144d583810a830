"""Train one trial without Ray: ``python -m jobs JOB.yaml --storage URL``.

With several ranks, start it through ``torch.distributed.run --nproc-per-node N -m jobs ...``. Every
epoch is committed under ``job/trials/<id>/``; the same command again goes on after the newest whole
one. A damaged epoch is set aside.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import ValidationError, model_validator
from torch.distributed import ReduceOp, all_reduce, get_rank, get_world_size

from cluster.storage.base import Storage, StorageKey, open_storage
from cluster.storage.committed import DamagedError
from jobs.data.checks.target import checked_clips
from jobs.data.prepared.files import read_prepared
from jobs.data.prepared.keys import JOB_FOLDER, data_key
from jobs.data.prepared.prepare import prepare
from jobs.families.base import device_of
from jobs.families.registry import check_layers, load_base, with_default_targets
from jobs.problems import InputError, Problem
from jobs.spec.data import DataSpec
from jobs.spec.strict import Strict
from jobs.spec.trial import (
    READING_KEYS,
    EngineSpec,
    HostSpec,
    TrainingSpec,
    TrialSpec,
    place,
)
from jobs.spec.yaml_files import load_yaml
from jobs.training.engine.start import start_distributed
from jobs.training.epochs import checkpoint_key
from jobs.training.host import Host

_BAD_INPUT = 2

log = logging.getLogger("jobs")


class JobSpec(Strict):
    """One trial as written in YAML."""

    host: HostSpec
    data: DataSpec = DataSpec()
    training: TrainingSpec = TrainingSpec()
    engine: EngineSpec = EngineSpec()

    @model_validator(mode="before")
    @classmethod
    def _fill_targets(cls, values: Any) -> Any:  # noqa: ANN401 (whatever YAML held)
        host = values.get("host") if isinstance(values, Mapping) else None
        if not isinstance(host, Mapping):
            return values
        training = with_default_targets(host.get("family"), values.get("training", {}))
        return {**values, "training": training}

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for key in READING_KEYS:
            if key in self.host.model_fields_set:
                raise ValueError(f"host.{key} follows data.{key}: write that one alone")
        self.data.mix(self.training.mix)
        return self

    @property
    def loaded(self) -> HostSpec:
        """What is loaded: the base reads texts as the data has them."""
        return self.host.reading(self.data)


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs", description=__doc__)
    parser.add_argument("job", type=Path, help="YAML with host, data, training, engine")
    parser.add_argument(
        "--storage",
        required=True,
        help="a directory or s3://bucket/prefix, where checkpoints are kept",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        train(JobSpec.model_validate(load_yaml(options.job.read_text())), options.storage)
    except (InputError, ValidationError, OSError) as error:
        log.error("%s: %s", options.job, error)
        return _BAD_INPUT
    return 0


def train(job: JobSpec, storage_url: str) -> None:
    """Train to the job's last epoch, from the newest whole one on.

    Raises:
        InputError: the data is bad or does not fit the training, or another number of processes
            runs than the job says.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        # As on a sweep's hosts: among how many threads a sum is divided decides how it rounds.
        torch.set_num_threads(1)
    start_distributed()
    if get_world_size() != job.engine.ranks:
        what = f"engine.ranks must be the number of processes, {get_world_size()}"
        hint = "Correct it, or start as many with torch.distributed.run."
        raise InputError([Problem("engine.ranks", f"{what}, got {job.engine.ranks}", hint)])
    try:
        check_layers(job.host, job.training)
    except ValueError as error:
        hint = "Correct the job, or name another base."
        raise InputError([Problem("training", str(error), hint)]) from error
    storage = open_storage(storage_url)
    clips = checked_clips(job.data, job.loaded)
    base = load_base(job.loaded)
    # Every rank asks; the first to come encodes, if nobody has, and the others wait for it.
    prepared = prepare(clips, base, storage, job.data)
    trial = TrialSpec(
        family=job.host.family,
        base_digest=base.digest,
        data_digest=prepared.digest,
        training=job.training,
        engine=job.engine,
        mix=job.data.mix(job.training.mix),
    )
    log.info("%d clips, %d of them encoded now", prepared.clips, prepared.encoded)
    data = read_prepared(storage.fetch(data_key(prepared.digest)))
    try:
        base.fit_speakers(data)
    except ValueError as error:
        hint = "Correct the manifest, or name another base."
        raise InputError([Problem("data.manifest", str(error), hint)]) from error
    host = Host(base, data, job.engine, storage)
    _advance(host, trial, storage, is_writer=get_rank() == 0)


def _advance(host: Host, trial: TrialSpec, storage: Storage, *, is_writer: bool) -> None:
    training = trial.training
    keys = [checkpoint_key(JOB_FOLDER, trial.id, e + 1) for e in range(training.checkpoints)]
    every = training.checkpoint_steps
    try:
        done = _attach_newest(host, trial, storage, keys)
    except ValueError as error:
        raise InputError([Problem("training", str(error), "Correct the job.")]) from error
    if done:
        last = place(len(keys), every).partition(" ")[2]
        log.info("%s goes on after %s of %s", trial.id, place(done, every), last)
    for key in keys[done:]:
        losses = host.advance(trial.id)
        snapshot = host.snapshot(trial.id)
        if not is_writer:
            continue
        with storage.commit(key) as directory:
            snapshot.write(directory, losses)
        log.info(
            "%s %s: training loss %.4f, validation loss %.4f",
            trial.id,
            place(losses.epoch, every),
            losses.training_loss,
            losses.validation_loss,
        )


def _attach_newest(
    host: Host, trial: TrialSpec, storage: Storage, keys: Sequence[StorageKey]
) -> int:
    """Attach the trial as its newest whole epoch left it, and say which that is; 0 for none.

    ``keys`` are those of its checkpoints, from epoch 1 on.
    """
    found = [int(storage.is_committed(key)) for key in keys]
    committed = torch.tensor(found, device=device_of(host.base.model))
    if get_world_size() > 1:
        all_reduce(committed, ReduceOp.MIN)  # one answer, before anybody sets an epoch aside
    for epoch in range(len(keys), 0, -1):
        if committed[epoch - 1]:
            try:
                host.attach(trial.id, trial, keys[epoch - 1])
            except DamagedError as error:
                log.warning("%s. Going on from the epoch before it.", error)
            else:
                return epoch
    host.attach(trial.id, trial)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
