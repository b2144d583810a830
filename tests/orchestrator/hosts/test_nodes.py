"""Hosts on a real cluster of several raylets: where they run, that they join with their nodes, and
that nothing of them is held when their driver ends, however it ends. The hosts have no model."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_sweep import Nodes
from tests.raylets import raylets

pytestmark = pytest.mark.full

_DRIVER = """
import json, sys
import ray
from orchestrator.hosts.fleet import end_hosts, start_hosts
from orchestrator.hosts.node_requirements import HostResources
from orchestrator.hosts.pool import start_pool
from pathlib import Path
from tests.orchestrator.hosts.fake_loop import STAGE, FakeLoop, Stage, fake_task

ray.init(address=sys.argv[1], log_to_driver=False)
stage = ray.remote(Stage).options(num_cpus=0, name=STAGE, max_concurrency=1000).remote()
resources = HostResources({"CPU": 0.5, "GPU": 1}, {"role": "worker"})
hosts = start_hosts(fake_task(Path(sys.argv[2])), resources, 2, FakeLoop)
pool = start_pool(hosts, 600.0, 600.0)
loading = [host.ready.remote() for host in hosts.values()]
while loading:
    ready, loading = ray.wait(loading)
    whole = [] if loading else [host.renew.remote([], None) for host in hosts.values()]
    print(json.dumps([heartbeat.node for heartbeat in ray.get(whole)] or None), flush=True)
sys.stdin.readline()
ray.kill(pool)
end_hosts(hosts)
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with raylets(cpus=1) as cluster:
        yield Nodes(cluster)


def drive(nodes: Nodes, place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _DRIVER, nodes.cluster.address, str(place)],
        env=nodes.cluster.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def opened(driver: subprocess.Popen[str]) -> list[str] | None:
    """Wait until one more host is ready; the nodes of all, once all are."""
    assert driver.stdout is not None
    return json.loads(driver.stdout.readline())


def test_a_host_waits_for_a_node_that_has_room_and_joins_with_it(nodes, tmp_path):
    """And a driver that ends by itself leaves nothing."""
    first = nodes.add()
    driver = drive(nodes, tmp_path)
    assert opened(driver) is None  # the other one has no room yet
    second = nodes.add()
    assert set(opened(driver) or ()) == {first.id, second.id}
    driver.communicate("\n")
    assert driver.returncode == 0
    assert nodes.held() == {}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_nothing_is_held_when_the_driver_is_ended(nodes, tmp_path, how):
    while len(nodes.workers) < 2:
        nodes.add()
    driver = drive(nodes, tmp_path)
    opened(driver)
    assert len(opened(driver) or ()) == 2
    driver.send_signal(how)
    driver.communicate()
    assert nodes.held() == {}
