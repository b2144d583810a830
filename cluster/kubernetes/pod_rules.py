"""The house's rules of a pod: images that stay what they are, no rights, a bounded size."""

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.kubernetes.pods import CHECKPOINT_SECONDS, Manifest
from cluster.kubernetes.spec import is_pinned


@dataclass(frozen=True)
class BrokenRule:
    """A rule that a manifest breaks."""

    field: str
    what: str
    next_step: str


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
