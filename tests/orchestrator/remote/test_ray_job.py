"""From a spec to a job: what is sent, and what is refused before anything is."""

import json
from pathlib import Path

import pytest
import yaml

import jobs
from cluster.ray.spec import ClusterSpec
from jobs.problems import InputError
from orchestrator.remote.ray_job import make_submission
from orchestrator.spec.reading import read_spec

HERE = Path(__file__).parent
PROMPTS = "".join(f'{{"id": "p{i}", "text": "text {i}"}}\n' for i in range(8))
BUCKET = "s3://bucket/sweeps"
INSTALLED = ClusterSpec(code="installed")


@pytest.fixture
def write(write_spec, tmp_path):
    """Writes a spec that names two prompt sets beside it."""

    def write(**sections):
        for name in ("a", "b"):
            (tmp_path / f"{name}.jsonl").write_text(PROMPTS.replace('"p', f'"{name}'))
        prompts = "variants: {prompts: a.jsonl, confirmation_prompts: b.jsonl}"
        return write_spec(**{"variants": prompts, **sections})

    return write


def submission(path, cluster=INSTALLED, storage: str | None = BUCKET, **options):
    return make_submission(read_spec(path), path, cluster, storage, **options)


def refusals(path, cluster=INSTALLED, storage: str | None = BUCKET) -> list[str]:
    with pytest.raises(InputError) as raised:
        submission(path, cluster, storage)
    return [str(problem) for problem in raised.value.problems]


def test_the_spec_goes_with_its_prompts_and_paths_of_the_package(write, tmp_path):
    path = write()
    sent = submission(path)
    assert sorted(sent.package.files) == [
        "inputs/confirmation_prompts.jsonl",
        "inputs/prompts.jsonl",
        "spec.yaml",
    ]
    job = tmp_path / "job"
    sent.package.write(job)
    there, here = read_spec(job / "spec.yaml"), read_spec(path)
    assert Path(there.variants.prompts).read_text() == Path(here.variants.prompts).read_text()
    assert there.model_dump(exclude={"variants"}) == here.model_dump(exclude={"variants"})
    assert str(tmp_path) not in sent.package.files["spec.yaml"].decode()


def test_text_items_go_with_the_spec_and_are_read_before(write, tmp_path):
    sections = {
        "variants": "variants: {prompts: a.jsonl, confirmation_prompts: b.jsonl, "
        "confirmation_items: items.jsonl}",
        "scoring": "scoring: {metrics: [similarity], finalist_metrics: [text_nll], "
        "primary: similarity, min_effect: 0.05}",
    }
    items = tmp_path / "items.jsonl"
    items.write_text('{"text": "A text."}\n')
    sent = submission(write(**sections))
    assert sent.package.files["inputs/confirmation_items.jsonl"] == items.read_bytes()
    items.write_text('{"txet": "A text."}\n')
    (told,) = refusals(write(**sections))
    assert "items.jsonl:1: not a text item: question: Field required" in told


def test_the_dry_run_is_what_it_always_was(write, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5eed" * 16)
    cluster = ClusterSpec.model_validate(
        {
            "code": "installed",
            "driver": {
                "cpus": 2,
                "memory": 4_000_000_000,
                "labels": {"role": "head"},
                "resources": {"driver": 1},
            },
            "environment": {"env_vars": {"AWS_REGION": "eu-central-1"}, "pip": ["soxr==1.1.0"]},
        }
    )
    sent = submission(write(), cluster).to_dict("http://127.0.0.1:8265")
    spec = sent["working_dir"]["files"].pop(2)
    assert spec["name"] == "spec.yaml"  # whose every default would stand in the golden
    for key in ("digest", "bytes"):
        sent["working_dir"].pop(key)
    golden = json.loads((HERE / "golden_submission.json").read_text())
    for text in (sent["submission_id"], sent["metadata"]["digest"]):
        assert text[-12:].isalnum()
    assert sent["submission_id"] == f"small-{sent['metadata']['digest'][:12]}"
    sent["submission_id"], sent["metadata"]["digest"] = "small-DIGEST", "DIGEST"
    assert sent == golden


def test_its_own_code_goes_along_whole(write):
    sent = submission(write(), ClusterSpec())
    root = Path(jobs.__file__).parents[1]
    code = {
        str(path.relative_to(root))
        for package in ("cluster", "jobs", "orchestrator")
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(code) > 200
    assert code == {name for name in sent.package.files if name.partition("/")[0] != "inputs"} - {
        "spec.yaml"
    }
    assert sent.package.size < 20e6, "Ray keeps packages in the head's memory"


def test_the_id_is_of_what_is_asked_and_where_it_is_kept(write, tmp_path):
    first = submission(write()).id
    assert submission(write()).id == first
    assert submission(write(), ClusterSpec()).id == first, "code is no part of the question"
    assert submission(write(resources="resources: {hosts: 2}")).id == first
    assert submission(write(), storage="s3://bucket/other").id != first
    assert submission(write(training="training: {epochs: 5}")).id != first
    path = write()
    (tmp_path / "a.jsonl").write_text(PROMPTS.replace("text 3", "text three"))
    assert submission(path).id != first


def test_a_name_is_a_word_of_the_command(write):
    long = "a" * 300
    sent = submission(write(name=f"name: {long}"))
    assert len(sent.id) < 80
    shell = "s3://bucket/$(id); rm -rf ~ #"
    assert f"--storage '{shell}' --address" in submission(write(), storage=shell).entrypoint
    for name in ("a;id", "$(id)", "a b", "../a", "a/b", "-a", "A"):
        with pytest.raises(InputError, match="name"):
            read_spec(write(name=f"name: {json.dumps(name)}"))


def test_what_lies_on_this_machine_is_refused_all_at_once(write, tmp_path):
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice/config.json").write_text('{"model_type": "qwen2"}')
    (tmp_path / "clips.jsonl").write_text("")
    path = write(
        base="base: {source: voice}",
        data="data: {synthetic: true, manifest: clips.jsonl, root: .}",
        records="records: {mlflow: 'sqlite:////tmp/mlflow.db'}",
    )
    said = refusals(path, storage="sweeps")
    assert len(said) == 5
    for part in ("--storage", "base.source", "data.manifest.0.path", "data.root", "records.mlflow"):
        assert any(part in line for line in said), part
    assert all("nodes_share_files: true" in line for line in said)
    assert all(line.startswith(f"{path}:") for line in said[1:])


def test_where_nodes_share_files_paths_stay(write, tmp_path):
    (tmp_path / "clips.jsonl").write_text("")
    path = write(data="data: {synthetic: true, manifest: clips.jsonl}")
    shared = ClusterSpec(nodes_share_files=True, code="installed")
    sent = submission(path, shared, str(tmp_path / "st"))
    assert list(sent.package.files) == ["spec.yaml"]
    spec = yaml.safe_load(sent.package.files["spec.yaml"])
    assert spec["variants"]["prompts"] == str(tmp_path / "a.jsonl")
    assert spec["data"]["manifest"][0]["path"] == str(tmp_path / "clips.jsonl")


@pytest.fixture
def stolen(tmp_path_factory):
    """A file of this machine that somebody else's spec would like to have sent."""
    path = tmp_path_factory.mktemp("home") / "credentials"
    path.write_text('{"id": "a", "text": "hunter2"}\n')
    return path


@pytest.mark.parametrize("by", ["path", "dots", "link", "link to its folder"])
def test_a_spec_has_no_file_sent_from_outside_its_folder(write, tmp_path, stolen, by):
    (tmp_path / "link").symlink_to(stolen)
    (tmp_path / "folder").symlink_to(stolen.parent)
    name = {
        "path": str(stolen),
        "dots": f"../{stolen.parent.name}/credentials",
        "link": "link",
        "link to its folder": "folder/credentials",
    }[by]
    if by == "dots":
        (tmp_path.parent / stolen.parent.name).mkdir(exist_ok=True)
        (tmp_path.parent / stolen.parent.name / "credentials").write_text(stolen.read_text())
    [said] = refusals(write(variants=f"variants: {{prompts: {name}}}"))
    assert "variants.prompts must lie in" in said
    assert "hunter2" not in said


def test_what_is_no_prompt_set_is_not_sent(write, tmp_path):
    path = write()
    (tmp_path / "b.jsonl").write_text("{}\n")
    assert "not a prompt" in refusals(path)[0]
    (tmp_path / "b.jsonl").write_bytes(b" " * (4 * 2**20 + 1))
    assert "at most 4,194,304 bytes" in refusals(path)[0]


def test_a_login_in_a_spec_is_refused_and_not_shown(write):
    said = "\n".join(refusals(write(records="records: {mlflow: 'http://me:hunter2@server'}")))
    assert "login" in said
    assert "hunter2" not in said


def test_a_storage_must_be_named(write):
    assert "needs a storage" in refusals(write(), storage=None)[0]


@pytest.mark.parametrize(
    "line",
    [
        "name: !!python/object/apply:os.system ['touch {mark}']",
        "name: !!python/name:os.system",
        "command: touch {mark}",
        "setup: [touch {mark}]",
        "env_vars: {{PATH: /tmp}}",
        "base: {{source: embedded, loader: os.system}}",
        "scoring: {{metrics: [{{name: word_error, python: 'touch {mark}'}}], primary: word_error, "
        "min_effect: 0.05}}",
    ],
)
def test_a_spec_runs_nothing(write, tmp_path, line):
    mark = tmp_path / "mark"
    path = write()
    path.write_text(path.read_text() + line.format(mark=mark) + "\n")
    with pytest.raises(InputError):
        read_spec(path)
    assert not mark.exists()
