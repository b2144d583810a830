"""What becomes of a trial that Ray Tune says is over."""

from types import SimpleNamespace

import pytest

from jobs.training.epochs import EpochLosses, write_losses
from orchestrator.context import SweepContext
from orchestrator.ledger import TrialResult
from orchestrator.search.tune import _Events


class Heard(list):
    """The observer and the pool, remembering."""

    def reap(self, trial) -> None:
        self.append(("freed", trial))

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
        made = SimpleNamespace(
            config={"trial": record.id},
            last_result=result,
            get_error=lambda: error,
            id=record.id,
            trial_id="tune-1",
        )
        made.set_config = lambda config: setattr(made, "config", config)
        return made

    return make


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"epoch": 3}, ("finished", "")),
        ({"epoch": 2}, ("stopped", "worse than its peers at a rung")),
        (
            {"failed": "the loss must be finite", "final": True},
            ("failed", "the loss must be finite"),
        ),
        ({"failed": "3 hosts died", "final": False}, ("failed", "3 hosts died", False)),
    ],
    ids=["finished", "stopped", "diverged", "lost its hosts"],
)
def test_a_trial_that_completed(context, trial, result, expected):
    heard, ended = Heard(), trial(**result)
    _Events(context, heard.reap, heard).on_trial_complete(0, [], ended)
    end, reason, *final = expected
    result = TrialResult(end, 2, reason, *final)
    assert heard == [("freed", ended.id), ("ended", ended.id, result)]
    assert context.ledger().result(ended.id) == result


@pytest.mark.parametrize(
    ("error", "reason"),
    [("Traceback\n  in f\nValueError: no\n", "ValueError: no"), (None, "its process died")],
)
def test_a_trial_whose_process_failed(context, trial, error, reason):
    heard, ended = Heard(), trial(error=error)
    _Events(context, heard.reap, heard).on_trial_error(0, [], ended)
    result = TrialResult("failed", 2, reason, final=False)
    assert heard == [("freed", ended.id), ("ended", ended.id, result)]


def test_a_trial_whose_process_failed_is_taken_up_again(context, trial):
    heard = Heard()
    events = _Events(context, heard.reap, heard)
    events.on_trial_error(0, [], trial(error="OSError: disk"))
    ended = trial(epoch=3)
    events.on_trial_complete(0, [], ended)
    assert context.ledger().result(ended.id) == TrialResult("finished", 2, "")


def test_the_first_end_stands(context, trial):
    """A trial that was stopped by an earlier run is not called finished by a later one."""
    heard, ended = Heard(), trial(epoch=2)
    events = _Events(context, heard.reap, heard)
    events.on_trial_complete(0, [], ended)
    events.on_trial_complete(0, [], trial(epoch=3))
    assert [entry[2].end for entry in heard if entry[0] == "ended"] == ["stopped", "stopped"]


def test_a_trial_that_starts_is_told_by_its_id(context, trial):
    heard, started = Heard(), trial()
    _Events(context, heard.reap, heard).on_trial_start(0, [], started)
    assert heard == [("started", started.id)]


def test_a_diverged_epoch_is_no_report(context, trial):
    heard = Heard()
    events = _Events(context, heard.reap, heard)
    events.on_trial_result(0, [], trial(), {"failed": "nan"})
    events.on_trial_result(0, [], trial(), {"epoch": 1})
    assert heard == [("reported", {"epoch": 1})]


def test_a_new_process_is_told_what_was_reported(context, trial):
    """Ray Tune starts it with the trial's config, and has heard of these epochs."""
    events = _Events(context, Heard().reap, Heard())
    died = trial()
    events.on_trial_recover(0, [], died)
    assert died.config == {"trial": died.id, "reported": 0}
    for epoch in (1, 2):
        events.on_trial_result(0, [], died, {"epoch": epoch})
    events.on_trial_recover(0, [], died)
    assert died.config == {"trial": died.id, "reported": 2}


def test_a_replicate_has_finished_at_the_winners_epoch(context, trial):
    heard = Heard()
    _Events(context, heard.reap, heard, last_epoch=2).on_trial_complete(0, [], trial(epoch=2))
    assert heard[-1][2] == TrialResult("finished", 2)
