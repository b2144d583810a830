"""The folder k8s/: every object is sound by itself, and every overlay is whole.

What kustomize makes of it is tested where kubectl is, which has kustomize built in.
"""

import functools
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kubernetes.spec import is_pinned
from orchestrator.remote.kubernetes import default_image, ray_version
from tests.kuberay_rules import QUEUE_LABEL, kuberay_problems, pod_problems, pods
from tests.kuberay_schema import needs_crds, schema_errors

ROOT = Path(__file__).parents[1]
K8S = ROOT / "k8s"
FILES = sorted(K8S.rglob("*.yaml"))
COMPONENTS = ("cache", "kueue", "mlflow", "s3", "spot", "token")
OVERLAYS = ("cpu-kind", "kueue", "single-gpu", "spot-autoscale")
KUBECTL = shutil.which("kubectl")
kustomize = [
    pytest.mark.kustomize,
    pytest.mark.skipif(KUBECTL is None, reason="kubectl, whose kustomize builds k8s/, is not here"),
]
Manifest = dict[str, Any]


def documents(path: Path) -> list[Any]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each is not None]


def objects() -> Iterator[tuple[Path, Manifest]]:
    """Objects of Kubernetes as they stand in the files."""
    for path in FILES:
        if path.name not in {"kustomization.yaml", "patch.yaml"}:
            yield from ((path, each) for each in documents(path))


def pod_specs(manifest: Manifest) -> list[tuple[str, Manifest]]:
    name = f"{manifest['kind']}/{manifest['metadata']['name']}"
    if manifest["kind"] == "RayJob":
        return [(f"{name}.{field}", pod) for field, pod in pods(manifest)]
    if manifest["kind"] in {"Deployment", "StatefulSet"}:
        return [(name, manifest["spec"]["template"]["spec"])]
    return []


class TestFiles:
    def test_discovery(self):
        """A file more or less would make the tests below say something else."""
        kustomizations = [path for path in FILES if path.name == "kustomization.yaml"]
        places = {path.parent.relative_to(K8S).as_posix() for path in kustomizations}
        wanted = {"base", "base/platform"}
        wanted |= {f"components/{name}" for name in COMPONENTS}
        assert places == wanted | {f"overlays/{name}" for name in OVERLAYS}
        others = {path.name for path in K8S.rglob("*") if path.is_file()} - {p.name for p in FILES}
        assert others == {"Dockerfile", "install.sh"}
        kinds = Counter(each["kind"] for _, each in objects())
        assert kinds == {
            "ClusterQueue": 1,
            "ConfigMap": 3,
            "Deployment": 1,
            "LocalQueue": 1,
            "Namespace": 1,
            "NetworkPolicy": 10,
            "PersistentVolumeClaim": 3,
            "RayJob": 3,
            "ResourceFlavor": 1,
            "Service": 2,
            "ServiceAccount": 2,
            "StatefulSet": 1,
        }

    def test_every_file_belongs_to_a_kustomization(self):
        used = set()
        for path in FILES:
            if path.name == "kustomization.yaml":
                used.add(path)
                (each,) = documents(path)
                patches = [patch["path"] for patch in each.get("patches", []) if "path" in patch]
                named = [*each.get("resources", []), *each.get("components", []), *patches]
                for name in named:
                    target = (path.parent / name).resolve()
                    assert target.exists(), f"{path}: {name}"
                    used.add(target)
        assert [path for path in FILES if path not in used] == []

    def test_pods(self):
        found = [(path, field, pod) for path, each in objects() for field, pod in pod_specs(each)]
        assert len(found) == 3 * 3 + 2
        broken = [
            (path.name, problem)
            for path, field, pod in found
            for problem in pod_problems(field, pod)
        ]
        assert broken == []
        for _, field, pod in found:
            assert pod["automountServiceAccountToken"] is False, field

    def test_rights(self):
        """Nobody has any by these files, and no pod has a token but the autoscaler's."""
        assert not {each["kind"] for _, each in objects()} & {
            "Role",
            "RoleBinding",
            "ClusterRole",
            "ClusterRoleBinding",
        }
        accounts = [each for _, each in objects() if each["kind"] == "ServiceAccount"]
        assert all(each["automountServiceAccountToken"] is False for each in accounts)

    def test_no_secret_is_here(self):
        assert "Secret" not in {each["kind"] for _, each in objects()}
        for path in FILES:
            assert not re.search(r"(password|token|secret)\w*: *['\"]?\w{16,}", path.read_text())


class TestVersions:
    def test_one_ray_everywhere(self):
        """The pin, what is installed, what runs in the pods and what the images are called."""
        pins = dict(
            line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]
        )
        assert pins["ray"] == ray_version()
        jobs = [each for _, each in objects() if each["kind"] == "RayJob"]
        assert {job["spec"]["rayClusterSpec"]["rayVersion"] for job in jobs} == {pins["ray"]}
        said = {
            found
            for path in (*FILES, K8S / "Dockerfile", *(ROOT / "docs").glob("kubernetes.md"))
            for found in re.findall(r"ray(\d+\.\d+\.\d+)", path.read_text())
        }
        assert said == {pins["ray"]}

    def test_images(self):
        images = Counter(
            container["image"]
            for _, each in objects()
            for _, pod in pod_specs(each)
            for container in pod["containers"]
        )
        assert all(map(is_pinned, images))
        assert ":latest" not in "".join(path.read_text() for path in FILES)
        (postgres,) = images.keys() - {default_image(gpus=False), default_image(gpus=True)}
        assert re.fullmatch(r"postgres:\d+\.\d+-\w+", postgres)


@functools.cache
def build(place: Path) -> list[Manifest]:
    """What kustomize makes of a folder."""
    assert KUBECTL is not None
    made = subprocess.run(
        [KUBECTL, "kustomize", str(place)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""  # it warns here of what it will no longer take
    return list(yaml.safe_load_all(made.stdout))


def overlay(name: str) -> dict[tuple[str, str], Manifest]:
    return {(e["kind"], e["metadata"]["name"]): e for e in build(K8S / "overlays" / name)}


def ray_job(name: str) -> Manifest:
    (job,) = [each for each in overlay(name).values() if each["kind"] == "RayJob"]
    return job


def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An overlay with all components that go together, as a user would write it."""
    place = tmp_path_factory.mktemp("mine")
    shutil.copytree(K8S, place / "k8s")
    mine = place / "k8s" / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "namespace": "team",
                "resources": ["../../base"],
                "components": [
                    f"../../components/{each}"
                    for each in ("s3", "cache", "token", "mlflow", "spot")
                ],
                "images": [{"name": "voxsweep", "newName": "registry.example/vs", "newTag": "7"}],
            }
        )
    )
    return mine


NOT_HERE = {"voxsweep-s3", "voxsweep-ray-token", "voxsweep-mlflow"}
"""Secrets, which users make: the components say how."""


def named(value: Any) -> Iterator[tuple[str, str]]:
    """What an object refers to, by kind and name."""
    if isinstance(value, list):
        for each in value:
            yield from named(each)
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "persistentVolumeClaim":
                yield "PersistentVolumeClaim", each["claimName"]
            elif key == "configMap":
                yield "ConfigMap", each["name"]
            elif key == "serviceAccountName":
                yield "ServiceAccount", each
            elif key in {"secretRef", "secretKeyRef"}:
                yield "Secret", each["name"]
            elif key == "secretName":
                yield "Secret", each
            elif key == "clusterQueue":
                yield "ClusterQueue", each
            else:
                yield from named(each)


class TestBuilt:
    pytestmark = kustomize

    @pytest.mark.parametrize("name", OVERLAYS)
    def test_an_overlay_is_whole(self, name):
        made = overlay(name)
        references = {found for each in made.values() for found in named(each)}
        secrets = {target for kind, target in references if kind == "Secret"}
        assert secrets <= NOT_HERE
        missing = {found for found in references if found[0] != "Secret"} - made.keys()
        assert missing == set()
        wide = {"Namespace", "ClusterQueue", "ResourceFlavor"}
        assert {
            each["metadata"].get("namespace") for key, each in made.items() if key[0] not in wide
        } == {"voxsweep"}

    @pytest.mark.parametrize("name", OVERLAYS)
    def test_an_overlay_breaks_no_rule(self, name):
        assert kuberay_problems(ray_job(name)) == []

    @pytest.mark.parametrize("name", OVERLAYS)
    def test_an_overlay_has_the_platform(self, name):
        made = overlay(name)
        labels = made["Namespace", "voxsweep"]["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        shut = made["NetworkPolicy", "deny-all"]["spec"]
        assert shut == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def test_the_base_is_the_demo_untouched(self):
        written = documents(K8S / "base" / "sweep.yaml")
        made = [e for e in build(K8S / "base") if e["kind"] in {"ConfigMap", "RayJob"}]
        assert made == written

    def test_spot_comes_before_on_demand(self):
        cluster = ray_job("spot-autoscale")["spec"]["rayClusterSpec"]
        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["autoscalerOptions"]["version"] == "v2"
        spot, rest = cluster["workerGroupSpecs"]
        assert (spot["groupName"], rest["groupName"]) == ("spot", "on-demand")
        assert spot["priority"] > rest.get("priority", 0)
        _, base = documents(K8S / "base" / "sweep.yaml")
        (asked,) = base["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        for group in (spot, rest):
            assert (group["replicas"], group["minReplicas"]) == (0, 0)
            assert group["maxReplicas"] == asked["maxReplicas"]
            (container,) = group["template"]["spec"]["containers"]
            assert container["envFrom"] == [{"secretRef": {"name": "voxsweep-s3"}}]
            (before,) = asked["template"]["spec"]["containers"]
            assert container["resources"] == before["resources"]
        # Each node is for the one group or for the other.
        (without,) = terms(rest)
        assert {
            (e["key"], *e["values"]) for term in terms(spot) for e in term["matchExpressions"]
        } == {(e["key"], *e["values"]) for e in without["matchExpressions"]}

    def test_only_the_head_under_the_autoscaler_has_a_token(self):
        tokens = {
            field: pod["automountServiceAccountToken"]
            for field, pod in pods(ray_job("spot-autoscale"))
        }
        assert [field for field, has in tokens.items() if has] == ["headGroupSpec"]
        beside = ray_job("spot-autoscale")["spec"]["rayClusterSpec"]["autoscalerOptions"]
        assert beside["resources"]["requests"] == beside["resources"]["limits"]
        assert beside["securityContext"]["readOnlyRootFilesystem"] is True

    def test_the_queue_has_room_for_its_sweep(self):
        job = ray_job("kueue")
        assert job["metadata"]["labels"][QUEUE_LABEL] == "voxsweep"
        asked: Counter[str] = Counter()
        spec = job["spec"]["rayClusterSpec"]
        count = {
            f"workerGroupSpecs.{g['groupName']}": g["replicas"] for g in spec["workerGroupSpecs"]
        }
        for field, pod in pods(job):
            for container in pod["containers"]:
                for name, amount in container["resources"]["requests"].items():
                    asked[name] += int(amount.removesuffix("Gi")) * count.get(field, 1)
        (group,) = overlay("kueue")["ClusterQueue", "voxsweep"]["spec"]["resourceGroups"]
        (flavor,) = group["flavors"]
        quota = {
            each["name"]: int(str(each["nominalQuota"]).removesuffix("Gi"))
            for each in flavor["resources"]
        }
        assert set(group["coveredResources"]) == set(quota) == {*asked, "nvidia.com/gpu"}
        assert {name: n for name, n in asked.items() if n > quota[name]} == {}

    def test_all_components_together(self, tmp_path_factory):
        made = build(everything(tmp_path_factory))
        (job,) = [each for each in made if each["kind"] == "RayJob"]
        assert kuberay_problems(job) == []
        assert {kind for kind, _ in named(made)} == {
            "ConfigMap",
            "PersistentVolumeClaim",
            "Secret",
            "ServiceAccount",
        }
        assert {name for kind, name in named(made) if kind == "Secret"} == NOT_HERE
        images = {
            c["image"] for each in made for _, pod in pod_specs(each) for c in pod["containers"]
        }
        assert {image for image in images if "postgres" not in image} == {"registry.example/vs:7"}
        assert [each["metadata"]["name"] for each in made if each["kind"] == "Namespace"] == [
            "team"
        ]
        broken = [
            b for each in made for field, pod in pod_specs(each) for b in pod_problems(field, pod)
        ]
        assert broken == []
        for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
            (container,) = group["template"]["spec"]["containers"]
            assert {"name": "HF_HOME", "value": "/cache/huggingface"} in container["env"]


def terms(group: Manifest) -> list[Manifest]:
    affinity = group["template"]["spec"]["affinity"]["nodeAffinity"]
    found: list[Manifest] = affinity["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    return found


class TestSchema:
    pytestmark = needs_crds

    def test_files(self):
        jobs = [each for _, each in objects() if each["kind"] == "RayJob"]
        assert [schema_errors(job) for job in jobs] == [[]] * 3


class TestBuiltSchema:
    pytestmark = kustomize + needs_crds

    def test_overlays(self):
        assert [schema_errors(ray_job(name)) for name in OVERLAYS] == [[]] * len(OVERLAYS)


class TestImage:
    """The Dockerfile is linted; there was no engine to build it with."""

    def test_lint(self):
        hadolint = Path(sys.executable).with_name("hadolint")
        linted = subprocess.run(
            [str(hadolint), "--no-color", str(K8S / "Dockerfile")], capture_output=True, text=True
        )
        assert (linted.returncode, linted.stdout) == (0, "")

    def test_targets(self):
        """Both run as the user whom the pods name, on a base that stays what it is."""
        text = (K8S / "Dockerfile").read_text()
        stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, flags=re.MULTILINE)
        assert [name for _, name in stages if name in {"cpu", "cuda"}] == ["cuda", "cpu"]
        outer = {image for image, _ in stages} - {name for _, name in stages}
        assert len(outer) == 1
        assert all(map(is_pinned, outer))
        parts = {part.split(None, 1)[0]: part for part in text.split(" AS ")[1:]}
        for target in ("cpu", "cuda"):
            assert "USER 1000:1000" in parts[target]
        assert "ADD " not in text

    def test_what_is_sent_to_the_engine(self):
        """All that is copied, and nothing that is not named."""
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        assert "*" in ignored
        sent = {line[1:] for line in ignored if line.startswith("!")}
        copied: set[str] = set()
        for line in (K8S / "Dockerfile").read_text().splitlines():
            if line.startswith("COPY ") and "--from" not in line:
                copied |= set(line.split()[1:-1])
        assert copied == sent
        assert all((ROOT / each).exists() for each in sent)

    def test_what_is_installed(self):
        """The pins are read from where all pins stand."""
        script = (K8S / "install.sh").read_text()
        installs = [line for line in script.splitlines() if "pip install" in line]
        assert len(installs) == 4
        assert all("--constraint constraints.txt" in line for line in installs)
        makefile = (ROOT / "Makefile").read_text()
        (alone,) = re.findall(r"--no-deps (\w[\w -]*)$", makefile, flags=re.MULTILINE)
        assert f"--no-deps {alone}\n" in script
