"""The YAML files under configs/ are the user interface: each is valid and says what it is for."""

import re
from pathlib import Path

import pytest
import yaml

from cluster.kubernetes.spec import KubeSpec
from cluster.ray.spec import ClusterSpec
from jobs.families.registry import FAMILIES
from orchestrator.spec.inputs import read_inputs
from orchestrator.spec.reading import read_cluster_file, read_spec

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.rglob("*.y*ml"))
KUBERAY = [path for path in FILES if path.match("clusters/kuberay-*")]
CLUSTERS = [path for path in FILES if path.parent.name == "clusters" and path not in KUBERAY]


def test_discovery_found_every_file():
    """A file of another kind, or none at all, would make the tests below say nothing."""
    everything = [path for path in CONFIGS.rglob("*") if path.is_file()]
    assert sorted(everything) == FILES
    assert CONFIGS / "demo.yaml" in FILES
    assert len(FILES) == 9
    assert (len(CLUSTERS), len(KUBERAY)) == (3, 2)


each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))


@each_file
def test_it_is_valid(path):
    if path in KUBERAY:
        read_cluster_file(path, KubeSpec)
        return
    if path in CLUSTERS:
        read_cluster_file(path, ClusterSpec)
        return
    if path.name == "job.yaml":
        from jobs.__main__ import JobSpec  # seconds to import

        job = JobSpec.model_validate(yaml.safe_load(path.read_text()))
        assert job.host.family in FAMILIES
        return
    inputs = read_inputs(read_spec(path))
    assert inputs.clips
    assert inputs.prompts


@each_file
def test_it_opens_with_its_manual(path):
    lines = path.read_text().splitlines()
    opening = "\n".join(lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")])
    assert "What it is for:" in opening
    assert "Command:" in opening
    command = "python -m jobs" if path.name == "job.yaml" else "voxsweep run"
    command = "--cluster" if path in CLUSTERS + KUBERAY else command
    assert f"{command} configs/{path.relative_to(CONFIGS)}" in opening
    costs = opening.partition("Costs:")[2]
    assert re.search(r"\d+ MB|\bGB", costs), "the cost has no measured number"
