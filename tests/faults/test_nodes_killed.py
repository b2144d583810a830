"""``kill -9`` of a node's raylet, then of the whole cluster with the driver, in one small sweep;
then the same command on a new cluster: nothing is lost, and little is done twice.

``python -m tests.faults.battery`` has every other fault.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.storage.base import LocalStorage
from orchestrator.ledger import Ledger
from tests.cluster_sweep import WORKERS, ClusterSweep, Nodes, Outcome, begun
from tests.raylets import raylets
from tests.small_sweep import EPOCHS, NAME, RANKS, undisturbed

pytestmark = pytest.mark.full

KILLS = 2


@dataclass
class Story:
    sweep: ClusterSweep
    committed: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """What the storage held when the cluster was killed."""
    begun: Counter[str] = field(default_factory=Counter)
    held: dict[str, object] = field(default_factory=dict)

    def inodes(self) -> dict[Path, tuple[int, int]]:
        """Every file of a committed checkpoint: writing it again would give it another inode."""
        markers = Path(self.sweep.storage).glob("*/trials/*/checkpoints/epoch-*/COMMITTED")
        files = [path for marker in markers for path in marker.parent.iterdir()]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Story:
    place = tmp_path_factory.mktemp("nodes-killed")
    story = Story(ClusterSweep(place, str(place / "st")))
    with raylets(cpus=1) as cluster:
        nodes = Nodes(cluster)
        for _ in range(WORKERS):
            nodes.add()
        run = story.sweep.start(nodes)
        try:
            run.wait_for(lambda: story.sweep.epochs(1) >= 1)
            cluster.kill(nodes.of(nodes.processes("HostActor")[0]))
            run.wait_for(lambda: story.sweep.epochs(2) >= 1)
            run.kill()
            story.committed = story.inodes()
            story.begun += begun(cluster)
        finally:
            run.end()
    # Every process of that cluster was killed just now.
    with raylets(cpus=1) as cluster:
        nodes = Nodes(cluster)
        nodes.add()
        run = story.sweep.start(nodes)
        try:
            assert run.finish() == 0, run.stderr
            story.held = nodes.held()
            story.begun += begun(cluster)
        finally:
            run.end()
    return story


@pytest.fixture(scope="module")
def straight(shared_folder) -> Outcome:
    """The same sweep without a kill, on one host."""
    run = undisturbed(shared_folder)
    assert run.code == 0, run.stderr
    return Outcome.of(Ledger(LocalStorage(run.storage), NAME))


def test_no_trial_is_lost(story):
    records = story.sweep.ledger.trials()
    assert [record.training.rank for record in records] == list(RANKS)
    for record in records:
        result = story.sweep.ledger.result(record.id)
        assert (result.end, result.epochs) == ("finished", EPOCHS)


def test_at_most_one_epoch_a_kill_is_begun_again(story):
    assert len(story.begun) == len(RANKS) * EPOCHS
    assert sum(times - 1 for times in story.begun.values()) <= KILLS


def test_no_committed_epoch_is_written_again(story):
    assert story.committed
    after = story.inodes()
    assert {path: after[path] for path in story.committed} == story.committed


def test_weights_and_verdict_are_those_of_an_undisturbed_run(story, straight):
    """Bit for bit: adapters, and the optimiser that the next epoch starts from."""
    ours = Outcome.of(story.sweep.ledger)
    assert len(ours.adapters) == len(RANKS) * EPOCHS * 2
    assert ours == straight


def test_nothing_of_the_cluster_is_held_when_the_command_has_ended(story):
    assert story.held == {}
