"""The pool on a real local Ray: waiting, lost hosts, lost pools, hung hosts. The hosts are real
processes without a model, so that every moment of a failure can be chosen."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray

from cluster.ray.connect import ray_cluster
from cluster.storage.base import LocalStorage
from jobs.training.epochs import HostBrokenError
from orchestrator.hosts.fleet import end_hosts, start_hosts
from orchestrator.hosts.leased_slot import HostLostError
from orchestrator.hosts.leases import FencedError, SlotLease
from orchestrator.hosts.pool import HostsGoneError
from orchestrator.hosts.served_leases import ClockReading
from tests.orchestrator.hosts.cluster import KILL, RESOURCES, STOP, fake_cluster
from tests.orchestrator.hosts.fake_loop import STAGE, FakeLoop, Stage, fake_task, fake_trial

HANG = 2.0
"""Seconds of silence; far more than a healthy host takes to answer beside other work."""

T, U, V = (fake_trial(seed) for seed in range(3))


@pytest.fixture(scope="module", autouse=True)
def _ray():
    with ray_cluster(None):
        yield


@pytest.fixture(scope="module")
def beside():
    """Starts calls that wait."""
    with ThreadPoolExecutor(4) as threads:
        yield threads.submit


def key(trial, epoch):
    return f"trials/{trial.id}/epoch-{epoch:03d}"


def keys(trial, epoch):
    """Of an epoch's checkpoint, and how those begin of what there is of it when it is cut short."""
    return key(trial, epoch), f"trials/{trial.id}/partial/epoch-{epoch:03d}"


def test_a_trial_waits_until_a_slot_is_free(tmp_path, beside):
    with fake_cluster(tmp_path, slots=1) as cluster:
        first, second = cluster.slot(), cluster.slot()
        first.attach(T, None)
        waiting = beside(second.attach, U, None)
        cluster.beat_until(lambda state: len(state["waiting"]) == 1)
        assert not waiting.done()
        assert cluster.state()["free"] == 0
        first.release()
        waiting.result()
        assert list(cluster.state()["leases"].values()) == [U.id]
        # The one slot was empty before the next adapter came into it.
        assert cluster.happened("detach") == [f"detach {T.id}"]
        second.release()
        cluster.wait_until_empty()


def test_a_stopped_trial_frees_its_slot_at_once(tmp_path, beside):
    """In the middle of an epoch, and without a word from the trial."""
    with fake_cluster(tmp_path, slots=1) as cluster:
        stopped, next_one = cluster.slot(), cluster.slot()
        stopped.attach(T, None)
        cluster.hold(f"advance {T.id}")
        advance = beside(stopped.advance, *keys(T, 1))
        cluster.wait_for(f"advance {T.id}")
        cluster.reap(T)
        next_one.attach(U, None)
        cluster.let(f"advance {T.id}")
        with pytest.raises(HostLostError):
            advance.result()
        with pytest.raises(FencedError):
            stopped.attach(T, None)
        cluster.reap(U)
        cluster.wait_until_empty()


def test_a_pool_that_dies_goes_on_from_what_the_hosts_serve(tmp_path, beside):
    with fake_cluster(tmp_path, hosts=2, slots=1) as cluster:
        first, second, third = (cluster.slot() for _ in range(3))
        first.attach(T, None)
        second.attach(U, None, alone=True)
        for trial in (T, U):
            cluster.hold(f"advance {trial.id}")
        advances = [beside(first.advance, *keys(T, 1)), beside(second.advance, *keys(U, 1))]
        for trial in (T, U):
            cluster.wait_for(f"advance {trial.id}")
        waiting = beside(third.attach, V, None)
        cluster.beat_until(lambda state: len(state["waiting"]) == 1)
        before = cluster.state()["leases"]

        ray.kill(cluster.pool, no_restart=False)
        # Who waited asks again by itself, and still finds no slot free.
        state = cluster.beat_until(lambda state: state["leases"] == before and state["waiting"])
        assert state["free"] == 0
        for trial in (T, U):
            cluster.let(f"advance {trial.id}")
        assert [advance.result().epoch for advance in advances] == [1, 1]
        assert first.advance(*keys(T, 2)).epoch == 2
        first.release()
        waiting.result()
        assert cluster.happened("advance").count(f"advance {T.id}") == 2
        assert cluster.happened("advance").count(f"advance {U.id}") == 1
        second.release()
        third.release()
        cluster.wait_until_empty()


def test_trials_of_a_killed_host_go_on_from_their_checkpoints(tmp_path, beside):
    with fake_cluster(tmp_path) as cluster:
        first, second = cluster.slot(), cluster.slot()
        first.attach(T, None)
        second.attach(U, None)
        first.advance(*keys(T, 1))
        cluster.hold(f"advance {T.id}")
        advance = beside(first.advance, *keys(T, 2))
        cluster.wait_for(f"advance {T.id}", 2)
        cluster.signal_host(0, KILL)
        with pytest.raises(HostLostError, match=T.id):
            advance.result()
        cluster.let(f"advance {T.id}")
        first.attach(T, key(T, 1))  # waits until the host is back
        assert first.advance(*keys(T, 2)).epoch == 2
        with pytest.raises(HostLostError):
            second.advance(*keys(U, 1))
        second.attach(U, None)
        assert second.advance(*keys(U, 1)).epoch == 1
        storage = LocalStorage(tmp_path)
        assert all(storage.is_committed(k) for k in (key(T, 1), key(T, 2), key(U, 1)))
        # Ray may tell the pool of the death after the next process serves.
        cluster.beat_until(lambda state: state["deaths"] == 1)
        first.release()
        second.release()
        cluster.wait_until_empty()


def test_a_process_that_the_pool_does_not_know_of_takes_no_lease(tmp_path):
    stage = ray.remote(Stage).options(num_cpus=0, name=STAGE).remote()
    hosts = start_hosts(fake_task(tmp_path), RESOURCES, 1, FakeLoop)
    (host,) = hosts.values()
    lease = SlotLease("lease", T.id, "holder", host=0, alone=False)
    with pytest.raises(HostBrokenError, match="started another"):
        ray.get(host.grant.remote(lease, ClockReading("an earlier one", 0.0)))
    ray.get(host.grant.remote(lease, ray.get(host.renew.remote([], None)).clock))
    assert ray.get(host.served.remote()) == [lease]
    end_hosts(hosts)
    ray.kill(stage)


@pytest.mark.full
def test_a_hung_host_is_started_anew_and_a_busy_one_left_alone(tmp_path, beside):
    with fake_cluster(tmp_path, hosts=2, hang=HANG) as cluster:
        # With one host open the other trial would come to the same one.
        cluster.beat_until(lambda state: state["free"] == 4)
        slot, busy = cluster.slot(), cluster.slot()
        slot.attach(T, None)
        busy.attach(U, None)
        cluster.hold(f"advance {T.id}")
        advance = beside(slot.advance, *keys(T, 1))
        cluster.wait_for(f"advance {T.id}")

        epochs = itertools.count(1)

        def work_and_look(state):
            busy.advance(*keys(U, next(epochs)))
            return state["hung"] >= 1 and state["free"] == 3

        state = cluster.beat_until(work_and_look)
        with pytest.raises(HostLostError):
            advance.result()
        (hung,) = [host for host in state["hosts"] if host["deaths"]]
        assert hung["deaths"][0].startswith("hung: ")
        assert f"advance {T.id}" in hung["deaths"][0]
        busy.release()
        cluster.wait_until_empty()


def test_a_host_that_answers_nothing_is_started_anew(tmp_path, beside):
    """Stopped as a whole; nothing in the process can see to it then."""
    with fake_cluster(tmp_path, hang=HANG) as cluster:
        slot = cluster.slot()
        slot.attach(T, None)
        cluster.signal_host(0, STOP)
        advance = beside(slot.advance, *keys(T, 1))
        state = cluster.beat_until(lambda state: state["hung"] >= 1 and state["free"] == 2)
        with pytest.raises(HostLostError):
            advance.result()
        assert state["deaths"] == state["hung"]
        cluster.wait_until_empty()


def test_leases_that_nobody_renews_are_detached(tmp_path):
    """The driver hangs, or pool and driver are gone: the slots are not held for ever."""
    with fake_cluster(tmp_path, lease=0.5) as cluster:
        slot = cluster.slot()
        slot.attach(T, None)
        cluster.wait_for(f"detach {T.id}")
        with pytest.raises(HostLostError, match="not renewed"):
            slot.advance(*keys(T, 1))
        cluster.wait_until_empty()


def test_a_host_that_cannot_open_is_given_up(tmp_path):
    with fake_cluster(tmp_path, source="missing") as cluster:
        with pytest.raises(HostsGoneError, match="no base there"):
            cluster.slot().attach(T, None)
        assert "no base there" in cluster.state()["hosts"][0]["gone"]


def test_a_trial_that_may_end_its_host_is_alone_on_it(tmp_path, beside):
    with fake_cluster(tmp_path) as cluster:
        poison, other, third = (cluster.slot() for _ in range(3))
        poison.attach(T, None)
        other.attach(U, None)
        alone = beside(poison.attach, T, None, alone=True)
        cluster.beat_until(lambda state: len(state["waiting"]) == 1)
        late = beside(third.attach, V, None)
        cluster.beat_until(lambda state: len(state["waiting"]) == 2)
        assert not late.done()  # though a slot is free
        other.release()
        alone.result()
        assert list(cluster.state()["leases"].values()) == [T.id]
        poison.release()
        late.result()
        third.release()
        cluster.wait_until_empty()
