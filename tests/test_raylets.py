"""The cluster that tests run against: several nodes, on loopback alone, behind a token."""

import json
import subprocess
import sys

import psutil
import pytest
import requests

from tests.raylets import Raylets, raylets, wait_until

pytestmark = pytest.mark.full

_DRIVER = """
import json, sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
where = ray.remote(lambda: ray.get_runtime_context().get_node_id())
chosen = [
    where.options(num_cpus=0, num_gpus=1).remote(),
    where.options(num_cpus=0, label_selector={"market": "spot"}).remote(),
    where.options(num_cpus=0, resources={"here": 1}).remote(),
]
print(json.dumps([*ray.get(chosen), ray.get_runtime_context().get_node_id()]))
"""


def drive(cluster: Raylets, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _DRIVER, cluster.address],
        env={**cluster.environment, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def cluster(job_cluster):
    return job_cluster


def states(cluster: Raylets) -> dict[str, str]:
    """The state of each node by its id, as the head has it."""
    answer = requests.get(
        f"{cluster.dashboard_url}/api/v0/nodes",
        headers={"Authorization": f"Bearer {cluster.token}"},
        timeout=60,
    )
    rows = answer.json()["data"]["result"]["result"]
    return {row["node_id"]: row["state"] for row in rows}


def test_it_has_the_nodes_that_were_asked_for_and_loses_the_one_that_is_killed(cluster):
    node = cluster.add(gpus=1, labels={"market": "spot"}, resources={"here": 1.0})
    driven = drive(cluster)
    assert driven.returncode == 0, driven.stderr
    *tasks, driver = json.loads(driven.stdout.splitlines()[-1])
    assert tasks == [node.id] * 3
    assert driver == cluster.head.id
    assert states(cluster) == {cluster.head.id: "ALIVE", node.id: "ALIVE"}

    workers = psutil.Process(node.processes["raylet"]).children(recursive=True)
    assert workers
    cluster.kill(node)
    wait_until(lambda: states(cluster) == {cluster.head.id: "ALIVE", node.id: "DEAD"})
    wait_until(lambda: not {each.pid for each in workers} & {p.pid for p in cluster.processes()})


def test_it_listens_on_loopback_alone(cluster):
    listening = {
        (process.pid, connection.laddr.ip.removeprefix("::ffff:"))
        for process in cluster.processes()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN or connection.type.name == "SOCK_DGRAM"
    }
    assert {ip for _, ip in listening} == {"127.0.0.1"}
    for kind in ("gcs_server", "raylet", "dashboard"):
        assert cluster.head.processes[kind] in {pid for pid, _ in listening}


def test_it_refuses_another_token(cluster, tmp_path):
    other = tmp_path / "other"
    other.write_text("0" * 64)
    driven = drive(cluster, RAY_AUTH_TOKEN_PATH=str(other))
    assert driven.returncode != 0
    assert "InvalidAuthToken" in driven.stderr
    for headers in ({}, {"Authorization": f"Bearer {'0' * 64}"}):
        answer = requests.get(f"{cluster.dashboard_url}/api/jobs/", headers=headers, timeout=60)
        assert answer.status_code in {401, 403}


def test_nothing_of_it_is_left():
    with raylets() as cluster:
        cluster.add()
        running = cluster.processes()
        assert {"gcs_server", "raylet"} <= {process.name() for process in running}
        cluster.kill_head()
        token_file = cluster.token_file
    assert not any(process.is_running() for process in running)
    assert not token_file.parent.exists()
