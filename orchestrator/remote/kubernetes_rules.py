"""The rules that a sweep must keep to run as pods of a Kubernetes cluster."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cluster.kubernetes.spec import KubeSpec
from cluster.storage.base import STORAGES
from jobs.families.description import is_path
from jobs.problems import Problem
from jobs.spec import EMBEDDED
from orchestrator.spec.document import Location, Violation, dotted
from orchestrator.spec.model import REMOTE, SweepSpec

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def storage_problems(storage: str, kube: KubeSpec) -> Iterator[Problem]:
    """Why the pods cannot reach a storage."""
    address = urlsplit(storage)
    if "@" in address.netloc:
        what = "must hold no login: everybody who sees the job sees it"
        yield Problem("--storage", what, "Put it into a Secret: docs/kubernetes.md.")
    elif not (address.scheme in STORAGES and address.netloc) and not kube.holds(storage):
        what = f"must be s3:// and a bucket, or lie on a volume of the cluster file, got {storage}"
        yield Problem("--storage", what, "Name a bucket, or add the volume.")


def unfit_for_pods(spec: SweepSpec, kube: KubeSpec) -> Iterator[Violation]:
    """Values that the pods cannot use: files and servers of this machine, parts of a CPU or GPU."""
    for key, place, next_step in _places(spec):
        if not kube.holds(place):
            what = (
                f"{dotted(key[:2])} must be where the pods find it, and {place} is on this machine"
            )
            yield Violation(key, what, f"{next_step}, or add the volume it lies on.")
    for name in ("cpus_per_rank", "gpus_per_rank"):
        taken = spec.engine.ranks * getattr(spec.resources, name)
        if taken != round(taken):
            what = f"a host is a pod, which has whole ones: engine.ranks x {name} is {taken}"
            yield Violation(("resources", name), what, "Choose a whole number.")
    mlflow = spec.records.mlflow
    if mlflow is not None:
        address = urlsplit(mlflow)
        if address.scheme not in {"http", "https"} or address.hostname in _LOOPBACK:
            what = "records.mlflow must be a server that the pods reach"
            yield Violation(("records", "mlflow"), what, "Name its service: http://mlflow:5000.")
    optuna = spec.records.optuna
    if optuna is not None and urlsplit(optuna).hostname in {None, *_LOOPBACK}:
        what = "records.optuna must be a database that the pods reach"
        step = "Name its service: postgresql://USER@HOST/DATABASE."
        yield Violation(("records", "optuna"), what, step)


def _places(spec: SweepSpec) -> Iterator[tuple[Location, str, str]]:
    """Paths of this machine: where the spec names them, and the next step."""
    upload = "Copy it to a bucket and name that (`aws s3 sync`)"
    for index, manifest in enumerate(spec.data.paths):
        yield from _local(("data", "manifest", index), manifest, upload)
    if spec.data.root is not None:
        yield from _local(("data", "root"), spec.data.root, upload)
    yield from _local(("base", "source"), spec.base.source, "Name a model of the hub")
    yield from _local(("base", "codec"), spec.base.codec, f"Use {EMBEDDED}")
    for key in ("metrics", "finalist_metrics"):
        for index, metric in enumerate(getattr(spec.scoring, key)):
            if metric.model is not None and Path(metric.model).is_absolute():
                yield ("scoring", key, index), metric.model, "Name a model of the hub"


def _local(key: Location, place: str, next_step: str) -> Iterator[tuple[Location, str, str]]:
    if is_path(place) and not place.startswith(REMOTE):
        yield key, place, next_step
