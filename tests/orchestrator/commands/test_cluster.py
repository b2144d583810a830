"""``submit``, ``logs``, ``stop`` and ``run --address`` as a user meets them, with nobody to ask."""

import json

import pytest
from typer.testing import CliRunner

from jobs.problems import InputError
from orchestrator.cli import app
from tests.orchestrator.conftest import SECTIONS

TOKEN = "5eed" * 16
SHARED = "{nodes_share_files: true, code: installed}\n"


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("\n".join(SECTIONS.values()) + "\n")
    return path


@pytest.fixture(autouse=True)
def no_token(monkeypatch, tmp_path_factory):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


def refused(*arguments: object) -> str:
    """All that is said against a command."""
    ended = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(ended.exception, InputError), ended.output
    return str(ended.exception)


def test_a_dry_run_shows_all_but_the_token_and_asks_nobody(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    before = sorted(tmp_path.rglob("*"))
    asked = ["submit", str(spec), "--storage", "s3://b/s", "--dry-run"]
    # An address that is reserved for documentation (RFC 5737): nobody answers there.
    ended = CliRunner().invoke(app, [*asked, "--address", "http://192.0.2.1:8265", "--json"])
    assert ended.exit_code == 0, ended.output
    said = json.loads(ended.stdout)
    assert said["token"] == "sent"
    assert said["entrypoint_num_gpus"] == 0
    assert said["submission_id"].startswith("small-")
    assert TOKEN not in ended.output
    assert sorted(tmp_path.rglob("*")) == before


def test_everything_wrong_is_said_at_once(spec, tmp_path):
    spec.write_text(spec.read_text().replace("codec_lm", "codec_ml"))
    (tmp_path / "c.yaml").write_text("drivr: {}\n")
    said = refused(
        *("submit", spec, "--cluster", tmp_path / "c.yaml", "--address", "ftp://head")
    ).splitlines()
    assert len(said) == 3
    assert "unknown key drivr" in said[0]
    assert "the address of Ray Jobs must be" in said[1]
    assert "family must be known" in said[2]


@pytest.mark.parametrize("command", ["submit", "status", "logs", "stop"])
def test_an_open_address_is_refused(spec, tmp_path, command):
    (tmp_path / "c.yaml").write_text(SHARED)
    name = [spec, "--cluster", tmp_path / "c.yaml", "--storage", tmp_path / "st"]
    arguments = name if command == "submit" else ["small"]
    said = refused(command, *arguments, "--address", "http://192.0.2.1:8265")
    assert "must demand a token" in said
    assert "--insecure-address" in said


@pytest.mark.parametrize("command", ["submit", "status", "logs", "stop", "run"])
def test_a_cluster_that_answers_anybody_is_refused(
    spec, tmp_path, command, monkeypatch, tmp_path_factory
):
    """Though a token is known here: whoever reaches the cluster can run what they like."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    asked = []
    monkeypatch.setattr("cluster.ray.addresses.open_jobs", lambda url: asked.append(url) or True)
    monkeypatch.setattr("cluster.ray.addresses.open_cluster", lambda at: asked.append(at) or True)
    (tmp_path / "c.yaml").write_text(SHARED)
    address = "192.0.2.1:6379" if command == "run" else "https://192.0.2.1:8265"
    arguments = {
        "submit": [spec, "--cluster", tmp_path / "c.yaml", "--storage", tmp_path / "st"],
        "run": [spec, "--storage", tmp_path / "st"],
    }.get(command, ["small"])
    said = refused(command, *arguments, "--address", address)
    assert "answers anybody" in said
    assert asked == [address]
    assert TOKEN not in said
    assert not (tmp_path / "st").exists()


def test_run_refuses_an_address_without_a_token(spec, tmp_path):
    said = refused("run", spec, "--storage", tmp_path / "st", "--address", "192.0.2.1:6379")
    assert "must demand a token" in said
    assert not (tmp_path / "st").exists()


def test_an_address_is_needed(spec):
    assert "the address of Ray Jobs is needed" in refused("submit", spec, "--storage", "s3://b/s")
