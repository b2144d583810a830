"""A sweep as a RayJob of KubeRay, with its spec and prompts in a ConfigMap."""

import importlib.metadata
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from cluster.kubernetes.pods import CONFIG_PATH, HostPods, KubeJob, Manifest
from cluster.kubernetes.ray_job import config_map, kubernetes_name, ray_job
from cluster.kubernetes.spec import KubeSpec
from cluster.storage.base import STORAGES
from jobs.families.description import is_path
from jobs.problems import InputError, Problem, collecting
from jobs.spec.yaml_files import dump_yaml
from jobs.speech.sentences import PREFIX
from orchestrator.addresses import redacted
from orchestrator.ledger import SPEC_FILE
from orchestrator.remote.local_values import SENT_FILES, is_local, texts, what_instead
from orchestrator.spec.document import Violation, dotted
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.reading import read_document, read_spec

MAX_CONFIG = 2**20
"""Most bytes of a ConfigMap's data, by Kubernetes' validation."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class RenderedSweep:
    """A sweep's objects for Kubernetes."""

    sweep: str
    storage: str
    image: str
    hosts: HostPods
    manifests: tuple[Manifest, Manifest]
    """The ConfigMap and the RayJob."""

    def to_yaml(self) -> str:
        """Both as YAML documents."""
        return "---\n".join(
            yaml.dump(each, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096)
            for each in self.manifests
        )

    def to_dict(self) -> dict[str, Any]:
        """The one object that ``voxsweep k8s render --json`` prints."""
        metadata = self.manifests[1]["metadata"]
        return {
            "sweep": self.sweep,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "storage": self.storage,
            "image": self.image,
            "hosts": self.hosts.count,
            "cpus_per_host": self.hosts.cpus,
            "gpus_per_host": self.hosts.gpus,
            "manifests": json.loads(json.dumps(self.manifests)),
        }


class _Dumper(yaml.SafeDumper):
    """Writes no aliases, and texts of several lines as blocks."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def render(path: Path, kube: KubeSpec, storage: str | None = None) -> RenderedSweep:
    """The objects that run the sweep at ``path``; ``storage`` overrides the cluster's.

    Raises:
        InputError: with every problem of the spec, or else of running it in pods.
    """
    spec = read_spec(path)
    storage = storage or kube.storage
    unfit = read_document(path).problems(_unfit_for_pods(spec, kube))
    problems = [*_storage_problems(storage, kube), *unfit]
    files, unread = _prompt_files(spec, kube)
    if problems := [*problems, *unread]:
        raise InputError(problems)
    ranks, resources = spec.engine.ranks, spec.resources
    hosts = HostPods(
        count=spec.hosts,
        cpus=round(ranks * resources.cpus_per_rank),
        gpus=round(ranks * resources.gpus_per_rank),
    )
    job = KubeJob(
        name=kubernetes_name(spec.name),
        command=f"voxsweep run {CONFIG_PATH}/{SPEC_FILE} --storage {shlex.quote(storage)} "
        "--address auto",
        ray_version=ray_version(),
        image=kube.image or default_image(hosts.gpus > 0),
        hosts=hosts,
        files={SPEC_FILE: _spec_text(spec, files), **files},
    )
    _refuse(path, job.files)
    rendered = (config_map(job, kube), ray_job(job, kube))
    return RenderedSweep(spec.name, storage, job.image, hosts, rendered)


def ray_version() -> str:
    """The installed version of Ray, which the image has too."""
    return importlib.metadata.version("ray")


def default_image(gpus: bool) -> str:
    """The image that k8s/Dockerfile builds for CPUs or for CUDA."""
    version = importlib.metadata.version("voxsweep")
    return f"voxsweep:{version}-ray{ray_version()}-{'cuda' if gpus else 'cpu'}"


def _prompt_files(spec: SweepSpec, kube: KubeSpec) -> tuple[dict[str, str], list[Problem]]:
    """Local sets of prompts and items by their names in the ConfigMap, and their problems."""
    files: dict[str, str] = {}
    problems: list[Problem] = []
    for (_, key), read in SENT_FILES.items():
        place = getattr(spec.variants, key)
        if place and is_path(place) and not place.startswith(PREFIX) and not kube.holds(place):
            with collecting(problems):
                read(Path(place))
                files[f"{key}.jsonl"] = Path(place).read_text(encoding="utf-8")
    return files, problems


def _spec_text(spec: SweepSpec, files: Iterable[str]) -> str:
    """The spec without its defaults, with the paths of the files on the head."""
    written = spec.model_dump(mode="json", exclude_unset=True)
    data = {section: keys for section, keys in written.items() if keys != {}}
    for name in files:
        data["variants"][name.removesuffix(".jsonl")] = f"{CONFIG_PATH}/{name}"
    return dump_yaml(data)


def _refuse(path: Path, files: Mapping[str, str]) -> None:
    """Raise InputError where files are too large for a ConfigMap, or hold a password."""
    size = sum(len(text.encode()) for text in files.values())
    if size > MAX_CONFIG:
        what = f"spec and prompts must fit a ConfigMap ({MAX_CONFIG} bytes), and have {size}"
        raise InputError([Problem(str(path), what, "Put the prompts on a volume.")])
    if redacted(files[SPEC_FILE]) != files[SPEC_FILE]:
        what = "a spec holds no password, but one of its addresses does"
        raise InputError([Problem(str(path), what, "Put it into a Secret: docs/kubernetes.md.")])


def _storage_problems(storage: str, kube: KubeSpec) -> Iterator[Problem]:
    """Why the pods cannot reach a storage."""
    address = urlsplit(storage)
    if "@" in address.netloc:
        what = "must hold no login: everybody who sees the job sees it"
        yield Problem("--storage", what, "Put it into a Secret: docs/kubernetes.md.")
    elif not (address.scheme in STORAGES and address.netloc) and not kube.holds(storage):
        what = f"must be s3:// and a bucket, or lie on a volume of the cluster file, got {storage}"
        yield Problem("--storage", what, "Name a bucket, or add the volume.")


def _unfit_for_pods(spec: SweepSpec, kube: KubeSpec) -> Iterator[Violation]:
    """Values that the pods cannot use: files and servers of this machine, parts of a CPU or GPU."""
    for key, place in texts(spec.model_dump(mode="json")):
        if is_local(place) and key[0] != "records" and not kube.holds(place):
            named = dotted(key[:2])
            what = f"{named} must be where the pods find it, and {place} is on this machine"
            yield Violation(key, what, f"{what_instead(key)}, or add the volume it lies on.")
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
