"""Hosts that leave, and ghosts: what they commit when they are told to go, or wake up too late.

The hosts are real processes on a real local Ray, without a model."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.ray.connect import ray_cluster
from cluster.storage.base import LocalStorage
from orchestrator.hosts.leased_slot import HostLostError, SlotPreemptedError
from tests.orchestrator.hosts.cluster import GO_ON, STOP, TERM, fake_cluster
from tests.orchestrator.hosts.fake_loop import fake_trial

LEASE = 10.0
"""Seconds; enough for a grant to be used, and soon over."""

T, U = (fake_trial(seed) for seed in range(2))


@pytest.fixture(scope="module", autouse=True)
def _ray():
    with ray_cluster(None):
        yield


@pytest.fixture(scope="module")
def beside():
    """Starts calls that wait."""
    with ThreadPoolExecutor(4) as threads:
        yield threads.submit


def keys(trial, epoch):
    return f"trials/{trial.id}/epoch-{epoch:03d}", f"trials/{trial.id}/partial/epoch-{epoch:03d}"


def test_a_host_that_is_told_to_end_commits_what_it_has_and_its_trials_move(tmp_path, beside):
    """By a real SIGTERM to the actor's process."""
    partial = f"{keys(T, 2)[1]}-step-000003"
    with fake_cluster(tmp_path, hosts=2) as cluster:
        cluster.beat_until(lambda state: state["free"] == 4)
        slot, other = cluster.slot(), cluster.slot()
        slot.attach(T, None)
        other.attach(U, None)
        slot.advance(*keys(T, 1))
        cluster.hold(f"advance {T.id}")
        cluster.order(f"advance {T.id}", "cut")
        advance = beside(slot.advance, *keys(T, 2))
        cluster.wait_for(f"advance {T.id}", 2)
        os.kill(cluster.process_serving(T), TERM)
        cluster.wait_for(f"cut {T.id}")
        assert not advance.done()  # nobody moves before there is something to go on from
        cluster.let(f"advance {T.id}")
        with pytest.raises(SlotPreemptedError, match="SIGTERM"):
            advance.result()
        storage = LocalStorage(tmp_path)
        assert storage.is_committed(partial)
        assert not storage.is_committed(keys(T, 2)[0])
        slot.attach(T, partial)
        assert slot.advance(*keys(T, 2)).epoch == 2
        assert other.advance(*keys(U, 1)).epoch == 1  # its neighbour was left alone
        # It is back, as a new process.
        cluster.beat_until(lambda state: all(host["is_open"] for host in state["hosts"]))
        assert cluster.state()["deaths"] == 1
        slot.release()
        other.release()
        cluster.wait_until_empty()


def test_a_ghost_that_wakes_up_commits_nothing(tmp_path, beside):
    """A whole host is stopped, as a node is that nobody can reach, and goes on too late."""
    with fake_cluster(tmp_path, hosts=2, slots=1, lease=LEASE) as cluster:
        cluster.beat_until(lambda state: state["free"] == 2)
        ghost, newer = cluster.slot(), cluster.slot()
        ghost.attach(T, None)
        cluster.hold(f"advance {T.id}")
        advance = beside(ghost.advance, *keys(T, 1))
        cluster.wait_for(f"advance {T.id}")
        process = cluster.process_serving(T)
        os.kill(process, STOP)
        # Another process takes the trial up; it waits until the ghost's lease is over for certain.
        moved = beside(newer.attach, T, None)
        cluster.beat_until(lambda state: moved.done())
        moved.result()
        cluster.let(f"advance {T.id}")
        os.kill(process, GO_ON)
        with pytest.raises(HostLostError):
            advance.result()
        assert not LocalStorage(tmp_path).exists(f"{keys(T, 1)[0]}/COMMITTED")
        cluster.beat()
        assert newer.advance(*keys(T, 1)).epoch == 1
        newer.release()
        cluster.wait_until_empty()


@pytest.mark.full
def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path):
    """What a host made waits until it can be committed."""
    with fake_cluster(tmp_path) as cluster:
        slot = cluster.slot()
        slot.attach(T, None)
        cluster.order(f"write {T.id}", "full")
        assert slot.advance(*keys(T, 1)).epoch == 1
        assert LocalStorage(tmp_path).is_committed(keys(T, 1)[0])
        assert len(cluster.happened("write")) == 2
        assert len(cluster.happened("advance")) == 1
        slot.release()
        cluster.wait_until_empty()
