"""A local Ray cluster can be reached from this machine alone, and with its token alone."""

import ipaddress
import json
import os
import subprocess
import sys

import pytest

# Prints the address, what the cluster's processes listen on, and what a stranger with a token of
# its own got.
PROGRAM = """
import json, os, subprocess, sys
import psutil
from cluster.ray.connect import ray_cluster

STRANGER = '''
import sys
from cluster.ray.connect import ray_cluster
try:
    with ray_cluster(sys.argv[1]):
        import ray
        print(f"inside, {len(ray.nodes())} node")
except ConnectionError as error:
    print(f"outside: {error}")
'''

# As they were before this process chose how long its own cluster may take to start.
BEFORE = dict(os.environ)

def connect(address, **environment):
    return subprocess.Popen(
        [sys.executable, "-P", "-c", STRANGER, address],
        env={**BEFORE, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

with ray_cluster(None):
    import ray

    assert ray.get(ray.remote(lambda: os.environ["OMP_NUM_THREADS"]).remote()) == "1"

    def origins():
        import cluster, jobs, orchestrator

        return [module.__file__ for module in (cluster, jobs, orchestrator)]

    assert ray.get(ray.remote(origins).remote()) == origins()
    me = psutil.Process()
    listening = []
    for process in (me, *me.children(recursive=True)):
        try:
            sockets = process.net_connections("inet")
        except psutil.NoSuchProcess:
            continue  # a spare worker that Ray has just ended
        open_ones = [s for s in sockets if s.status == psutil.CONN_LISTEN]
        listening += [(process.name(), socket.laddr.ip) for socket in open_ones]
    address = ray.get_runtime_context().gcs_address
    strangers = {
        "right": connect(address),
        # By itself it asks 20 times, a second apart.
        "wrong": connect(
            address, RAY_AUTH_TOKEN_PATH=sys.argv[1], RAY_NUM_REDIS_GET_RETRIES="2"
        ),
    }
    answers = {name: stranger.communicate()[0] for name, stranger in strangers.items()}
print(json.dumps({"address": address, "listening": listening, **answers}))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> dict:
    """What the program saw, in a process of its own: Ray reads its settings when imported."""
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text("0" * 64)
    # A user's own modules that are named as our packages, where the command is called.
    user = tmp_path_factory.mktemp("user")
    for name in ("cluster.py", "orchestrator.py", "jobs/__init__.py"):
        (user / name).parent.mkdir(exist_ok=True)
        (user / name).write_text("raise RuntimeError('not ours')")
    ended = subprocess.run(
        # -P: the driver itself does not import from there, as the installed command does not.
        [sys.executable, "-P", "-c", PROGRAM, str(token)],
        cwd=user,
        # RAY_ADDRESS is what Ray would join without being told to.
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_every_socket_is_on_loopback(cluster):
    assert len(cluster["listening"]) >= 3
    assert {"gcs_server", "raylet"} <= {name for name, _ in cluster["listening"]}
    for name, ip in cluster["listening"]:
        parsed = ipaddress.ip_address(ip)
        inner = getattr(parsed, "ipv4_mapped", None) or parsed
        assert inner.is_loopback, (name, ip)


def test_the_token_is_asked_for(cluster):
    assert "inside, 1 node" in cluster["right"]
    assert "inside" not in cluster["wrong"]
    assert "outside: " in cluster["wrong"]
    assert "InvalidAuthToken" in cluster["wrong"]
