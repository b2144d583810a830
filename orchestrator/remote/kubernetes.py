"""A sweep as a KubeRay RayJob: the spec and its prompts as a ConfigMap, and what its hosts take."""

import importlib.metadata
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.kubernetes.pods import CONFIG_PATH, HostPods, KubeJob, Manifest
from cluster.kubernetes.ray_job import config_map, kubernetes_name, ray_job
from cluster.kubernetes.spec import KubeSpec
from jobs.families.description import is_path
from jobs.problems import InputError, Problem
from jobs.speech.prompts import read_prompts
from orchestrator.remote.kubernetes_rules import storage_problems, unfit_for_pods
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.reading import read_document, read_model, read_spec

SPEC_NAME = "spec.yaml"

MAX_CONFIG = 2**20
"""Bytes of a ConfigMap's data, by Kubernetes' validation of it."""

_PASSWORD = re.compile(r"://[^/\s:@]*:[^/\s@]+@")


@dataclass(frozen=True)
class RenderedSweep:
    """What a sweep is on Kubernetes."""

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
    """Writes equal parts out, and texts of several lines as such."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def read_kube_spec(path: Path) -> KubeSpec:
    """The cluster that the YAML file at ``path`` describes.

    Raises:
        InputError: with every problem of the file.
    """
    hint = "See configs/clusters/kuberay-kind.yaml for a complete one."
    return read_model(path, KubeSpec, hint, may_be_empty=True)


def render(path: Path, kube: KubeSpec, storage: str | None = None) -> RenderedSweep:
    """The sweep of the spec at ``path`` for a cluster; ``storage`` comes before the cluster's.

    Raises:
        InputError: the spec is no spec, or names what the pods would not find.
    """
    spec = read_spec(path)
    storage = storage or kube.storage
    unfit = read_document(path).problems(unfit_for_pods(spec, kube))
    problems = [*storage_problems(storage, kube), *unfit]
    files, unread = _prompt_files(spec, kube)
    if problems := [*problems, *unread]:
        raise InputError(problems)
    hosts = _pods(spec)
    job = KubeJob(
        name=kubernetes_name(spec.name),
        command=f"voxsweep run {CONFIG_PATH}/{SPEC_NAME} --storage {shlex.quote(storage)} "
        "--address auto",
        ray_version=ray_version(),
        image=kube.image or default_image(hosts.gpus > 0),
        hosts=hosts,
        files={SPEC_NAME: _spec_text(spec, files), **files},
    )
    _refuse(path, job.files)
    rendered = (config_map(job, kube), ray_job(job, kube))
    return RenderedSweep(spec.name, storage, job.image, hosts, rendered)


def ray_version() -> str:
    """Of the Ray that is installed here, which the image has too."""
    return importlib.metadata.version("ray")


def default_image(gpus: bool) -> str:
    """What k8s/Dockerfile's target for the CPU or for CUDA is called."""
    version = importlib.metadata.version("voxsweep")
    return f"voxsweep:{version}-ray{ray_version()}-{'cuda' if gpus else 'cpu'}"


def _pods(spec: SweepSpec) -> HostPods:
    resources, ranks = spec.resources, spec.engine.ranks
    return HostPods(
        count=spec.hosts,
        cpus=round(ranks * resources.cpus_per_rank),
        gpus=round(ranks * resources.gpus_per_rank),
    )


def _prompt_files(spec: SweepSpec, kube: KubeSpec) -> tuple[dict[str, str], list[Problem]]:
    """Prompt sets of this machine by their names in the ConfigMap, and what is wrong with them."""
    files: dict[str, str] = {}
    problems: list[Problem] = []
    for key in ("prompts", "confirmation_prompts"):
        place = getattr(spec.variants, key)
        if is_path(place) and not kube.holds(place):
            try:
                read_prompts(Path(place))
            except InputError as error:
                problems += error.problems
            else:
                files[f"{key}.jsonl"] = Path(place).read_text(encoding="utf-8")
    return files, problems


def _spec_text(spec: SweepSpec, files: Iterable[str]) -> str:
    """The spec as it was written, its defaults left out, with the paths that the head has."""
    written = spec.model_dump(mode="json", exclude_unset=True)
    data = {section: keys for section, keys in written.items() if keys != {}}
    for name in files:
        data["variants"][name.removesuffix(".jsonl")] = f"{CONFIG_PATH}/{name}"
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return text


def _refuse(path: Path, files: Mapping[str, str]) -> None:
    """Raise InputError of what a ConfigMap cannot hold, or must not."""
    size = sum(len(text.encode()) for text in files.values())
    if size > MAX_CONFIG:
        what = f"spec and prompts must fit a ConfigMap ({MAX_CONFIG} bytes), and have {size}"
        raise InputError([Problem(str(path), what, "Put the prompts on a volume.")])
    if _PASSWORD.search(files[SPEC_NAME]):
        what = "a spec holds no password, but one of its addresses does"
        raise InputError([Problem(str(path), what, "Put it into a Secret: docs/kubernetes.md.")])
