"""``voxsweep k8s render``: the same spec as ``run``, as a RayJob, or every reason why not."""

import importlib.metadata
import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cluster.kubernetes.spec import KubeSpec, VolumeSpec
from jobs.problems import InputError
from orchestrator.cli import app
from orchestrator.remote import kubernetes
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.reading import read_cluster_file, read_spec
from tests.kuberay_rules import kuberay_problems

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CONFIGS = ROOT / "configs"
KIND = CONFIGS / "clusters" / "kuberay-kind.yaml"
GPU = CONFIGS / "clusters" / "kuberay-gpu.yaml"
PROMPTS = '{"id": "p%d", "text": "one %s"}\n'
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

GOLDEN = {
    "base": (CONFIGS / "demo.yaml",),
    "overlays/cpu-kind": (CONFIGS / "demo.yaml", "--cluster", KIND),
    "overlays/single-gpu": (CONFIGS / "qwen3_tts_0.6b.yaml", "--cluster", GPU),
}
"""What is rendered into k8s/, and from what: the goldens are what users apply."""


def golden_text(name: str) -> str:
    return (ROOT / "k8s" / name / "sweep.yaml").read_text()


def render(*arguments: object) -> str:
    ended = CliRunner().invoke(app, ["k8s", "render", *map(str, arguments)])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def problems_of(path: Path, kube: KubeSpec | None = None, **options: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        kubernetes.render(path, kube or KubeSpec(), **options)
    return [str(problem).replace(str(path), "SPEC") for problem in caught.value.problems]


@pytest.mark.parametrize("golden", GOLDEN)
def test_golden(golden):
    assert render(*GOLDEN[golden]) == golden_text(golden)


@pytest.mark.parametrize("golden", GOLDEN)
def test_the_head_runs_the_same_sweep(golden, tmp_path):
    """What the pods read asks what the file asks."""
    spec = GOLDEN[golden][0]
    config, _ = yaml.safe_load_all(golden_text(golden))
    (tmp_path / "spec.yaml").write_text(config["data"]["spec.yaml"])
    assert read_spec(tmp_path / "spec.yaml") == read_spec(spec)


def test_what_is_written_is_what_is_printed(tmp_path):
    out = tmp_path / "sweep.yaml"
    spec = CONFIGS / "demo.yaml"
    told = json.loads(render(spec, "-o", out, "--json"))
    assert out.read_text() == render(spec)
    assert told["manifests"] == list(yaml.safe_load_all(out.read_text()))
    del told["manifests"]
    version, ray = (importlib.metadata.version(name) for name in ("voxsweep", "ray"))
    assert told == {
        "sweep": "demo",
        "name": "demo",
        "namespace": "voxsweep",
        "storage": "s3://voxsweep/sweeps",
        "image": f"voxsweep:{version}-ray{ray}-cpu",
        "hosts": 2,
        "cpus_per_host": 1,
        "gpus_per_host": 0,
    }


def test_the_storage_of_the_command_comes_first(write_spec):
    kube = KubeSpec(storage="s3://theirs/x")
    spec = write_spec()
    jobs = [kubernetes.render(spec, kube, asked).manifests[1] for asked in (None, "s3://own/a b")]
    commands = [job["spec"]["entrypoint"] for job in jobs]
    run = "voxsweep run /etc/voxsweep/spec.yaml --storage"
    assert commands == [
        f"{run} s3://theirs/x --address auto",
        f"{run} 's3://own/a b' --address auto",
    ]


def test_a_host_of_several_ranks_is_one_pod(write_spec):
    spec = write_spec(
        engine="engine: {ranks: 4}",
        resources="resources: {hosts: 3, cpus_per_rank: 2, gpus_per_rank: 1, slots_per_host: 1}",
        search="search: {trials: 2, space: {rank: [2, 4]}}",
    )
    rendered = kubernetes.render(spec, KubeSpec())
    assert (rendered.hosts.cpus, rendered.hosts.gpus) == (8, 4)
    assert rendered.hosts.count == 2  # there are no more trials
    assert rendered.image.endswith("-cuda")


def write_prompts(path: Path, start: str) -> None:
    path.write_text("".join(PROMPTS % (n, f"{start} {word}") for n, word in enumerate(WORDS)))


def test_prompts_go_with_the_spec(tmp_path, write_spec):
    write_prompts(tmp_path / "a.jsonl", "one")
    write_prompts(tmp_path / "b.jsonl", "two")
    spec = write_spec(variants="variants: {prompts: a.jsonl, confirmation_prompts: b.jsonl}")
    config, _ = kubernetes.render(spec, KubeSpec()).manifests
    assert list(config["data"]) == ["spec.yaml", "prompts.jsonl", "confirmation_prompts.jsonl"]
    assert config["data"]["prompts.jsonl"] == (tmp_path / "a.jsonl").read_text()
    assert str(tmp_path) not in json.dumps(config)
    there = SweepSpec.model_validate(yaml.safe_load(config["data"]["spec.yaml"]))
    assert there.variants.prompts == "/etc/voxsweep/prompts.jsonl"
    assert there.variants.confirmation_prompts == "/etc/voxsweep/confirmation_prompts.jsonl"


def test_paths_of_this_machine_are_refused_together(tmp_path, write_spec):
    for name in ("base", "codec", "root", "wavlm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"model_type": "qwen2"}')
    (tmp_path / "clips.jsonl").write_text("{}\n")
    (tmp_path / "prompts.jsonl").write_text("{}\n")
    spec = write_spec(
        base="base: {source: base, codec: codec}",
        data="data: {synthetic: true, manifest: [s3://bucket/a.jsonl, clips.jsonl], root: root}",
        variants="variants: {prompts: prompts.jsonl}",
        scoring="scoring:\n  metrics:\n  - similarity\n  - word_error\n"
        "  - {name: wavlm_similarity, model: ./wavlm, required: false}\n  primary: similarity\n"
        "  min_effect: 0.05",
        resources="resources: {cpus_per_rank: 1.5, gpus_per_rank: 0.5}",
        records="records: {mlflow: 'http://localhost:5000'}",
    )
    said = [line.replace(str(tmp_path), "TMP") for line in problems_of(spec, storage="sweeps")]
    assert "\n".join(said) + "\n" == (HERE / "golden_k8s_refused.txt").read_text()


def test_what_lies_on_a_volume_is_taken(tmp_path, write_spec):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clips.jsonl").write_text("{}\n")
    write_prompts(tmp_path / "data" / "a.jsonl", "one")
    spec = write_spec(
        data=f"data: {{synthetic: true, manifest: {tmp_path}/data/clips.jsonl}}",
        variants="variants: {prompts: data/a.jsonl}",
    )
    # Copied, not validated: a test's folder may lie under /tmp, which the pods have for themselves.
    kube = KubeSpec(storage=f"{tmp_path}/data/sweeps").model_copy(
        update={"volumes": (VolumeSpec(claim="data", path=f"{tmp_path}/data"),)}
    )
    config, job = kubernetes.render(spec, kube).manifests
    assert list(config["data"]) == ["spec.yaml"]
    assert f"{tmp_path}/data/sweeps" in job["spec"]["entrypoint"]


def test_no_password_is_written(write_spec):
    spec = write_spec(records="records: {mlflow: 'https://me:hunter2@mlflow.example'}")
    (said,) = problems_of(spec)
    assert said.startswith("SPEC:5: records.mlflow may hold no password")
    assert "hunter2" not in said


def test_no_login_is_written(write_spec):
    (said,) = problems_of(write_spec(), storage="s3://me:hunter2@bucket/x")
    assert said.startswith("--storage: must hold no login")
    assert "hunter2" not in said


def test_a_config_map_has_its_size(tmp_path, write_spec):
    text = "one " * 300_000
    write_prompts(tmp_path / "a.jsonl", text)
    (said,) = problems_of(write_spec(variants="variants: {prompts: a.jsonl}"))
    assert re.match(r"SPEC: spec and prompts must fit a ConfigMap \(1048576 bytes\)", said)


def test_a_broken_spec_is_told_as_elsewhere(write_spec):
    (said,) = problems_of(write_spec(traning="traning: {}"))
    assert said == "SPEC:5: unknown key traning. Did you mean training or scoring or hosting?"


def test_a_broken_cluster_is_told(tmp_path, write_spec):
    path = tmp_path / "cluster.yaml"
    path.write_text("imag: x\nretries: 0\nhead: {gpus: 1}\nimage: a:latest\n")
    out = tmp_path / "out.yaml"
    ended = CliRunner().invoke(
        app, ["k8s", "render", str(write_spec()), "--cluster", str(path), "-o", str(out)]
    )
    assert isinstance(ended.exception, InputError)
    said = sorted(str(each).removeprefix(f"{path}:") for each in ended.exception.problems)
    assert said == [
        "1: unknown key imag. Did you mean image?",
        "2: retries: Input should be greater than or equal to 1, got 0. Correct the value.",
        "3: unknown key head.gpus. Did you mean cpus?",
        "4: image: an image has a tag other than latest, or a digest, got 'a:latest'. "
        "Correct the value.",
    ]
    assert not out.exists()


@pytest.mark.parametrize("text", ["a: [", "- 1", "\x00"])
def test_what_is_no_cluster_at_all(tmp_path, text):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(InputError):
        read_cluster_file(path, KubeSpec)


def test_the_complete_cluster_file_is_complete():
    complete = yaml.safe_load((CONFIGS / "clusters" / "kuberay-kind.yaml").read_text())
    for model, written in (
        (KubeSpec, complete),
        (type(KubeSpec().head), complete["head"]),
        (type(KubeSpec().worker), complete["worker"]),
    ):
        assert set(written) == set(model.model_fields)


@pytest.mark.parametrize("golden", GOLDEN)
def test_a_rendering_breaks_no_rule(golden):
    _, job = yaml.safe_load_all(golden_text(golden))
    assert kuberay_problems(job) == []
