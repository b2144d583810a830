"""A process of ours that is started where a launcher left its variables: Slurm, PyTorchJob, MPI."""

import json
import os
import socket
import subprocess
import sys

import psutil
import pytest

from jobs.training.engine.start import _meet
from jobs.training.launcher import forget_launcher

LEFT = {
    "MASTER_ADDR": "198.51.100.7",  # nobody is there (TEST-NET-2 of RFC 5737)
    "MASTER_PORT": "29500",
    "RANK": "3",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "3",
    "LOCAL_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "5",
    "PMI_RANK": "3",
}

ALONE = """
import json, os
import psutil, torch
from jobs.spec.trial import EngineSpec
from jobs.training.engine.start import start_distributed, start_engine
from torch import distributed as dist

start_distributed()
dist.all_reduce(torch.ones(1))
start_engine(torch.nn.Linear(2, 2), EngineSpec(zero_stage=1))
listening = [
    s.laddr.ip
    for s in psutil.Process().net_connections("inet")
    if s.status == psutil.CONN_LISTEN
]
print(json.dumps([dist.get_rank(), dist.get_world_size(), listening, os.environ["LOCAL_RANK"]]))
"""


def test_what_a_launcher_left_is_forgotten(monkeypatch):
    for name, value in LEFT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANKING", "is another's")
    forget_launcher()
    assert not LEFT.keys() & os.environ.keys()
    assert os.environ["RANKING"] == "is another's"


@pytest.mark.full
def test_a_host_of_one_rank_is_alone_whatever_a_launcher_left():
    ended = subprocess.run(
        [sys.executable, "-c", ALONE],
        env={**os.environ, **LEFT, "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    rank, ranks, listening, local = json.loads(ended.stdout.splitlines()[-1])
    assert (rank, ranks, local) == (0, 1, "0")
    assert set(listening) <= {"127.0.0.1", "::1"}


def test_ranks_meet_at_their_address_and_nowhere_else():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    store = _meet(0, 1, f"127.0.0.1:{port}")
    store.set("greeting", "here")
    assert store.get("greeting") == b"here"
    places = [
        s.laddr.ip
        for s in psutil.Process().net_connections("inet")
        if s.status == psutil.CONN_LISTEN and s.laddr.port == port
    ]
    assert places == ["127.0.0.1"]
