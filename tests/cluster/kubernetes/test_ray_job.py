"""A RayJob is what KubeRay takes, and breaks no rule; each rule is broken by a mutant."""

import copy
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from cluster.kubernetes.pods import CHECKPOINT_SECONDS, CONFIG_PATH, HostPods, KubeJob, Manifest
from cluster.kubernetes.ray_job import MAX_NAME, config_map, kubernetes_name, ray_job
from cluster.kubernetes.spec import KubeSpec, VolumeSpec, is_pinned
from tests.kuberay_rules import QUEUE_LABEL, kuberay_problems, pods
from tests.kuberay_schema import needs_crds, schema_errors

KUBE = KubeSpec(
    volumes=(VolumeSpec(claim="models.v2", path="/models"),),
    secrets=("voxsweep-s3", "voxsweep-mlflow"),
    hours=1.5,
)


def job(gpus: int = 1, kube: KubeSpec = KUBE) -> Manifest:
    described = KubeJob(
        name="sweep",
        command="do it",
        ray_version="2.60.0",
        image="voxsweep:1.0",
        hosts=HostPods(count=3, cpus=4, gpus=gpus),
        files={"spec.yaml": "name: sweep\n"},
    )
    return ray_job(described, kube)


def worker(manifest: Manifest) -> Manifest:
    (group,) = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    return group


def container(pod: Manifest) -> Manifest:
    (only,) = pod["containers"]
    return only


@pytest.mark.parametrize("gpus", [0, 1])
def test_it_breaks_no_rule(gpus):
    assert kuberay_problems(job(gpus)) == []
    assert [field for field, _ in pods(job(gpus))] == [
        "submitterPodTemplate",
        "headGroupSpec",
        "workerGroupSpecs.hosts",
    ]


def test_a_host_is_a_pod_and_there_is_no_other():
    group = worker(job())
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    limits = container(group["template"]["spec"])["resources"]["limits"]
    assert (limits["cpu"], limits["nvidia.com/gpu"]) == ("4", "1")
    # Ray counts what the host takes, so that a second one never fits beside it.
    assert group["rayStartParams"] == {"num-cpus": "4"}
    head = job()["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in container(head["template"]["spec"])["resources"]["limits"]


def test_only_gpu_hosts_tolerate_gpu_nodes():
    tolerated = [worker(job(gpus))["template"]["spec"]["tolerations"] for gpus in (0, 1)]
    assert tolerated[0] == []
    assert [each["key"] for each in tolerated[1]] == ["nvidia.com/gpu"]


def test_secrets_are_named_and_never_held():
    by_name = dict(pods(job()))
    wanted = [{"secretRef": {"name": name}} for name in KUBE.secrets]
    assert container(by_name["headGroupSpec"])["envFrom"] == wanted
    assert container(by_name["workerGroupSpecs.hosts"])["envFrom"] == wanted
    # What submits the command talks to Ray alone; the operator gives it Ray's token.
    assert container(by_name["submitterPodTemplate"])["envFrom"] == []


def test_every_mount_has_its_volume():
    for field, pod in pods(job()):
        mounts = [mount["name"] for mount in container(pod)["volumeMounts"]]
        assert mounts == [volume["name"] for volume in pod["volumes"]], field
    by_path = {
        mount["mountPath"]: mount["name"] for mount in container(pods(job())[2][1])["volumeMounts"]
    }
    assert by_path["/models"] == "claim-0"  # the claim's own name has a dot
    assert CONFIG_PATH not in by_path


def test_the_files_are_where_the_head_mounts_them():
    described = KubeJob("sweep", "x", "2.60.0", "v:1", HostPods(1, 1), {"a.jsonl": "{}\n"})
    made = config_map(described, KUBE)
    assert made["data"] == {"a.jsonl": "{}\n"}
    head = dict(pods(job()))["headGroupSpec"]
    (mounted,) = [v for v in head["volumes"] if "configMap" in v]
    assert mounted["configMap"]["name"] == made["metadata"]["name"]


def test_what_a_job_may_spend():
    spec = job()["spec"]
    assert spec["activeDeadlineSeconds"] == 5400
    assert spec["preRunningDeadlineSeconds"] == 3600
    assert spec["backoffLimit"] == 3
    assert (spec["shutdownAfterJobFinishes"], spec["ttlSecondsAfterFinished"]) == (True, 600)


def test_a_pod_that_is_taken_away_has_time_for_a_checkpoint():
    pod = dict(pods(job()))["workerGroupSpecs.hosts"]
    (*_, script) = container(pod)["lifecycle"]["preStop"]["exec"]["command"]
    assert script.endswith(f"sleep {CHECKPOINT_SECONDS}")
    assert pod["terminationGracePeriodSeconds"] > CHECKPOINT_SECONDS


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("demo", "demo"),
        ("a" * MAX_NAME, "a" * MAX_NAME),
        ("qwen3-tts-0.6b", "qwen3-tts-0-6b-3ada87c7"),
        ("7.x", "x7-x-88c2ae84"),
        ("a-", "a-9baf4407"),
    ],
)
def test_names(name, wanted):
    assert kubernetes_name(name) == wanted


def test_names_stay_short_and_apart():
    names = [kubernetes_name(name) for name in ("b" * 48, "b" * 49, "a.b", "a_b", "a-b")]
    assert len(set(names)) == 5
    assert max(map(len, names)) == MAX_NAME
    for name in names:
        broken = job()
        broken["metadata"]["name"] = name
        assert kuberay_problems(broken) == []


def test_the_least_that_a_cluster_file_may_say_breaks_no_rule():
    least = KubeSpec(hours=1 / 60, wait_minutes=1, retries=1, keep_minutes=0)
    assert kuberay_problems(job(kube=least)) == []


@pytest.mark.parametrize("key", ["hours", "wait_minutes"])
def test_no_attempt_is_cut_off_before_it_begins(key):
    with pytest.raises(ValidationError):
        KubeSpec.model_validate({key: 0.001})


def cluster(manifest: Manifest) -> Manifest:
    return manifest["spec"]["rayClusterSpec"]


def of_head(manifest: Manifest) -> Manifest:
    return cluster(manifest)["headGroupSpec"]["template"]["spec"]


def of_worker(manifest: Manifest) -> Manifest:
    return worker(manifest)["template"]["spec"]


def scale(manifest: Manifest) -> None:
    """What the component ``spot`` does, in short."""
    cluster(manifest)["enableInTreeAutoscaling"] = True
    cluster(manifest)["autoscalerOptions"] = {"version": "v2"}


def queue(manifest: Manifest) -> None:
    manifest["metadata"]["labels"] = {QUEUE_LABEL: "queue"}


def rules(manifest: Manifest, *kept: str) -> None:
    """Deletion rules, which demand that something be switched off."""
    manifest["spec"]["deletionStrategy"] = {
        "deletionRules": [
            {"policy": policy, "condition": {"jobStatus": "SUCCEEDED", "ttlSeconds": 10}}
            for policy in kept
        ]
    }


def no_shutdown(manifest: Manifest) -> None:
    del manifest["spec"]["shutdownAfterJobFinishes"]
    del manifest["spec"]["ttlSecondsAfterFinished"]


def select(manifest: Manifest) -> None:
    manifest["spec"]["clusterSelector"] = {"ray.io/cluster": "other"}


def mode(manifest: Manifest, name: str) -> None:
    manifest["spec"]["submissionMode"] = name


def both(*changes: Callable[[Manifest], object]) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        for each in changes:
            each(manifest)

    return change


MUTANTS: dict[str, tuple[Callable[[Manifest], object], list[str]]] = {
    # what is changed, and the fields that are blamed for it
    "name too long": (lambda m: m["metadata"].update(name="a" * 48), ["metadata.name"]),
    "name with a dot": (lambda m: m["metadata"].update(name="a.b"), ["metadata.name"]),
    "ttl without shutdown": (
        lambda m: m["spec"].pop("shutdownAfterJobFinishes"),
        ["ttlSecondsAfterFinished"],
    ),
    "deletion rules and shutdown": (lambda m: rules(m, "DeleteSelf"), ["deletionStrategy"]),
    "deletion rules and the old policies": (
        both(
            no_shutdown,
            lambda m: rules(m, "DeleteSelf"),
            lambda m: m["spec"]["deletionStrategy"].update(onSuccess={"policy": "DeleteSelf"}),
        ),
        ["deletionStrategy"],
    ),
    "an empty deletion strategy": (
        lambda m: m["spec"].update(deletionStrategy={}),
        ["deletionStrategy"],
    ),
    "workers deleted under the autoscaler": (
        both(no_shutdown, scale, lambda m: rules(m, "DeleteWorkers")),
        ["deletionStrategy"],
    ),
    "suspended without shutdown": (
        both(no_shutdown, lambda m: m["spec"].update(suspend=True)),
        ["suspend"],
    ),
    "suspended on another's cluster": (
        both(select, lambda m: m["spec"].update(suspend=True, backoffLimit=1)),
        ["suspend", "backoffLimit"],
    ),
    "queued without shutdown": (
        both(no_shutdown, queue),
        [f"metadata.labels.{QUEUE_LABEL}"],
    ),
    "queued with deletion rules": (
        both(no_shutdown, queue, lambda m: rules(m, "DeleteSelf")),
        [f"metadata.labels.{QUEUE_LABEL}"],
    ),
    "queued and scaled": (both(queue, scale), [f"metadata.labels.{QUEUE_LABEL}"]),
    "queued with 8 groups": (
        both(
            queue,
            lambda m: cluster(m).update(
                workerGroupSpecs=[{**worker(m), "groupName": f"g{n}"} for n in range(8)]
            ),
        ),
        [f"metadata.labels.{QUEUE_LABEL}"],
    ),
    "queued with a group named head": (
        both(queue, lambda m: worker(m).update(groupName="head")),
        [f"metadata.labels.{QUEUE_LABEL}"],
    ),
    "no cluster": (
        lambda m: m["spec"].pop("rayClusterSpec"),
        ["rayClusterSpec", "authOptions"],
    ),
    "retried on another's cluster": (select, ["backoffLimit"]),
    "retried by hand": (lambda m: mode(m, "InteractiveMode"), ["backoffLimit"]),
    "beside the head with a template": (
        lambda m: mode(m, "SidecarMode"),
        ["submitterPodTemplate"],
    ),
    "beside the head with a config": (
        both(
            lambda m: mode(m, "SidecarMode"),
            lambda m: m["spec"].pop("submitterPodTemplate"),
            lambda m: m["spec"].update(submitterConfig={"backoffLimit": 1}),
        ),
        ["submitterConfig"],
    ),
    "beside a head that restarts": (
        both(
            lambda m: mode(m, "SidecarMode"),
            lambda m: m["spec"].pop("submitterPodTemplate"),
            lambda m: of_head(m).update(restartPolicy="Always"),
        ),
        ["headGroupSpec"],
    ),
    "tokens of Kubernetes": (
        lambda m: cluster(m)["authOptions"].update(enableK8sTokenAuth=True),
        ["authOptions"],
    ),
    "no token": (lambda m: cluster(m).pop("authOptions"), ["authOptions"]),
    "no least": (lambda m: worker(m).pop("minReplicas"), ["workerGroupSpecs.hosts"]),
    "no most": (
        both(scale, lambda m: worker(m).pop("maxReplicas")),
        ["workerGroupSpecs.hosts"],
    ),
    "more than the most": (lambda m: worker(m).update(replicas=4), ["workerGroupSpecs.hosts"]),
    "less than the least": (lambda m: worker(m).update(replicas=2), ["workerGroupSpecs.hosts"]),
    "resources twice": (
        lambda m: worker(m).update(resources={"CPU": "4"}),
        ["workerGroupSpecs.hosts"],
    ),
    "priority without the autoscaler": (
        lambda m: worker(m).update(priority=10),
        ["workerGroupSpecs.hosts"],
    ),
    "idle time under the old autoscaler": (
        both(
            scale,
            lambda m: cluster(m)["autoscalerOptions"].update(version="v1"),
            lambda m: worker(m).update(idleTimeoutSeconds=60),
        ),
        ["workerGroupSpecs.hosts"],
    ),
    "priority before Ray 2.56": (
        both(
            scale,
            lambda m: worker(m).update(priority=1),
            lambda m: cluster(m).update(rayVersion="2.55.1"),
        ),
        ["workerGroupSpecs.hosts"],
    ),
    "suspended workers under the autoscaler": (
        both(scale, lambda m: worker(m).update(suspend=True)),
        ["workerGroupSpecs.hosts"],
    ),
    "workers that restart under the autoscaler": (
        both(scale, lambda m: of_worker(m).update(restartPolicy="Always")),
        ["workerGroupSpecs.hosts"],
    ),
    "no deadline": (
        lambda m: m["spec"].pop("activeDeadlineSeconds"),
        ["activeDeadlineSeconds"],
    ),
    "a start without a deadline": (
        lambda m: m["spec"].update(preRunningDeadlineSeconds=0),
        ["preRunningDeadlineSeconds"],
    ),
    "no retry": (lambda m: m["spec"].update(backoffLimit=0), ["backoffLimit"]),
    "a driver with a GPU": (
        lambda m: m["spec"].update(entrypointNumGpus=1),
        ["entrypointNumGpus"],
    ),
    "a head with a GPU": (
        lambda m: [
            each.update({"nvidia.com/gpu": "1"})
            for each in container(of_head(m))["resources"].values()
        ],
        ["entrypointNumGpus"],
    ),
    "root": (
        lambda m: of_worker(m)["securityContext"].update(runAsNonRoot=False),
        ["workerGroupSpecs.hosts"],
    ),
    "no user": (
        lambda m: of_worker(m)["securityContext"].pop("runAsUser"),
        ["workerGroupSpecs.hosts"],
    ),
    "no seccomp profile": (
        lambda m: of_head(m)["securityContext"].pop("seccompProfile"),
        ["headGroupSpec"],
    ),
    "more rights": (
        lambda m: container(of_head(m))["securityContext"].update(allowPrivilegeEscalation=True),
        ["headGroupSpec.ray-head"],
    ),
    "capabilities": (
        lambda m: container(of_head(m))["securityContext"].pop("capabilities"),
        ["headGroupSpec.ray-head"],
    ),
    "a writable image": (
        lambda m: container(of_head(m))["securityContext"].update(readOnlyRootFilesystem=False),
        ["headGroupSpec.ray-head"],
    ),
    "an image that moves": (
        lambda m: container(of_worker(m)).update(image="voxsweep:latest"),
        ["workerGroupSpecs.hosts.ray-worker"],
    ),
    "more than requested": (
        lambda m: container(of_worker(m))["resources"]["limits"].update(memory="99Gi"),
        ["workerGroupSpecs.hosts.ray-worker"],
    ),
    "no memory": (
        lambda m: [each.pop("memory") for each in container(of_worker(m))["resources"].values()],
        ["workerGroupSpecs.hosts.ray-worker"],
    ),
    "no time for a checkpoint": (
        lambda m: of_worker(m).update(terminationGracePeriodSeconds=30),
        ["workerGroupSpecs.hosts"],
    ),
}


@pytest.mark.parametrize(("change", "blamed"), MUTANTS.values(), ids=MUTANTS)
def test_every_rule_can_be_broken(change, blamed):
    """By that alone, which the check names."""
    broken = copy.deepcopy(job())
    change(broken)
    assert [each.field for each in kuberay_problems(broken)] == blamed


def test_all_problems_come_at_once():
    broken = copy.deepcopy(job())
    for change, _ in (MUTANTS["no deadline"], MUTANTS["root"], MUTANTS["no token"]):
        change(broken)
    assert len(kuberay_problems(broken)) == 3


class TestSchema:
    pytestmark = needs_crds

    @pytest.mark.parametrize("gpus", [0, 2])
    def test_it_is_what_kuberay_takes(self, gpus):
        assert schema_errors(job(gpus)) == []
        assert schema_errors(job(gpus, KubeSpec())) == []

    def test_the_schema_refuses(self):
        """Else the test above would say nothing."""
        wrong = copy.deepcopy(job())
        wrong["spec"]["entrypiont"] = "x"
        wrong["spec"]["backoffLimit"] = "3"
        of_worker(wrong)["tolerations"][0]["keey"] = "x"
        container(of_worker(wrong))["resources"]["limits"]["cpu"] = "many"
        fields = {error.partition(":")[0].rpartition(".")[2] for error in schema_errors(wrong)}
        assert fields == {"spec", "backoffLimit", "0", "cpu"}


@pytest.mark.parametrize(
    ("image", "pinned"),
    [
        ("voxsweep:1.0", True),
        ("registry.example:5000/team/voxsweep:1.0-cpu", True),
        ("voxsweep@sha256:" + "a" * 64, True),
        ("voxsweep:1.0@sha256:" + "a" * 64, True),
        ("voxsweep", False),
        ("registry.example:5000/voxsweep", False),
        ("voxsweep:latest", False),
        ("voxsweep:", False),
        ("voxsweep@sha256:abc", False),
        ("voxsweep :1", False),
    ],
)
def test_what_a_pinned_image_is(image, pinned):
    assert is_pinned(image) == pinned


@pytest.mark.parametrize(
    "key",
    [
        {"image": "voxsweep:latest"},
        {"retries": 0},
        {"hours": 0},
        {"head": {"memory": "8GB"}},
        {"worker": {"gpus": 1}},
        {"volumes": [{"claim": "a", "path": "/tmp/a"}]},
        {"volumes": [{"claim": "a", "path": "/a"}, {"claim": "b", "path": "/a/b"}]},
        {"namespace": "Upper"},
        {"secret": "plain"},
    ],
)
def test_a_cluster_is_strict(key):
    with pytest.raises(ValidationError):
        KubeSpec.model_validate(key)


def test_what_lies_on_a_volume():
    assert KUBE.holds("/models/qwen")
    assert not KUBE.holds("/models2/qwen")
    assert not KUBE.holds("/models/../etc")
    assert not KUBE.holds("s3://models")
