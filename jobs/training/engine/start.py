"""Starting DeepSpeed in a process."""

import logging
import os
import socket

import deepspeed
import torch
from torch import distributed as dist
from torch import nn
from torch._C._distributed_c10d import HashStore, Store, TCPStore

from jobs.spec.trial import EngineSpec
from jobs.training.engine.base import Engine
from jobs.training.engine.partitioned import PartitionedEngine
from jobs.training.engine.replicated import ReplicatedEngine
from jobs.training.launcher import forget_launcher

logging.getLogger("DeepSpeed").setLevel(logging.ERROR)


def start_distributed(rank: int = 0, world_size: int = 1, address: str | None = None) -> None:
    """Join the process group, once a process; ``address`` is ``host:port`` of rank 0.

    Without an address, ``torch.distributed.run`` says which rank this is; what other launchers
    left in the environment is not meant for it, and it is the only one. Uses NCCL on GPUs, gloo
    elsewhere.
    """
    if dist.is_initialized():
        return
    is_launched = address is None and dist.is_torchelastic_launched()
    if not is_launched:
        forget_launcher()
    skip_shared_memory_op()
    # DeepSpeed insists on it; a process of ours sees one device at most, which is number 0.
    os.environ.setdefault("LOCAL_RANK", "0")
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if is_launched:
        dist.init_process_group(backend)
    else:
        store: Store = HashStore()
        if address is not None:
            store = _meet(rank, world_size, address)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    deepspeed.init_distributed(dist_backend=backend, verbose=False)


def _meet(rank: int, world_size: int, address: str) -> Store:
    """The store of a group at ``host:port``, where rank 0 listens: there, and nowhere else."""
    host, _, port = address.rpartition(":")
    if rank > 0:
        return TCPStore(host, int(port), world_size, is_master=False)
    # By itself torch listens on all interfaces.
    listening = socket.create_server((host, int(port)))
    return TCPStore(
        host, int(port), world_size, is_master=True, master_listen_fd=listening.detach()
    )


def skip_shared_memory_op() -> None:
    """Keep DeepSpeed from compiling its CPU all-reduce when it starts.

    The compiler runs for minutes, and when it is killed its lock file makes every later start wait
    for ever without a word. gloo does the same job.
    """
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def start_engine(model: nn.Module, spec: EngineSpec) -> Engine:
    """The engine for a base on this process group; ``start_distributed`` comes first."""
    return ReplicatedEngine(model) if spec.zero_stage == 0 else PartitionedEngine(model, spec)
