"""A cluster as written in YAML: where jobs are submitted, and what a driver is given there.

It is its operator's own file. Nothing in it is secret, and what is does not go into it.
"""

import re
from typing import Annotated, Literal, Self

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, Field, model_validator

from cluster.file_model import ClusterFileModel
from cluster.names import scheme
from cluster.ray.connect import WORKER_ENVIRONMENT
from cluster.storage.base import STORAGES

_SECRET = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE|AUTH|_KEY$|_DSN$|COOKIE", re.I
)
"""Names of variables that hold a secret, in whatever tool."""

LOGIN = re.compile(r"://[^/?#\s]*@")
"""What an address looks like that holds a login."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OF_RAY = ("CPU", "GPU", "memory", "object_store_memory")
"""Resources that have keys of their own, or that a driver is not given."""


def _check_resources(resources: dict[str, float]) -> dict[str, float]:
    if taken := sorted(set(resources) & set(_OF_RAY)):
        raise ValueError(f"resources are a node's own; {', '.join(taken)} is none (no GPU: ever)")
    return resources


class DriverSpec(ClusterFileModel):
    """What is set aside for the driver, and on which node. It never has a GPU."""

    cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    memory: Annotated[int, Field(ge=1)] | None = None
    """Bytes; null sets none aside."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Of the node, as ``ray start --labels`` gave them."""
    resources: Annotated[
        dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]],
        AfterValidator(_check_resources),
    ] = Field(default_factory=dict)
    """Custom ones, as ``ray start --resources`` gave them."""


def _check_variables(variables: dict[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a variable")
        if _SECRET.search(name) or LOGIN.search(value):
            # Not the value: this error is shown, and the job's environment is too.
            raise ValueError(
                f"{name} looks like a secret, and everybody who sees the job sees it; give it to "
                "the nodes' own environment, or mount it as a file there"
            )
        if name.startswith("RAY_") or name in WORKER_ENVIRONMENT:
            raise ValueError(f"{name} is set by Ray or by voxsweep")
    return variables


def _check_requirement(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise ValueError(
            "a requirement is a package and its version, such as soxr==1.1.0"
        ) from None
    if requirement.url is not None:
        raise ValueError("a requirement names a package by its version, not by an address")
    return text


class EnvironmentSpec(ClusterFileModel):
    """The runtime environment of the job, over what the nodes have."""

    env_vars: Annotated[dict[str, str], AfterValidator(_check_variables)] = Field(
        default_factory=dict
    )
    """For the driver and all workers. Nothing secret."""
    pip: tuple[Annotated[str, AfterValidator(_check_requirement)], ...] = ()
    """Packages that Ray installs on each node first; none where the nodes have everything."""


class ClusterSpec(ClusterFileModel):
    """A cluster that sweeps are submitted to."""

    holds_secrets = True
    address: str | None = None
    """Of Ray Jobs, as ``http://HOST:8265``; null where ``--address`` says it."""
    storage: str | None = None
    """Where sweeps are kept, as every node reaches it; null where ``--storage`` says it."""
    nodes_share_files: bool = False
    """Whether this machine's paths lead to the same files on every node."""
    code: Literal["sent", "installed"] = "sent"
    """Whether voxsweep's code goes with each job, or is part of the nodes' image."""
    driver: DriverSpec = DriverSpec()
    environment: EnvironmentSpec = EnvironmentSpec()

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        for name in ("address", "storage"):
            if LOGIN.search(getattr(self, name) or ""):
                raise ValueError(f"{name} must hold no login")
        return self

    def storage_problem(self, url: str) -> tuple[str, str] | None:
        """What keeps the nodes from reaching a storage: the rule and the value, the next step."""
        if scheme(url) in STORAGES:
            return None
        if "://" in url:
            what = f"storage must be s3:// or a directory, got {url.partition('://')[0]}://"
            return what, "Name a bucket."
        if not self.nodes_share_files:
            what = f"storage must be one that every node reaches, but {url!r} is a directory"
            return what, (
                "Name a bucket, as s3://BUCKET/sweeps; where all nodes mount the directory, say so "
                "with nodes_share_files: true."
            )
        if not url.startswith("/"):
            what = f"storage must be an absolute path, for every node to mean the same, got {url!r}"
            return what, "Write it from / on."
        return None
