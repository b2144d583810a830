"""A Kubernetes cluster as written in YAML: where a sweep's pods go, and what they may use there."""

import itertools
import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cluster.file_model import ClusterFileModel

Quantity = Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti)$")]
"""Bytes as Kubernetes writes them."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
"""What an object of Kubernetes may be called (a DNS subdomain)."""

_IMAGE = re.compile(
    r"[^\s:@]+(:[0-9]+/[^\s:@]+)?"  # a registry may have a port
    r"(?=[:@])(:(?!latest(@|$))\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_OURS = ("/tmp", "/home/voxsweep", "/dev/shm", "/etc/voxsweep")
"""Where the pods have volumes of their own."""


def is_pinned(image: str) -> bool:
    """Whether an image has a tag other than ``latest``, or a digest."""
    return _IMAGE.fullmatch(image) is not None


def _pinned(image: str) -> str:
    if not is_pinned(image):
        raise ValueError("an image has a tag other than latest, or a digest")
    return image


class VolumeSpec(ClusterFileModel):
    """A claim that all pods mount."""

    claim: Name
    """Of a PersistentVolumeClaim in the namespace; ReadWriteMany where there are several nodes."""
    path: Annotated[str, Field(pattern=r"^/[\w./-]+$")]
    """Where it is mounted."""


class HeadSpec(ClusterFileModel):
    """The pod of the driver and of Ray's own processes. It has no GPU and trains nothing."""

    cpus: Annotated[int, Field(ge=1)] = 2
    memory: Quantity = "8Gi"
    disk: Quantity = "10Gi"
    """Of the node, for temporary files."""
    node_selector: dict[str, str] = Field(default_factory=dict)


class WorkerSpec(ClusterFileModel):
    """A pod of one host; its CPUs and GPUs are the sweep's to say."""

    memory: Quantity = "16Gi"
    shared_memory: Quantity = "2Gi"
    """Of that, for ``/dev/shm``: Ray's objects, and what NCCL's ranks exchange."""
    disk: Quantity = "20Gi"
    """Of the node, for temporary files and a base that is downloaded."""
    node_selector: dict[str, str] = Field(default_factory=dict)


class KubeSpec(ClusterFileModel):
    """A Kubernetes cluster; every key has a default."""

    namespace: Name = "voxsweep"
    service_account: Name = "voxsweep"
    image: Annotated[str, AfterValidator(_pinned)] | None = None
    """Null: the one that k8s/Dockerfile makes, by this version's name."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    storage: str = "s3://voxsweep/sweeps"
    """Where sweeps are kept; ``--storage`` comes before it."""
    head: HeadSpec = HeadSpec()
    worker: WorkerSpec = WorkerSpec()
    volumes: tuple[VolumeSpec, ...] = ()
    secrets: tuple[Name, ...] = ()
    """Secrets whose keys become environment variables of every Ray container."""
    hours: Annotated[float, Field(ge=1 / 60, le=24 * 90)] = 24.0
    """One attempt may take so long, a minute at least; then it ends, and is not tried again."""
    wait_minutes: Annotated[float, Field(ge=1)] = 60.0
    """Within what the cluster must have started, or the attempt fails."""
    retries: Annotated[int, Field(ge=1, le=20)] = 3
    """Of a job that failed, each on a Ray cluster of its own; it goes on where it was."""
    keep_minutes: Annotated[float, Field(ge=0)] = 10.0
    """So long does the Ray cluster stay after the end."""

    @model_validator(mode="after")
    def _check_volumes(self) -> Self:
        paths = [PurePosixPath(path) for path in (*(v.path for v in self.volumes), *_OURS)]
        for one, other in itertools.combinations(paths, 2):
            if one.is_relative_to(other) or other.is_relative_to(one):
                raise ValueError(f"two volumes may not lie in each other, but at {one} they do")
        return self

    def holds(self, path: str) -> bool:
        """Whether ``path`` lies on a volume of the pods."""
        pure = PurePosixPath(path)
        lexical = ".." not in pure.parts
        return lexical and any(pure.is_relative_to(volume.path) for volume in self.volumes)
