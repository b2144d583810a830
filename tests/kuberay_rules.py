"""What a RayJob may not be: KubeRay's and Kueue's rules, and this project's own for pods.

The first are read off ``ray-operator/controllers/ray/utils/validation.go`` of KubeRay v1.7.0 and
the RayJob webhook of Kueue v0.14 and later, as far as anything here could break them; the API
server or the operator would refuse such a job, or the operator would set it to failed. The last:
images that stay what they are, no rights, a bounded size.

They check what we render and what lies in k8s/. What a user may write is bounded by KubeSpec.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.pods import CHECKPOINT_SECONDS, Manifest
from cluster.kubernetes.ray_job import MAX_NAME
from cluster.kubernetes.spec import is_pinned

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_MAX_GROUPS = 7
"""Of workers under Kueue: a workload has 8 pod sets, one of which is the head."""
_PRIORITY_SINCE = (2, 56)


@dataclass(frozen=True)
class BrokenRule:
    """A rule that a manifest breaks."""

    field: str
    what: str
    next_step: str


def kuberay_problems(job: Manifest) -> list[BrokenRule]:
    """Every rule that a RayJob breaks: those of KubeRay, of Kueue, and of this project."""
    return [
        *_names(job),
        *_end(job["spec"]),
        *_suspension(job),
        *_submission(job["spec"]),
        *_workers(job["spec"]),
        *_autoscaling(job["spec"]),
        *_spend(job["spec"]),
        *(broken for field, pod in pods(job) for broken in pod_problems(field, pod)),
    ]


def pods(job: Manifest) -> list[tuple[str, Manifest]]:
    """The pod specs of a RayJob, each with its field."""
    spec = job["spec"]
    cluster = _cluster(spec)
    found = [("submitterPodTemplate", spec.get("submitterPodTemplate"))]
    found += [("headGroupSpec", cluster.get("headGroupSpec", {}).get("template"))]
    groups = cluster.get("workerGroupSpecs", [])
    found += [(f"workerGroupSpecs.{group['groupName']}", group["template"]) for group in groups]
    return [(field, template["spec"]) for field, template in found if template]


def _names(job: Manifest) -> Iterator[BrokenRule]:
    name = job["metadata"]["name"]
    if len(name) > MAX_NAME or not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name):
        what = f"a RayJob's name has at most {MAX_NAME} of a-z, 0-9 and -, got {name!r}"
        yield BrokenRule("metadata.name", what, "Begin with a letter, and shorten it.")


def _end(spec: Manifest) -> Iterator[BrokenRule]:
    """Who deletes the Ray cluster, and when."""
    shuts_down = spec.get("shutdownAfterJobFinishes", False)
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not shuts_down:
        what = "needs shutdownAfterJobFinishes"
        yield BrokenRule("ttlSecondsAfterFinished", what, "Set that to true.")
    strategy = spec.get("deletionStrategy")
    if strategy is None:
        return
    rules = strategy.get("deletionRules", [])
    field = "deletionStrategy"
    if rules and shuts_down:
        what = "deletionRules and shutdownAfterJobFinishes exclude each other"
        yield BrokenRule(field, what, "Delete one of the two.")
    if rules and strategy.keys() & {"onSuccess", "onFailure"}:
        what = "deletionRules and onSuccess, onFailure exclude each other"
        yield BrokenRule(field, what, "Delete the latter.")
    if not rules and not strategy.keys() >= {"onSuccess", "onFailure"}:
        yield BrokenRule(field, "needs deletionRules", "Write one.")
    policies = [rule.get("policy") for rule in rules]
    policies += [strategy.get(key, {}).get("policy") for key in ("onSuccess", "onFailure")]
    if "DeleteWorkers" in policies and _cluster(spec).get("enableInTreeAutoscaling"):
        what = "DeleteWorkers and autoscaling exclude each other"
        yield BrokenRule(field, what, "Use DeleteCluster.")


def _suspension(job: Manifest) -> Iterator[BrokenRule]:
    """What may wait for its turn: Kueue sets ``suspend`` of what has its label."""
    spec = job["spec"]
    queued = QUEUE_LABEL in job["metadata"].get("labels", {})
    if not queued and not spec.get("suspend"):
        return
    field = f"metadata.labels.{QUEUE_LABEL}" if queued else "suspend"
    if not spec.get("shutdownAfterJobFinishes"):
        yield BrokenRule(field, "needs shutdownAfterJobFinishes", "Set that to true.")
    if spec.get("clusterSelector"):
        yield BrokenRule(field, "and clusterSelector exclude each other", "Delete the latter.")
    cluster = _cluster(spec)
    if queued and cluster.get("enableInTreeAutoscaling"):
        yield BrokenRule(field, "and autoscaling exclude each other", "Switch the latter off.")
    groups = [group["groupName"] for group in cluster.get("workerGroupSpecs", [])]
    if queued and len(groups) > _MAX_GROUPS:
        what = f"allows {_MAX_GROUPS} worker groups, got {len(groups)}"
        yield BrokenRule(field, what, "Join some.")
    if queued and "head" in groups:
        yield BrokenRule(field, "allows no worker group of the name head", "Rename it.")


def _submission(spec: Manifest) -> Iterator[BrokenRule]:
    mode = spec.get("submissionMode", "K8sJobMode")
    retried = spec.get("backoffLimit", 0) > 0
    selects = bool(spec.get("clusterSelector"))
    cluster = _cluster(spec)
    if not selects and not cluster:
        yield BrokenRule("rayClusterSpec", "is required without clusterSelector", "Write it.")
    for other, excluded in (("clusterSelector", selects), (mode, mode == "InteractiveMode")):
        if retried and excluded:
            yield BrokenRule("backoffLimit", f"and {other} exclude each other", "Delete one.")
    if mode == "SidecarMode":
        for key in ("submitterPodTemplate", "submitterConfig", "clusterSelector"):
            if spec.get(key) is not None:
                yield BrokenRule(key, "and SidecarMode exclude each other", "Delete one.")
        yield from _restarts("SidecarMode", [("headGroupSpec", _head(cluster))])
    if cluster.get("authOptions", {}).get("enableK8sTokenAuth"):
        what = "Kubernetes' tokens are for RayClusters, not for RayJobs"
        yield BrokenRule("authOptions", what, "Use mode: token alone.")


def _workers(spec: Manifest) -> Iterator[BrokenRule]:
    cluster = _cluster(spec)
    for group in cluster.get("workerGroupSpecs", []):
        field = f"workerGroupSpecs.{group['groupName']}"
        low, high = group.get("minReplicas"), group.get("maxReplicas")
        if high is None or (low is None and not cluster.get("enableInTreeAutoscaling")):
            what = "must have minReplicas and maxReplicas"
            yield BrokenRule(field, what, "Give both: the most is how many hosts there are.")
        elif not 0 <= (low or 0) <= group.get("replicas", 0) <= high:
            what = f"must have 0 <= minReplicas <= replicas <= maxReplicas, got {group}"
            yield BrokenRule(field, what.partition(", got")[0], "Correct the numbers.")
        if group.get("resources") and "num-cpus" in group.get("rayStartParams", {}):
            what = "has resources in rayStartParams too"
            yield BrokenRule(field, what, "Give them in one place.")


def _autoscaling(spec: Manifest) -> Iterator[BrokenRule]:
    cluster = _cluster(spec)
    on = bool(cluster.get("enableInTreeAutoscaling"))
    second = on and cluster.get("autoscalerOptions", {}).get("version") == "v2"
    groups = cluster.get("workerGroupSpecs", [])
    for group in groups:
        field = f"workerGroupSpecs.{group['groupName']}"
        for key in ("priority", "idleTimeoutSeconds"):
            if group.get(key) and not second:
                what = f"{key} needs the autoscaler, of version v2"
                yield BrokenRule(field, what, "Set autoscalerOptions.version.")
        if group.get("priority") and _version(cluster) < _PRIORITY_SINCE:
            yield BrokenRule(field, "priority needs Ray 2.56 or later", "Set rayVersion.")
        if on and group.get("suspend"):
            yield BrokenRule(field, "suspend and autoscaling exclude each other", "Delete one.")
    if second:
        found = [(f"workerGroupSpecs.{g['groupName']}", g["template"]["spec"]) for g in groups]
        yield from _restarts("the autoscaler v2", [("headGroupSpec", _head(cluster)), *found])


def _restarts(who: str, found: Sequence[tuple[str, Manifest]]) -> Iterator[BrokenRule]:
    for field, pod in found:
        if pod.get("restartPolicy", "Never") != "Never":
            yield BrokenRule(field, f"{who} needs restartPolicy: Never", "Set it.")


def _spend(spec: Manifest) -> Iterator[BrokenRule]:
    """What bounds a job that goes wrong, and keeps one going that only had bad luck."""
    for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds", "backoffLimit"):
        if not spec.get(key, 0) >= 1:
            yield BrokenRule(key, f"must be at least 1, got {spec.get(key)}", "Set it.")
    cluster = _cluster(spec)
    containers = _head(cluster).get("containers", [])
    limits = [container.get("resources", {}).get("limits", {}) for container in containers]
    if spec.get("entrypointNumGpus") != 0 or any("nvidia.com/gpu" in each for each in limits):
        what = "the driver and the head use no GPU"
        yield BrokenRule("entrypointNumGpus", what, "Set it to 0, and give the head none.")
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield BrokenRule("authOptions", "Ray must demand a token", "Set mode: token.")


def _cluster(spec: Manifest) -> Manifest:
    return spec.get("rayClusterSpec") or {}


def _head(cluster: Manifest) -> Manifest:
    pod: Any = cluster.get("headGroupSpec", {}).get("template", {}).get("spec", {})
    return dict(pod)


def _version(cluster: Manifest) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", cluster.get("rayVersion", "0"))[:2])


def pod_problems(field: str, pod: Manifest) -> Iterator[BrokenRule]:
    """What a pod's spec breaks; ``field`` is where it stands."""
    security = pod.get("securityContext", {})
    if not security.get("runAsNonRoot") or not security.get("runAsUser"):
        yield BrokenRule(
            field, "must run as a user who is not root", "Set runAsNonRoot, runAsUser."
        )
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield BrokenRule(field, "must have a seccomp profile", "Set RuntimeDefault.")
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        yield from _container_problems(f"{field}.{container['name']}", container)
    grace = pod.get("terminationGracePeriodSeconds", 30)
    ray = any(each["name"].startswith("ray-") for each in pod["containers"])
    if ray and grace <= CHECKPOINT_SECONDS:
        what = f"must be given longer to end than a checkpoint takes ({CHECKPOINT_SECONDS} s)"
        yield BrokenRule(field, f"{what}, got {grace} s", "Raise terminationGracePeriodSeconds.")


def _container_problems(field: str, container: Manifest) -> Iterator[BrokenRule]:
    if not is_pinned(container["image"]):
        what = f"an image has a tag other than latest, or a digest, got {container['image']}"
        yield BrokenRule(field, what, "Name the version.")
    resources = container.get("resources", {})
    requests, limits = resources.get("requests"), resources.get("limits")
    if not requests or requests != limits or not requests.keys() >= {"cpu", "memory"}:
        what = f"must request what it is limited to, got {requests} and {limits}"
        yield BrokenRule(field, what, "Give CPU and memory, the same in both.")
    security = container.get("securityContext", {})
    closed = security.get("allowPrivilegeEscalation") is False
    if not closed or security.get("capabilities", {}).get("drop") != ["ALL"]:
        what = "must have no capabilities and no way to more rights"
        yield BrokenRule(field, what, "Drop ALL, and set allowPrivilegeEscalation: false.")
    if not security.get("readOnlyRootFilesystem"):
        what = "must not write to its image"
        yield BrokenRule(field, what, "Set readOnlyRootFilesystem, and mount an emptyDir.")
