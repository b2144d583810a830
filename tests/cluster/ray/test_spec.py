"""What a cluster file may say."""

import pytest
from pydantic import ValidationError

from cluster.ray.spec import ClusterSpec
from jobs.problems import InputError
from orchestrator.spec.reading import read_cluster_file


def refusal(**keys: object) -> str:
    with pytest.raises(ValidationError) as raised:
        ClusterSpec.model_validate(keys)
    return str(raised.value)


_SECRETS = (
    "RAY_AUTH_TOKEN HF_TOKEN AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID DB_PASSWORD OPENAI_API_KEY "
    "MLFLOW_TRACKING_PASSWORD SIGNING_KEY SENTRY_DSN my_secret"
)


@pytest.mark.parametrize("name", _SECRETS.split())
def test_a_secret_does_not_stand_in_a_file(name):
    assert "looks like a secret" in refusal(environment={"env_vars": {name: "value"}})


def test_a_login_does_not_stand_in_a_file():
    login = "https://me:hunter2@somewhere"
    assert "looks like a secret" in refusal(environment={"env_vars": {"INDEX": login}})
    assert "must hold no login" in refusal(address=login)
    assert "must hold no login" in refusal(storage="s3://key:secret@bucket/sweeps")


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "OMP_NUM_THREADS", "A B", "A=B", ""])
def test_variables_that_are_not_the_users(name):
    assert refusal(environment={"env_vars": {name: "1"}})


@pytest.mark.parametrize(
    "text",
    [
        "-r other.txt",
        "--index-url https://x",
        "soxr @ https://x/soxr.whl",
        "./soxr",
        "a; rm -rf",
        "git+https://x/y",
        "",
    ],
)
def test_a_requirement_is_a_package_and_a_version(text):
    assert "a requirement" in refusal(environment={"pip": [text]})


def test_the_driver_never_has_a_gpu():
    assert "extra_forbidden" in refusal(driver={"gpus": 1})
    assert "GPU" in refusal(driver={"resources": {"GPU": 1}})


def test_what_may_be_said():
    spec = ClusterSpec.model_validate(
        {
            "environment": {"env_vars": {"AWS_REGION": "eu-1"}, "pip": ["soxr==1.1.0", "tqdm"]},
            "driver": {"cpus": 0.5, "memory": 10**9, "labels": {"a": "b"}, "resources": {"c": 1}},
        }
    )
    assert spec.driver.cpus == 0.5
    assert spec.code == "sent"


@pytest.mark.parametrize(
    ("url", "shared", "said"),
    [
        ("s3://bucket/sweeps", False, None),
        ("/mnt/sweeps", True, None),
        ("/mnt/sweeps", False, "every node reaches"),
        ("sweeps", True, "absolute path"),
        ("ftp://x", True, "s3:// or a directory"),
    ],
)
def test_a_storage_is_one_that_every_node_reaches(url, shared, said):
    found = ClusterSpec(nodes_share_files=shared).storage_problem(url)
    assert found is None if said is None else said in found[0]


def test_a_file_is_read_with_all_its_problems_and_no_value_of_it(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "adress: x\ndriver: {cpus: 0}\nenvironment:\n  env_vars: {A_TOKEN: hunter2}\ncode: sent\n"
        "code: installed\n"
    )
    with pytest.raises(InputError) as raised:
        read_cluster_file(path, ClusterSpec)
    said = [str(problem) for problem in raised.value.problems]
    assert [line.split(": ")[0] for line in said] == [f"{path}:{n}" for n in (6, 2, 4, 1)]
    assert "Did you mean address" in said[3]
    assert "hunter2" not in "\n".join(said)


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['id']", "[", "- a", ""])
def test_no_yaml_runs_anything(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError):
        read_cluster_file(path, ClusterSpec)
