"""A KubeRay RayJob (ray.io/v1) that runs one command on a Ray cluster made for it.

Pure functions from a description to what the API server is given. The choices, and KubeRay's
rules that led to them (``ray-operator`` v1.7.0, ``controllers/ray``):

- ``K8sJobMode``, where a pod of its own submits the command. ``SidecarMode`` puts a container into
  the head whose security context cannot be set, and the ``restricted`` Pod Security Standard
  refuses such a pod.
- ``shutdownAfterJobFinishes``, which Kueue demands and deletion rules exclude.
- ``authOptions`` without a secret's name: the operator makes a token for every cluster.
- The head has no CPU to lend and no GPU: hosts go to the workers, one to a pod.
- Nothing is restarted in place: Ray or the operator starts anew what is lost, and the command goes
  on from the storage.
"""

import hashlib
import re

from cluster.kubernetes.pods import LABELS, KubeJob, Manifest, head_pod, host_pod, submitter_pod
from cluster.kubernetes.spec import KubeSpec

MAX_NAME = 47
"""Characters of a RayJob's name; a RayCluster's has 53, of which KubeRay takes 6 for a suffix."""


def kubernetes_name(name: str) -> str:
    """``name`` if a RayJob may have it (an RFC 1035 label), else one like it with a digest."""
    if re.fullmatch(rf"[a-z]([a-z0-9-]{{0,{MAX_NAME - 2}}}[a-z0-9])?", name):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    letters = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    start = letters if letters[:1].isalpha() else f"x{letters}"
    return f"{start[: MAX_NAME - 9].strip('-')}-{digest}"


def config_map(job: KubeJob, kube: KubeSpec) -> Manifest:
    """The ConfigMap of the job's files."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{job.name}-spec",
            "namespace": kube.namespace,
            "labels": dict(LABELS),
        },
        "data": dict(job.files),
    }


def ray_job(job: KubeJob, kube: KubeSpec) -> Manifest:
    """The RayJob."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": job.name, "namespace": kube.namespace, "labels": dict(LABELS)},
        "spec": {
            "submissionMode": "K8sJobMode",
            "entrypoint": job.command,
            "entrypointNumGpus": 0,
            "backoffLimit": kube.retries,
            "activeDeadlineSeconds": round(kube.hours * 3600),
            "preRunningDeadlineSeconds": round(kube.wait_minutes * 60),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": round(kube.keep_minutes * 60),
            "submitterPodTemplate": submitter_pod(job, kube),
            "rayClusterSpec": {
                "rayVersion": job.ray_version,
                "authOptions": {"mode": "token"},
                "enableInTreeAutoscaling": False,
                "headGroupSpec": {
                    "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0"},
                    "template": head_pod(job, kube),
                },
                "workerGroupSpecs": [_workers(job, kube)],
            },
        },
    }


def _workers(job: KubeJob, kube: KubeSpec) -> Manifest:
    """One group: a pod is a host, and there are never more than there is work for."""
    hosts = job.hosts
    return {
        "groupName": "hosts",
        "replicas": hosts.count,
        "minReplicas": hosts.count,
        "maxReplicas": hosts.count,
        # Not what the container may use, but what the host takes: a second one would fit beside it.
        "rayStartParams": {"num-cpus": str(hosts.cpus)},
        "template": host_pod(job, kube),
    }
