"""MLflow is written to in the background: what its failures do to a sweep, and to its runs."""

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException

from orchestrator.errors import InfrastructureError
from orchestrator.records.recorder import DELAYS, Recorder, is_permanent, reason, status_of
from orchestrator.records.tracking import MlflowStore
from tests.orchestrator.records.made_sweep import everything

PATIENCE = 400.0
"""Seconds that a test may wait at most; none needs them."""


class Gate:
    """Fails requests while it is shut."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        self.turns: Iterator[bool] = itertools.repeat(True)
        """Which requests fail while it is shut."""
        self.failed = threading.Event()
        for name in ("search_runs", "create_run", "log_batch", "set_terminated"):
            monkeypatch.setattr(MlflowClient, name, self._guarded(getattr(MlflowClient, name)))

    def _guarded(self, method: Callable[..., object]) -> Callable[..., object]:
        def guarded(*args: object, **kwargs: object) -> object:
            if self.error is not None and next(self.turns):
                self.failed.set()
                raise self.error
            return method(*args, **kwargs)

        return guarded


@pytest.fixture
def gate(monkeypatch) -> Iterator[Gate]:
    found = Gate(monkeypatch)
    yield found
    found.error = None


@pytest.fixture
def undisturbed(made, make_store, record) -> Callable[[], dict[str, dict[str, object]]]:
    """What an empty MLflow has when it is told of the ledger as it is now."""

    def rebuilt() -> dict[str, dict[str, object]]:
        store = make_store("undisturbed")
        assert record(store).close(PATIENCE, PATIENCE) is None
        return everything(store.uri, "small")

    return rebuilt


def test_a_sweep_as_it_goes(made, store, record, undisturbed, notes):
    """Told bit by bit, MLflow has what it has when it is told at the end."""
    recorder = record(store)
    recorder.await_contact(PATIENCE)
    for epoch in (1, 2):
        for trial in made.trials:
            made.commit(trial, epoch)
            recorder.enqueue(trial)
            made.score(trial, epoch)
            recorder.enqueue(trial)
    for trial in made.trials:
        made.end(trial)
        recorder.enqueue(trial)
    made.finish()
    recorder.enqueue_all()
    assert recorder.close(PATIENCE, PATIENCE) is None
    assert (recorder.recorded.runs, recorder.recorded.created) == (3, 3)
    assert everything(store.uri, "small") == undisturbed()
    assert notes == []


def test_what_an_earlier_driver_did_not_tell(made, store, record, undisturbed):
    made.run()
    recorder = record(store)
    assert recorder.close(PATIENCE, PATIENCE) is None
    assert everything(store.uri, "small") == undisturbed()
    again = record(store)
    assert again.close(PATIENCE, PATIENCE) is None
    assert (again.recorded.created, again.recorded.changes) == (0, 0)


def test_mlflow_is_gone_for_a_while(made, store, record, undisturbed, notes, gate):
    """From the start and in the middle; a person is told when it goes and when it is back."""
    gate.error = ConnectionError("connection refused")
    recorder = record(store)
    recorder.await_contact(PATIENCE)
    assert len(notes) == 1
    assert "connection refused. It is tried again" in notes[0]
    made.train(made.trials[0], 1)
    recorder.enqueue(made.trials[0])
    gate.error = None
    wait_for(lambda: len(notes) == 2)
    assert notes[1].endswith("answers again.")
    gate.failed.clear()
    gate.error = RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "busy"})
    made.run()
    recorder.enqueue_all()
    assert gate.failed.wait(PATIENCE)
    gate.error = None
    assert recorder.close(PATIENCE, PATIENCE) is None
    assert len(notes) == 4
    assert everything(store.uri, "small") == undisturbed()


def test_mlflow_stays_away(made, store, record, gate, undisturbed):
    """The sweep is not kept: what is missing can be told later."""
    gate.error = ConnectionError("connection refused")
    recorder = record(store)
    made.run()
    recorder.enqueue_all()
    assert recorder.close(0.05, PATIENCE) == "connection refused"
    recorder._thread.join(PATIENCE)
    assert not recorder._thread.is_alive()
    gate.error = None
    later = record(store)
    assert later.close(PATIENCE, PATIENCE) is None
    assert everything(store.uri, "small") == undisturbed()


def test_every_second_request_fails(made, store, record, gate, undisturbed):
    """Where MLflow has all of it, one look after the last failure is enough."""
    made.run()
    assert record(store).close(PATIENCE, PATIENCE) is None
    gate.turns = itertools.cycle([True, False])
    gate.error = ConnectionError("connection refused")
    recorder = record(store)
    assert recorder.close(PATIENCE, PATIENCE) is None
    assert recorder.recorded.changes == 0
    gate.error = None
    assert everything(store.uri, "small") == undisturbed()


def test_mlflow_refuses(made, store, record, gate, notes):
    """Before anything is spent, that ends the sweep; nobody asks again."""
    gate.error = RestException({"error_code": "UNAUTHENTICATED", "message": "who are you?"})
    recorder = record(store)
    with pytest.raises(InfrastructureError, match="who are you"):
        recorder.await_contact(PATIENCE)
    recorder._thread.join(PATIENCE)
    assert not recorder._thread.is_alive()
    assert "who are you?" in recorder.close(PATIENCE, PATIENCE)
    assert len(notes) == 1


def test_no_secret_is_told(made, record, gate, notes):
    gate.error = ConnectionError("no way to https://ann:hunter2@host/x")
    recorder = record(MlflowStore("http://ann:hunter2@127.0.0.1:9"))
    recorder.await_contact(PATIENCE)
    told = [*notes, recorder.uri, recorder.close(0.05, PATIENCE)]
    assert "hunter2" not in str(told)
    assert len(notes) == 1


class TestFailures:
    """Which mean that there is no use in trying again."""

    @pytest.mark.parametrize(
        "code",
        [
            "UNAUTHENTICATED",
            "CUSTOMER_UNAUTHORIZED",
            "PERMISSION_DENIED",
            "ENDPOINT_NOT_FOUND",
            "NOT_IMPLEMENTED",
        ],
    )
    def test_at_once(self, code):
        assert is_permanent([status_of(RestException({"error_code": code}))])

    def test_a_deleted_experiment_at_once(self):
        assert is_permanent([status_of(InfrastructureError("was deleted"))])

    @pytest.mark.parametrize(
        "error",
        [
            ConnectionError(),
            TimeoutError(),
            OSError("disk"),
            MlflowException("API request failed with exception"),
            RestException({"error_code": "TEMPORARILY_UNAVAILABLE"}),
            RestException({"error_code": "REQUEST_LIMIT_EXCEEDED"}),
            RestException({"error_code": "RESOURCE_DOES_NOT_EXIST"}),
        ],
    )
    def test_never(self, error):
        assert not any(is_permanent([status_of(error)] * times) for times in range(1, 20))

    def test_a_bad_request_three_times_in_a_row(self):
        refused = status_of(RestException({"error_code": "INVALID_PARAMETER_VALUE"}))
        assert [is_permanent([refused] * times) for times in (1, 2, 3)] == [False, False, True]
        other = status_of(ConnectionError())
        failures = [refused, refused, other, refused, refused]
        assert not any(is_permanent(failures[:times]) for times in range(1, 6))
        assert is_permanent([*failures, refused])

    def test_a_reason_is_one_short_line(self):
        assert reason(ValueError("a\n  b")) == "a b"
        assert reason(ValueError()) == "ValueError"
        assert len(reason(ValueError("x" * 999))) == 240


def test_waits_grow_to_a_bound(made, store, notes, gate, monkeypatch):
    assert DELAYS == (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
    waits: list[float] = []
    recorder = Recorder(made.ledger, made.spec, store, notes.append, DELAYS)
    monkeypatch.setattr(recorder._closing, "wait", waits.append)
    gate.error = ConnectionError("connection refused")
    recorder.start()
    wait_for(lambda: len(waits) >= 8)
    gate.error = None
    assert recorder.close(PATIENCE, PATIENCE) is None
    assert waits[:8] == [*DELAYS, 30.0, 30.0]


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds; the test's own time limit ends what never does."""
    while not condition():
        threading.Event().wait(0.01)


@pytest.mark.postgres
def test_a_database_without_a_server(postgres_url, made, record, undisturbed, tmp_path):
    """Has the same runs as a file; artifacts go where the sweep says."""
    made.run()
    artifacts = (tmp_path / "artifacts").as_uri()
    assert record(MlflowStore(postgres_url, artifacts)).close(PATIENCE, PATIENCE) is None
    assert everything(postgres_url, "small") == undisturbed()
    assert list((tmp_path / "artifacts").rglob("verdict.json"))
