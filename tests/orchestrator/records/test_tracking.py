"""The only writer of MLflow's runs: real MLflow on a SQLite file."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from orchestrator.errors import InfrastructureError
from orchestrator.records.runs import RunContent, TrialRuns, read_sweep
from orchestrator.records.tracking import Recorded, Tracker
from tests.orchestrator.records.made_sweep import everything


@pytest.fixture
def open_tracker(made, store) -> Callable[[], Tracker]:
    """As a driver does when it begins."""

    def opened() -> Tracker:
        storage = made.ledger.storage
        return Tracker(store, made.spec.name, made.ledger.begin().id, storage)

    return opened


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient(tracking_uri=store.uri)


@pytest.fixture
def contents(made) -> list[RunContent]:
    """The sweep's and its trials', complete."""
    made.run()
    runs = TrialRuns(made.ledger)
    return [read_sweep(made.ledger, made.spec), *map(runs.read, made.trials)]


def record_all(tracker: Tracker, contents: list[RunContent]) -> None:
    for content in contents:
        tracker.record(content)


def test_the_runs_are_as_they_were_read(open_tracker, contents, store, tmp_path, made):
    record_all(open_tracker(), contents)
    found = everything(store.uri, "small", tmp_path)
    assert set(found) == {"sweep", *made.trials}
    for content in contents:
        run = found[content.trial or "sweep"]
        assert run["name"] == content.name
        assert (run["status"], run["times"]) == (
            content.end[0],
            (content.started_at, content.end[1]),
        )
        assert run["parent"] == (content.trial and "sweep")
        assert run["params"] == content.params
        assert {**run["tags"], **content.tags} == run["tags"]
        wanted: dict[str, list[tuple[int, int, float]]] = {}
        for values in (*map(content.epoch_values, range(1, content.epochs + 1)), content.summary):
            for value in values:
                wanted.setdefault(value.key, []).append((value.step, value.timestamp, value.value))
        assert run["history"] == wanted
        files = {n: made.ledger.storage.read(key) for n, key in content.files.items()}
        assert run["artifacts"] == files
    assert len(found["sweep"]["artifacts"]) == 4


def test_again_changes_nothing(open_tracker, contents, store):
    """Neither in the same process nor in the next one, which finds the same runs."""
    first = open_tracker()
    record_all(first, contents)
    before = everything(store.uri, "small")
    changes = first.recorded.changes
    again = open_tracker()
    for tracker in (first, again):
        record_all(tracker, contents)
    assert (first.recorded.created, first.recorded.changes) == (3, changes)
    assert again.recorded == Recorded(runs=3)
    assert again.runs == first.runs
    assert everything(store.uri, "small") == before


def test_an_epoch_logged_twice_is_there_once(open_tracker, contents, store, client):
    """A driver died after it had logged it, before that was counted."""
    tracker = open_tracker()
    record_all(tracker, contents)
    before = everything(store.uri, "small")
    for run_id in [tracker.runs[trial] for trial in tracker.runs if trial]:
        client.set_tag(run_id, "voxsweep.epochs_logged", "0")
    again = open_tracker()
    record_all(again, contents)
    assert everything(store.uri, "small") == before


def test_more_metrics_than_one_request_takes(open_tracker, contents, client):
    values = [Metric("by_step/loss", float(step), 1000, step) for step in range(1, 1301)]
    tracker = open_tracker()
    tracker.record(contents[0])
    tracker.record(replace(contents[1], epochs=1, epoch_values=lambda _: values))
    history = client.get_metric_history(tracker.runs[contents[1].trial], "by_step/loss")
    assert [(m.step, m.value) for m in history] == [(v.step, v.value) for v in values]


def test_params_are_never_changed(open_tracker, contents, store):
    """There may be more of them than a request takes; those of an earlier driver stay."""
    first = {f"data.slt.{i}": str(i) for i in range(230)}
    open_tracker().record(replace(contents[0], params=first))
    later = {**first, "data.slt.0": "changed", "data.slt.minutes": "1.3"}
    open_tracker().record(replace(contents[0], params=later))
    params = everything(store.uri, "small")["sweep"]["params"]
    assert params == {**first, "data.slt.minutes": "1.3"}


def test_a_run_that_goes_on_is_open_again(open_tracker, contents, store):
    tracker = open_tracker()
    record_all(tracker, contents)
    tracker.record(replace(contents[1], end=None))
    assert everything(store.uri, "small")[contents[1].trial]["status"] == "RUNNING"
    open_tracker().record(contents[1])
    assert everything(store.uri, "small")[contents[1].trial]["status"] == "FINISHED"


def test_a_driver_killed_when_it_had_made_a_run(open_tracker, contents, store, monkeypatch):
    """The next one finds it, though nobody noted its id: two drivers make one run of a trial."""
    make = MlflowClient.create_run

    class KilledError(Exception):
        pass

    def made_and_killed(*args, **kwargs):
        make(*args, **kwargs)
        raise KilledError

    for killed_at in range(len(contents)):
        monkeypatch.setattr(MlflowClient, "create_run", make)
        tracker = open_tracker()
        record_all(tracker, contents[:killed_at])
        monkeypatch.setattr(MlflowClient, "create_run", made_and_killed)
        with pytest.raises(KilledError):
            tracker.record(contents[killed_at])
    monkeypatch.setattr(MlflowClient, "create_run", make)
    last = open_tracker()
    assert len(last.runs) == len(contents)
    record_all(last, contents)
    assert last.recorded.created == 0
    assert len(everything(store.uri, "small")) == len(contents)


def test_a_run_that_a_late_request_made_goes(open_tracker, contents, store, client):
    """What answers late may make a second run when the first is in use: the one in use stays."""
    tracker = open_tracker()
    record_all(tracker, contents)
    before = everything(store.uri, "small")
    run = client.get_run(tracker.runs[contents[1].trial])
    tags = {k: run.data.tags[k] for k in ("voxsweep.sweep_id", "voxsweep.trial")}
    for _ in range(2):
        client.create_run(
            run.info.experiment_id, tags={**tags, MLFLOW_PARENT_RUN_ID: tracker.runs[None]}
        )
    assert open_tracker().runs == tracker.runs
    assert everything(store.uri, "small") == before


def test_sweeps_of_one_name_do_not_mix(open_tracker, contents, made, store):
    """They share an experiment and nothing else."""
    record_all(open_tracker(), contents)
    other = Tracker(store, made.spec.name, "another", made.ledger.storage)
    assert other.runs == {}


def test_a_deleted_experiment(open_tracker, contents, client):
    open_tracker()
    client.delete_experiment(client.get_experiment_by_name("small").experiment_id)
    with pytest.raises(InfrastructureError, match="mlflow experiments restore -x 1"):
        open_tracker()
