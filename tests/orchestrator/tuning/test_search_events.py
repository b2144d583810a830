"""What becomes of a trial that Ray Tune says is over."""

from types import SimpleNamespace

import pytest

from jobs.training.epochs import EpochLosses, write_losses
from orchestrator.ledger import TrialResult
from orchestrator.tuning.search import _Events
from orchestrator.tuning.trial import SweepContext


class Heard(list):
    """The observer, remembering."""

    def trial_started(self, trial) -> None:
        self.append(("started", trial))

    def trial_reported(self, result) -> None:
        self.append(("reported", result))

    def trial_ended(self, trial, result) -> None:
        self.append(("ended", trial, result))


@pytest.fixture
def context(make_spec, tmp_path) -> SweepContext:
    spec = make_spec(training="training: {epochs: 3}")
    return SweepContext(spec, str(tmp_path / "st"), "b", "d", protocol=None, scorers=None)


@pytest.fixture
def trial(context):
    """A trial of Tune's at a point, with two epochs committed."""
    point = {"rank": 2}
    record = context.ledger().start_trial(context.trial_spec(point), point)
    for epoch in (1, 2):
        with context.ledger().storage.commit(
            context.ledger().checkpoint(record.id, epoch)
        ) as folder:
            write_losses(folder, EpochLosses(epoch, 1.0, 1.0, (), (), 1.0, 1.0))

    def make(**result) -> SimpleNamespace:
        error = result.pop("error", None)
        return SimpleNamespace(
            config={"point": point}, last_result=result, get_error=lambda: error, id=record.id
        )

    return make


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"epoch": 3}, ("finished", "")),
        ({"epoch": 2}, ("stopped", "worse than its peers at a rung")),
        ({"failed": "the loss must be finite"}, ("failed", "the loss must be finite")),
    ],
    ids=["finished", "stopped", "diverged"],
)
def test_a_trial_that_completed(context, trial, result, expected):
    heard, ended = Heard(), trial(**result)
    _Events(context, heard).on_trial_complete(0, [], ended)
    assert heard == [("ended", ended.id, TrialResult(expected[0], 2, expected[1]))]
    assert context.ledger().result(ended.id) == heard[0][2]


@pytest.mark.parametrize(
    ("error", "reason"),
    [("Traceback\n  in f\nValueError: no\n", "ValueError: no"), (None, "its process died")],
)
def test_a_trial_whose_process_failed(context, trial, error, reason):
    heard, ended = Heard(), trial(error=error)
    _Events(context, heard).on_trial_error(0, [], ended)
    assert heard == [("ended", ended.id, TrialResult("failed", 2, reason, final=False))]


def test_a_trial_whose_process_failed_is_taken_up_again(context, trial):
    heard = Heard()
    events = _Events(context, heard)
    events.on_trial_error(0, [], trial(error="OSError: disk"))
    ended = trial(epoch=3)
    events.on_trial_complete(0, [], ended)
    assert context.ledger().result(ended.id) == TrialResult("finished", 2, "")


def test_the_first_end_stands(context, trial):
    """A trial that was stopped by an earlier run is not called finished by a later one."""
    heard, ended = Heard(), trial(epoch=2)
    events = _Events(context, heard)
    events.on_trial_complete(0, [], ended)
    events.on_trial_complete(0, [], trial(epoch=3))
    assert [entry[2].end for entry in heard] == ["stopped", "stopped"]


def test_a_trial_that_starts_is_told_by_its_id(context, trial):
    heard, started = Heard(), trial()
    _Events(context, heard).on_trial_start(0, [], started)
    assert heard == [("started", started.id)]


def test_a_diverged_epoch_is_no_report(context, trial):
    heard = Heard()
    events = _Events(context, heard)
    events.on_trial_result(0, [], trial(), {"failed": "nan"})
    events.on_trial_result(0, [], trial(), {"epoch": 1})
    assert heard == [("reported", {"epoch": 1})]
