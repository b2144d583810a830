"""The machine that a command runs on: its GPUs, its CPUs and the room on its disk."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.spec.model import SweepSpec

_TYPE = re.compile(r"\w+\s+((?:[A-Z]+\s+)*[A-Z0-9]*\d[A-Z0-9]*)")
"""Ray's own pattern (NVIDIA_GPU_NAME_PATTERN of ray 2.60)."""
_CPU_INFO = Path("/proc/cpuinfo")
_QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Gpu:
    """A GPU, as its driver names it."""

    name: str
    memory: float
    """GiB."""

    @property
    def type(self) -> str:
        """As Ray names its type: ``H100`` of ``NVIDIA H100 80GB HBM3``."""
        found = _TYPE.match(self.name)
        return (found[1] if found else self.name.removeprefix("NVIDIA ")).replace(" ", "-")


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


def machine_type(spec: SweepSpec, accelerators: Iterable[str]) -> str:
    """The type of machine that the hosts of a sweep take, to compare seconds by.

    That of its GPUs, where it takes some: those that it asks for, else ``accelerators``, Ray's
    names of those that are there. Else the processor of this machine and its number of CPUs.
    """
    if spec.resources.gpus_per_rank:
        asked = spec.resources.placement.accelerator
        return asked or " or ".join(sorted(set(accelerators))) or "GPU"
    return f"{_processor()}, {os.cpu_count()} CPUs"


def _processor() -> str:
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()
