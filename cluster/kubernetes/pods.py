"""The pods of a RayJob: the head, the hosts, and what submits the command.

Nothing is restarted in place, no pod has rights, and each may have what it requests and no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.spec import HeadSpec, KubeSpec, WorkerSpec

Manifest = dict[str, Any]
"""An object of Kubernetes, or a part of one."""

CONFIG_PATH = "/etc/voxsweep"
"""Where the head finds the ConfigMap's files."""

HOME = "/home/voxsweep"

CHECKPOINT_SECONDS = 60
"""Within what an epoch's checkpoint is written, also to S3: some 100 MB at 2 MB/s."""

TERMINATION_GRACE_SECONDS = 120
"""Twice that. A node that is taken away may give less (a spot node of Google's: 30 s)."""

NOTICE_FILE = "/tmp/voxsweep-leaving"
"""Is there once Kubernetes ends a worker's pod; VOXSWEEP_NOTICE_FILE names it to the hosts."""

_GIVE_NOTICE = f'touch "$VOXSWEEP_NOTICE_FILE"; sleep {CHECKPOINT_SECONDS}'
"""Before the pod's processes are told to end: SIGTERM reaches a shell, and no host."""

USER = 1000
"""As k8s/Dockerfile has it."""

LABELS = {"app.kubernetes.io/name": "voxsweep", "app.kubernetes.io/part-of": "voxsweep"}
"""Of every pod; the network policies select by them."""

_SCRATCH: Mapping[str, Manifest] = {
    "/tmp": {"name": "tmp", "emptyDir": {}},
    HOME: {"name": "home", "emptyDir": {}},
}
"""Folders of the node; the container's limit of ephemeral storage bounds them."""
_GPU = "nvidia.com/gpu"
_SUBMITTER = {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}
_HEAD_SHARED_MEMORY = "1Gi"
"""The driver passes names around, and no data (docs/hosts.md)."""


@dataclass(frozen=True)
class HostPods:
    """The pods of a job's hosts: one each."""

    count: int
    cpus: int
    gpus: int = 0


@dataclass(frozen=True)
class KubeJob:
    """A command and what it takes."""

    name: str
    """As :func:`kubernetes_name` makes it."""
    command: str
    """For a shell. Run again, it must go on where it was."""
    ray_version: str
    image: str
    hosts: HostPods
    files: Mapping[str, str]
    """Texts by file name, which the head finds under ``CONFIG_PATH``."""


def submitter_pod(job: KubeJob, kube: KubeSpec) -> Manifest:
    """The template of the pod that submits the command and shows its log."""
    container = _container("ray-job-submitter", job, kube, _SUBMITTER)
    return _pod(kube, container, _SCRATCH, kube.head.node_selector)


def head_pod(job: KubeJob, kube: KubeSpec) -> Manifest:
    """The head's template."""
    resources = _resources(kube.head, kube.head.cpus)
    ports = {"gcs-server": 6379, "dashboard": 8265}
    container = {
        **_container("ray-head", job, kube, resources, kube.secrets),
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
    }
    files = {"name": "spec", "configMap": {"name": f"{job.name}-spec"}}
    volumes = {**_ray_volumes(kube, _HEAD_SHARED_MEMORY), CONFIG_PATH: files}
    return _pod(kube, container, volumes, kube.head.node_selector)


def host_pod(job: KubeJob, kube: KubeSpec) -> Manifest:
    """A host's template."""
    hosts = job.hosts
    resources = _resources(kube.worker, hosts.cpus)
    if hosts.gpus:
        resources[_GPU] = str(hosts.gpus)
    container = {
        **_container("ray-worker", job, kube, resources, kube.secrets),
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", _GIVE_NOTICE]}}},
    }
    container["env"].append({"name": "VOXSWEEP_NOTICE_FILE", "value": NOTICE_FILE})
    volumes = _ray_volumes(kube, kube.worker.shared_memory)
    template = _pod(kube, container, volumes, kube.worker.node_selector)
    if hosts.gpus:
        tolerated = {"key": _GPU, "operator": "Exists", "effect": "NoSchedule"}
        template["spec"]["tolerations"].append(tolerated)
    return template


def _pod(
    kube: KubeSpec, container: Manifest, volumes: Mapping[str, Manifest], nodes: Mapping[str, str]
) -> Manifest:
    """A template with ``volumes`` by the path where they are mounted.

    Empty lists stand where the components of k8s/ add to them.
    """
    mounts = [
        {"name": volume["name"], "mountPath": path}
        | ({"readOnly": True} if "configMap" in volume else {})
        for path, volume in volumes.items()
    ]
    return {
        "metadata": {"labels": dict(LABELS)},
        "spec": {
            "serviceAccountName": kube.service_account,
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
            "securityContext": {
                "fsGroup": USER,
                "runAsGroup": USER,
                "runAsNonRoot": True,
                "runAsUser": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "nodeSelector": dict(nodes),
            "tolerations": [],
            "containers": [{**container, "volumeMounts": mounts}],
            "volumes": [dict(volume) for volume in volumes.values()],
        },
    }


def _container(
    name: str,
    job: KubeJob,
    kube: KubeSpec,
    resources: Mapping[str, str],
    secrets: Sequence[str] = (),
) -> Manifest:
    return {
        "name": name,
        "image": job.image,
        "imagePullPolicy": kube.pull_policy,
        "env": [{"name": "HOME", "value": HOME}],
        "envFrom": [{"secretRef": {"name": each}} for each in secrets],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _resources(pod: HeadSpec | WorkerSpec, cpus: int) -> dict[str, str]:
    return {"cpu": str(cpus), "memory": pod.memory, "ephemeral-storage": pod.disk}


def _ray_volumes(kube: KubeSpec, shared_memory: str) -> dict[str, Manifest]:
    shared = {"name": "shared-mem", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}}
    claims: dict[str, Manifest] = {
        # A claim's own name may have dots, which a volume's may not.
        each.path: {"name": f"claim-{at}", "persistentVolumeClaim": {"claimName": each.claim}}
        for at, each in enumerate(kube.volumes)
    }
    return {**_SCRATCH, "/dev/shm": shared, **claims}
