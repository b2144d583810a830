"""Real hosts on a real local Ray, over the embedded base: what they train is what a Host in this
process trains alone. To the bit; several ranks add up in another order and come close."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
import ray
import torch
from safetensors.torch import load_file

from cluster.ray.connect import ray_cluster
from cluster.storage.base import LocalStorage
from jobs.data.prepared.files import read_prepared, write_prepared
from jobs.families.registry import load_base
from jobs.spec.trial import (
    DecodingSpec,
    EngineSpec,
    HostSpec,
    PromptSpec,
    TrainingSpec,
    TrialSpec,
)
from jobs.speech.clips import read_clips
from jobs.training.host import Host
from jobs.training.packing import AdapterUse
from orchestrator.hosts.fleet import start_hosts
from orchestrator.hosts.leased_slot import HostLostError, LeasedSlot
from orchestrator.hosts.node_requirements import HostResources
from orchestrator.hosts.pool import start_pool
from orchestrator.hosts.rank_group import HostTask
from tests.losses import read_losses
from tests.toy import toy_clips

EMBEDDED = HostSpec(
    family="codec_lm", source="embedded", codec="embedded", voice=None, precision="fp32"
)
ADAPTER, MOMENTS = "adapter_model.safetensors", "optimizer.safetensors"
PROMPTS = [PromptSpec(id="p", text="one two")]


def trial(rank: int, engine: EngineSpec | None = None, dropout: float = 0.05) -> TrialSpec:
    training = {"rank": rank, "seed": rank, "batch_size": 2, "learning_rate": 2e-3}
    return TrialSpec(
        family="codec_lm",
        base_digest="",
        data_digest="",
        training=TrainingSpec(**training, dropout=dropout),
        engine=engine or EngineSpec(),
    )


def key(trial: TrialSpec, epoch: int) -> str:
    return f"{trial.engine.zero_stage}/{trial.id}/epoch-{epoch:03d}"


def partial(trial: TrialSpec, epoch: int) -> str:
    return f"{trial.engine.zero_stage}/{trial.id}/partial/epoch-{epoch:03d}"


@dataclass
class Cluster:
    storage: LocalStorage
    hosts: list[Any]
    pool: Any

    def slot(self) -> LeasedSlot:
        return LeasedSlot(self.pool)

    def kill_while_training(self, actor: str) -> None:
        """``kill -9`` of the actor's process when a step is in hand."""
        (host,) = self.hosts
        while not ray.get(host.renew.remote([], None)).progress.doing.startswith("training"):
            pass
        (process,) = [
            each for each in psutil.Process().children(recursive=True) if actor in each.name()
        ]
        os.kill(process.pid, signal.SIGKILL)

    def wait_until_empty(self) -> None:
        """Until nobody holds a slot, on the pool and on the host."""
        while ray.get(self.pool.state.remote())["leases"] or ray.get(
            [host.served.remote() for host in self.hosts]
        ) != [[]]:
            pass


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> LocalStorage:
    storage = LocalStorage(tmp_path_factory.mktemp("storage"))
    with storage.commit("data") as directory:
        write_prepared(directory, toy_clips())
    return storage


@contextmanager
def cluster(
    storage: LocalStorage, engine: EngineSpec | None = None, slots: int = 1
) -> Iterator[Cluster]:
    engine = engine or EngineSpec()
    task = HostTask(
        EMBEDDED,
        engine,
        storage.url,
        "data",
        slots,
        trial(16).training,
        (2,),
        provenance="a synthetic voice",
        lease_seconds=600.0,
    )
    with ray_cluster(None):
        hosts = start_hosts(task, HostResources({"CPU": 0.5}), 1)
        pool = start_pool(hosts, hang_seconds=600.0, lease_seconds=600.0)
        yield Cluster(storage, list(hosts.values()), pool)


class Alone:
    """The same training by a Host in this process, one trial after another."""

    def __init__(self, storage: LocalStorage) -> None:
        clips = read_prepared(storage.fetch("data"))
        self._host = Host(load_base(EMBEDDED), clips, EngineSpec(), storage)
        self._storage = storage

    def train(self, spec: TrialSpec, epochs: int) -> None:
        self._host.attach("alone", spec)
        for epoch in range(1, epochs + 1):
            losses = self._host.advance("alone")
            with self._storage.commit(f"alone/{key(spec, epoch)}") as directory:
                self._host.snapshot("alone").write(directory, losses)
        self._host.detach("alone")

    def says(self, spec: TrialSpec, epoch: int, scale: float) -> list[float]:
        self._host.attach("alone", spec, f"alone/{key(spec, epoch)}")
        ((clip,),) = self._host.speak([AdapterUse("alone", scale)], PROMPTS, DecodingSpec())
        self._host.detach("alone")
        return clip.audio.tolist()


@pytest.fixture(scope="module")
def alone(storage, process_group) -> Alone:
    return Alone(storage)


def assert_same_epoch(storage: LocalStorage, spec: TrialSpec, epoch: int) -> None:
    """The checkpoints of the cluster's training and the one alone are equal to the bit."""
    ours, theirs = (storage.fetch(f"{root}{key(spec, epoch)}") for root in ("", "alone/"))
    for file in (ADAPTER, MOMENTS):
        one, other = load_file(ours / file), load_file(theirs / file)
        assert one.keys() == other.keys()
        assert len(one) > 0
        assert [name for name in one if not torch.equal(one[name], other[name])] == []
    one, other = read_losses(ours), read_losses(theirs)
    assert one.step_losses == other.step_losses
    assert one.validation_loss == other.validation_loss


def train(slot: LeasedSlot, spec: TrialSpec, epochs: range) -> None:
    slot.attach(spec, key(spec, epochs.start - 1) if epochs.start > 1 else None)
    for epoch in epochs:
        slot.advance(key(spec, epoch), partial(spec, epoch))


def test_a_packed_host_trains_what_each_trial_would_alone(storage, alone):
    trials = [trial(rank) for rank in (2, 4, 8)]
    with cluster(storage, slots=3) as there, ThreadPoolExecutor(3) as threads:
        (plan,) = ray.get([host.ready.remote() for host in there.hosts])
        assert plan.slots == 3
        slots = [there.slot() for _ in trials]
        list(threads.map(train, slots, trials, [range(1, 3)] * 3))
        scales = (0.5, 1.0)
        clips = {scale: f"clips/{scale}" for scale in scales}
        slots[0].speak(clips, PROMPTS, DecodingSpec())
        # Another takes over a slot while two go on.
        slots[1].release()
        late = trial(16)
        again = threads.map(train, [slots[0], slots[2]], [trials[0], trials[2]], [range(3, 4)] * 2)
        train(there.slot(), late, range(1, 2))
        list(again)
        for spec in (*trials, late):
            ray.get(there.pool.reap.remote(spec.id))
        there.wait_until_empty()
    for spec, epochs in ((trials[0], 3), (trials[1], 2), (trials[2], 3), (late, 1)):
        alone.train(spec, epochs)
        for epoch in range(1, epochs + 1):
            assert_same_epoch(storage, spec, epoch)
    for scale in scales:
        (clip,) = read_clips(storage.fetch(clips[scale])).values()
        said = alone.says(trials[0], 2, scale)
        assert len(said) > 0
        assert clip.audio.tolist() == pytest.approx(said, abs=2e-4)  # 16 bits in the file


@pytest.mark.full
def test_a_killed_host_and_a_killed_pool_change_no_weights(storage, alone):
    spec = trial(6)
    with cluster(storage) as there, ThreadPoolExecutor(1) as threads:
        slot = there.slot()
        train(slot, spec, range(1, 2))
        advance = threads.submit(slot.advance, key(spec, 2), partial(spec, 2))
        there.kill_while_training("HostActor")
        with pytest.raises(HostLostError):
            advance.result()
        assert not storage.is_committed(key(spec, 2))
        train(slot, spec, range(2, 3))
        ray.kill(there.pool, no_restart=False)
        assert slot.advance(key(spec, 3), partial(spec, 3)).epoch == 3
        slot.release()
        there.wait_until_empty()
    alone.train(spec, 3)
    for epoch in (1, 2, 3):
        assert_same_epoch(storage, spec, epoch)


@pytest.mark.full
@pytest.mark.parametrize("zero_stage", [0, 3])
def test_two_ranks_train_what_one_would(storage, alone, zero_stage):
    engine = EngineSpec(zero_stage=zero_stage, ranks=2)
    spec = trial(4, engine, dropout=0.0)  # each rank draws its own
    with cluster(storage, engine) as there, ThreadPoolExecutor(1) as threads:
        slot = there.slot()
        train(slot, spec, range(1, 2))
        slot.speak({1.0: f"clips/{zero_stage}"}, PROMPTS, DecodingSpec())
        if zero_stage == 0:
            advance = threads.submit(slot.advance, key(spec, 2), partial(spec, 2))
            there.kill_while_training("PeerActor")
            with pytest.raises(HostLostError):
                advance.result()
            slot.attach(spec, key(spec, 1))
        slot.advance(key(spec, 2), partial(spec, 2))
        slot.release()
        there.wait_until_empty()
    alone.train(spec, 2)
    for epoch in (1, 2):
        together = read_losses(storage.fetch(key(spec, epoch)))
        one = read_losses(storage.fetch(f"alone/{key(spec, epoch)}"))
        assert together.step_losses == pytest.approx(one.step_losses, rel=1e-4)
        assert together.validation_loss == pytest.approx(one.validation_loss, rel=1e-4)
