"""The machine that a command runs on: its GPUs, its CPUs and the room on its disk."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Gpu:
    """A GPU, as its driver names it."""

    name: str
    memory: float
    """GiB."""


@dataclass(frozen=True)
class Machine:
    """What a sweep could use here."""

    gpus: tuple[Gpu, ...]
    cpus: int
    """That this process may use."""
    free_disk: float
    """GB where sweeps are stored."""


def this_machine(storage: Path) -> Machine:
    """This machine; ``storage`` is where sweeps are, or will be."""
    existing = next(path for path in (storage, *storage.parents) if path.is_dir())
    free = shutil.disk_usage(existing).free / 1e9
    return Machine(_gpus(), len(os.sched_getaffinity(0)), free)


def _gpus() -> tuple[Gpu, ...]:
    """By NVIDIA's own tool: torch would take seconds, and the command loads no model."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", *_QUERY], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [line.rpartition(",") for line in listed.splitlines() if "," in line]
    return tuple(Gpu(name.strip(), float(memory) / 1024) for name, _, memory in rows)
