"""MLflow as a view of the ledger: real MLflow on a SQLite file."""

from dataclasses import replace

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from jobs.metrics.base import ClipScores
from jobs.spec import EngineSpec, TrainingSpec, TrialSpec
from jobs.training.epochs import EpochLosses
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import TrialRecord, TrialResult
from orchestrator.records.tracking import SWEEP_TAG, TRIAL_TAG, Tracker, local_tracking
from orchestrator.verdict.outcome import Verdict

EPOCHS = [
    EpochLosses(
        1,
        3.0,
        2.5,
        (3.5, 2.5, 3.0),
        (0.1, 0.2, 0.3),
        12.0,
        1_700_000_000.5,
        {"language/km": 3.5, "speaker/Ann B.": 1.0, "speaker/Ann?B?": 2.0},
    ),
    EpochLosses(
        2,
        2.0,
        1.5,
        (2.5, 1.5),
        (0.2, 0.1),
        11.0,
        1_700_000_020.5,
        {"language/km": 2.5, "speaker/Ann B.": 0.5, "speaker/Ann?B?": 1.5},
    ),
]
SCORES = [
    (0.5, [ClipScores("v", "p1", 0, {"a": 1.0}), ClipScores("v", "p2", 0, {"a": 2.0})]),
    (1.0, [ClipScores("v", "p1", 0, {"a": 4.0}), ClipScores("v", "p2", 0, {}, {"a": "silent"})]),
]


def record(rank: int, order: int = 0) -> TrialRecord:
    spec = TrialSpec(
        family="codec_lm",
        base_digest="b",
        data_digest="d",
        training=TrainingSpec(rank=rank, clip=None),
        engine=EngineSpec(),
    )
    return TrialRecord(spec.id, order, {"rank": rank}, spec)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """An empty tracking database, made once: its migrations take seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    Tracker(*local_tracking(folder), sweep="unused")
    return folder / "mlflow.db"


@pytest.fixture
def place(tmp_path, migrated) -> tuple[str, str]:
    (tmp_path / "mlflow.db").write_bytes(migrated.read_bytes())
    return local_tracking(tmp_path)


@pytest.fixture
def client(place) -> MlflowClient:
    return MlflowClient(tracking_uri=place[0])


def log_everything(tracker: Tracker, trial: TrialRecord) -> None:
    tracker.start_trial(trial)
    for losses in EPOCHS:
        before = 0 if losses.epoch == 1 else len(EPOCHS[0].step_losses)
        tracker.log_epoch(trial.id, losses, before, 0.25 * losses.epoch, SCORES)


def runs(client: MlflowClient, sweep: str = "sweep") -> dict[str, mlflow.entities.Run]:
    """By the trial's id; the parent by the sweep's name."""
    experiment = client.get_experiment_by_name(sweep)
    found = client.search_runs([experiment.experiment_id])
    return {run.data.tags.get(TRIAL_TAG) or run.data.tags[SWEEP_TAG]: run for run in found}


def history(client: MlflowClient, run: mlflow.entities.Run) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


EXPECTED = {
    "training_loss": [(1, 3.0), (2, 2.0)],
    "validation_loss": [(1, 2.5), (2, 1.5)],
    "objective": [(1, 0.25), (2, 0.5)],
    "seconds": [(1, 12.0), (2, 11.0)],
    "validation_loss.language.km": [(1, 3.5), (2, 2.5)],
    "validation_loss.speaker.Ann_B_": [(1, 1.0), (2, 0.5)],
    "validation_loss.speaker.Ann_B__2": [(1, 2.0), (2, 1.5)],
    # Epochs need not have as many steps as each other.
    "step_loss": [(1, 3.5), (2, 2.5), (3, 3.0), (4, 2.5), (5, 1.5)],
    "learning_rate": [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.2), (5, 0.1)],
    "scale_0.50/a": [(1, 1.5), (2, 1.5)],
    "scale_0.50/unscored_clips": [(1, 0.0), (2, 0.0)],
    "scale_1.00/a": [(1, 4.0), (2, 4.0)],
    "scale_1.00/unscored_clips": [(1, 1.0), (2, 1.0)],
}


def test_a_run_a_trial_under_one_parent(place, client):
    tracker = Tracker(*place, "sweep")
    trials = [record(2), record(4, order=1)]
    for trial in trials:
        tracker.start_trial(trial)
    found = runs(client)
    assert set(found) == {"sweep", trials[0].id, trials[1].id}
    parent = found["sweep"]
    assert MLFLOW_PARENT_RUN_ID not in parent.data.tags
    for trial in trials:
        run = found[trial.id]
        assert run.data.tags[MLFLOW_PARENT_RUN_ID] == parent.info.run_id == tracker.parent
        assert run.info.run_name == trial.id
        assert run.info.status == "RUNNING"
        assert run.data.params["rank"] == str(trial.training.rank)
        assert run.data.params["clip"] == "None"
        assert set(run.data.params) == set(TrainingSpec.model_fields)


def test_metrics_by_step_and_epoch(place, client):
    tracker, trial = Tracker(*place, "sweep"), record(2)
    log_everything(tracker, trial)
    run = runs(client)[trial.id]
    assert history(client, run) == EXPECTED
    times = client.get_metric_history(run.info.run_id, "objective")
    assert [metric.timestamp for metric in times] == [1_700_000_000_500, 1_700_000_020_500]


def test_logging_again_adds_nothing(place, client):
    """Neither in the same process nor in the next one, which finds the same runs."""
    tracker, trial = Tracker(*place, "sweep"), record(2)
    log_everything(tracker, trial)
    log_everything(tracker, trial)
    before = runs(client)
    again = Tracker(*place, "sweep")
    log_everything(again, trial)
    after = runs(client)
    assert {k: r.info.run_id for k, r in after.items()} == {
        k: r.info.run_id for k, r in before.items()
    }
    assert history(client, after[trial.id]) == EXPECTED


def test_more_metrics_than_one_request_takes(place, client):
    steps = 700
    long = replace(
        EPOCHS[0], step_losses=tuple(map(float, range(steps))), learning_rates=(0.1,) * steps
    )
    tracker, trial = Tracker(*place, "sweep"), record(2)
    tracker.start_trial(trial)
    tracker.log_epoch(trial.id, long, 0, 0.0, [])
    run_id = runs(client)[trial.id].info.run_id
    losses = client.get_metric_history(run_id, "step_loss")
    assert sorted((m.step, m.value) for m in losses) == [(i + 1, float(i)) for i in range(steps)]


def test_data_is_described_once(place, client):
    """In more params than a request takes; what an earlier run logged is left as it is."""
    first = {f"data.slt.{i}": str(i) for i in range(230)}
    Tracker(*place, "sweep").describe_data(first)
    again = Tracker(*place, "sweep")
    again.describe_data({**first, "data.slt.0": "changed", "data.slt.minutes": "1.3"})
    assert runs(client)["sweep"].data.params == {**first, "data.slt.minutes": "1.3"}


@pytest.mark.parametrize(
    ("end", "status"), [("finished", "FINISHED"), ("stopped", "FINISHED"), ("failed", "FAILED")]
)
def test_how_a_trial_ended(place, client, end, status):
    tracker, trial = Tracker(*place, "sweep"), record(2)
    tracker.start_trial(trial)
    tracker.end_trial(trial.id, TrialResult(end, 1, "why"), {"link": "somewhere"})
    run = runs(client)[trial.id]
    assert run.info.status == status
    assert run.data.tags["voxsweep.end"] == end
    assert run.data.tags["voxsweep.reason"] == "why"
    assert run.data.tags["link"] == "somewhere"
    Tracker(*place, "sweep").start_trial(trial)
    assert runs(client)[trial.id].info.status == "RUNNING", "a run that goes on is open again"


def test_the_verdict_is_on_the_parent(place, client, tmp_path):
    verdict = Verdict(
        verdict="DO-NOT-FINE-TUNE",
        sentence="It does not help.",
        variant=None,
        runner_up=None,
        protocol_hash="abc",
        primary="similarity",
        effect=None,
        prompts_needed=None,
        rows=(),
        shortlisted=(),
        confirmed=(),
        groups=(),
        error_rates=(),
        listening=None,
        loss=None,
    )
    (tmp_path / "verdict.json").write_text("{}")
    tracker = Tracker(*place, "sweep")
    tracker.end_sweep(verdict, [tmp_path / "verdict.json"])
    parent = runs(client)["sweep"]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["voxsweep.sentence"] == "It does not help."
    assert parent.data.tags["voxsweep.variant"] == ""
    assert [f.path for f in client.list_artifacts(parent.info.run_id)] == ["verdict.json"]
    assert (tmp_path / "mlartifacts").is_dir()


def test_sweeps_do_not_mix(place, client):
    """The same trial in two sweeps is two runs."""
    for sweep in ("one", "two"):
        log_everything(Tracker(*place, sweep), record(2))
    ids = [runs(client, sweep)[record(2).id].info.run_id for sweep in ("one", "two")]
    assert ids[0] != ids[1]
    assert history(client, runs(client, "one")[record(2).id]) == EXPECTED


class TestUnreachable:
    """What MLflow says is passed on, with what to do."""

    ADVICE = "Start it, or set records.mlflow to null"

    def test_a_server_that_is_down(self, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(InfrastructureError, match=self.ADVICE) as caught:
            Tracker("http://127.0.0.1:9", None, "sweep")
        assert "MLflow must answer at http://127.0.0.1:9" in str(caught.value)

    def test_a_database_that_cannot_be_opened(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InfrastructureError, match=self.ADVICE):
            Tracker(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}", None, "sweep")

    def test_a_server_that_goes_down_later(self, place, tmp_path):
        tracker, trial = Tracker(*place, "sweep"), record(2)
        tracker.start_trial(trial)
        (tmp_path / "mlflow.db").write_bytes(b"")
        with pytest.raises(InfrastructureError, match=self.ADVICE):
            tracker.log_epoch(trial.id, EPOCHS[0], 0, 0.0, [])
