"""A real MLflow server on PostgreSQL and S3, and what may happen to it in the middle of a sweep.

Whatever it is, MLflow has in the end what an undisturbed rebuild gives: nothing is missing, nothing
is there twice, and the history of each metric is in its order.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mlflow import MlflowClient

from orchestrator.records.tracking import MlflowStore
from tests.orchestrator.records.made_sweep import MadeSweep, everything
from tests.orchestrator.records.server import Fault, Proxy, Server
from tests.orchestrator.search.fake_sweep import SECTIONS

pytestmark = [pytest.mark.full, pytest.mark.postgres]

PATIENCE = 400.0
"""Seconds that a test may wait at most; none needs them."""


@pytest.fixture(scope="module")
def server(postgres, s3_server, tmp_path_factory) -> Iterator[Server]:
    """One for all tests: it takes long to start."""
    import boto3

    login = {"AWS_ACCESS_KEY_ID": "AKIATESTING", "AWS_SECRET_ACCESS_KEY": "very-secret"}
    place = {"AWS_ENDPOINT_URL": s3_server, "AWS_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}
    boto3.client(
        "s3",
        endpoint_url=s3_server,
        region_name="us-east-1",
        aws_access_key_id=login["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=login["AWS_SECRET_ACCESS_KEY"],
    ).create_bucket(Bucket="mlflow")
    environment = {**os.environ, **login, **place, "MLFLOW_S3_ENDPOINT_URL": s3_server}
    log = tmp_path_factory.mktemp("server") / "log"
    found = Server(postgres.create_database(), "s3://mlflow/artifacts", environment, log)
    try:
        found.start()
        yield found
    finally:
        found.kill()


@pytest.fixture(autouse=True)
def short_timeout(monkeypatch) -> None:
    """A request that gets no answer is given up soon."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def made(make_spec, tmp_path, request) -> MadeSweep:
    """Each test's sweep has a name of its own: they share the server."""
    name = request.node.name.replace("_", "-").replace("[", "-").strip("]")
    return MadeSweep(make_spec(**SECTIONS, name=f"name: {name}"), tmp_path / "st")


@pytest.fixture
def undisturbed(made, make_store, record) -> Callable[[], dict[str, dict[str, Any]]]:
    """What an MLflow of a SQLite file has when it is told of the ledger as it is now."""

    def rebuilt(folder=None) -> dict[str, dict[str, Any]]:
        store = make_store("undisturbed")
        assert record(store).close(PATIENCE, PATIENCE) is None
        return everything(store.uri, made.spec.name, folder)

    return rebuilt


def test_the_same_runs_as_in_a_file(server, made, record, undisturbed, tmp_path):
    """With artifacts, which lie in the bucket; and a second time nothing is added."""
    made.run()
    recorder = record(MlflowStore(server.url))
    assert recorder.close(PATIENCE, PATIENCE) is None
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    found = everything(server.url, made.spec.name, theirs, server.database)
    assert found == undisturbed(ours)
    assert set(found["sweep"]["artifacts"]) == {
        "spec.yaml",
        "protocol.json",
        "verdict.json",
        "report.html",
    }
    again = record(MlflowStore(server.url))
    assert again.close(PATIENCE, PATIENCE) is None
    assert (again.recorded.runs, again.recorded.created, again.recorded.changes) == (3, 0, 0)


def test_killed_and_started_again(server, made, record, undisturbed, notes):
    """By SIGKILL, in the middle; the sweep goes on while it is gone."""
    made.train(made.trials[0], 1)
    recorder = record(MlflowStore(server.url))
    recorder.await_contact(PATIENCE)
    server.kill()
    made.run()
    recorder.enqueue_all()
    server.start()
    assert recorder.close(PATIENCE, PATIENCE) is None
    assert notes[-1].endswith("answers again.")
    assert recorder.recorded.runs == 3
    assert everything(server.database, made.spec.name) == undisturbed()


def test_requests_fail(server, made, record, undisturbed):
    """Every fourth: 503, 429, or the answer is lost when the work was done."""
    kinds: Iterator[Fault] = itertools.cycle(["unavailable", "lost", "too many", "lost"])

    def fault(number: int, path: str) -> Fault:
        return next(kinds) if number % 4 == 1 else ""

    made.run()
    with Proxy(server.url, fault).serving() as proxy:
        recorder = record(MlflowStore(proxy.url))
        assert recorder.close(PATIENCE, PATIENCE) is None
        assert set(proxy.failed) == {"unavailable", "lost", "too many"}
    assert everything(server.database, made.spec.name) == undisturbed()


def test_a_request_hangs_and_is_carried_out_late(server, made, record, undisturbed, monkeypatch):
    """The one that makes a trial's run: it is asked for again, and there are two until the end."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    creations = itertools.count()

    def fault(number: int, path: str) -> Fault:
        # The first makes the sweep's own run.
        return "late" if path.endswith("/runs/create") and next(creations) == 1 else ""

    made.train(made.trials[0], 1)
    with Proxy(server.url, fault).serving() as proxy:
        recorder = record(MlflowStore(proxy.url))
        assert proxy.held.wait(PATIENCE)
        made.run()
        recorder.enqueue_all()
        while recorder.recorded.runs < 3:
            recorder._thread.join(0.05)
        proxy.release()
        client = MlflowClient(tracking_uri=server.database)
        experiment = client.get_experiment_by_name(made.spec.name).experiment_id
        assert len(client.search_runs([experiment])) == 4
        assert recorder.close(PATIENCE, PATIENCE) is None
    assert everything(server.database, made.spec.name) == undisturbed()
