"""Addresses without secrets."""

import pytest

from jobs.problems import InputError
from orchestrator.addresses import redacted, tracking_problem

SECRET = "hunter2"


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:5000",
        "https://mlflow.example.org/team/",
        "sqlite:////srv/mlflow.db",
        "postgresql://db/mlflow",
        "postgresql+psycopg2://ann@127.0.0.1:5432/mlflow?sslmode=require",
    ],
)
def test_good(address):
    assert tracking_problem(address) is None
    assert redacted(address) == address


@pytest.mark.parametrize(
    "address",
    [
        f"https://ann:{SECRET}@host",
        f"https://{SECRET}@host/mlflow",
        f"postgresql+psycopg2://ann:{SECRET}@db:5432/x",
        f"postgresql://:{SECRET}@db/x",
        # Not quoted, as it ought to be.
        f"postgresql://ann:12/{SECRET}@db/x",
        f"postgresql://ann:{SECRET}@{SECRET}@db/x",
        f"mysql+pymysql://db/x?password={SECRET}",
        f"https://host/?a=1&access_token={SECRET}",
    ],
)
def test_secrets_are_refused_and_not_repeated(address):
    what, next_step = tracking_problem(address)
    assert "may hold no password or token" in what
    assert "***" in what
    assert SECRET not in what + next_step
    assert "MLFLOW_TRACKING_TOKEN" in next_step
    assert "PGPASSWORD" in next_step
    told = f"no answer from {address}: connection refused"
    assert SECRET not in redacted(told)
    assert redacted(told).startswith("no answer from ")
    assert redacted(told).endswith(" connection refused")


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("mlruns", "must begin with http://"),
        ("file:///srv/mlruns", "must begin with http://"),
        ("ftp://host", "must begin with http://"),
        ("http://host:99999", "a port from 1 to 65535"),
        ("http://host:0", "a port from 1 to 65535"),
        ("http://host:five", "a port from 1 to 65535"),
        ("http://:5000", "must name a host"),
        ("http://ho st", "no spaces"),
        ("http://host\n", "no spaces"),
        ("sqlite://mlflow.db", "after sqlite:///"),
    ],
)
def test_wrong(address, rule):
    what, _ = tracking_problem(address)
    assert rule in what


@pytest.mark.parametrize(
    "value", [f"http://ann:{SECRET}@host", f"[http://ann:{SECRET}@host]"], ids=["text", "list"]
)
def test_a_spec_with_a_secret(make_spec, value):
    """Is refused with the key's line, whatever else is wrong with it, and the secret unsaid."""
    with pytest.raises(InputError) as caught:
        make_spec(records=f"records: {{mlflow: '{value}'}}".replace("'[", "['").replace("]'", "']"))
    (problem,) = caught.value.problems
    assert problem.where.endswith(":5")
    assert "records.mlflow" in problem.what
    assert SECRET not in str(problem)
