"""MLflow as a view of the ledger: one parent run a sweep, one child run a trial.

Everything logged comes from the ledger and carries the ledger's times and steps, so logging the
same again adds nothing: MLflow keeps one value per key, time and step.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

# Set before the import: a sweep of somebody's voice reports to nobody.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Of MLflow's own 7 retries the last waits for minutes, and a wrong address is said only after it.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from jobs.metrics.base import ClipScores
from jobs.training.epochs import EpochLosses
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import TrialRecord, TrialResult
from orchestrator.records.names import legal_name
from orchestrator.verdict.outcome import Verdict

TRIAL_TAG = "voxsweep.trial"
SWEEP_TAG = "voxsweep.sweep"
_STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
_BATCH = 500
"""Metrics a request; MLflow takes at most 1000."""
_PARAMS = 100
"""Params a request, as many as MLflow takes."""

for _noisy in ("alembic", "mlflow"):
    logging.getLogger(_noisy).setLevel(logging.ERROR)


class Tracker:
    """The only writer of a sweep's runs.

    Every method raises InfrastructureError when the tracking server does not answer.
    """

    def __init__(self, uri: str, artifacts: str | None, sweep: str) -> None:
        """Find or make the sweep's experiment and parent run."""
        self._uri = uri
        with _unreachable(uri):
            self._client = MlflowClient(tracking_uri=uri)
            self._experiment = self._find_experiment(sweep, artifacts)
            self._sweep = sweep
            self.parent = self._find_run(SWEEP_TAG, sweep, parent=None)
            self._runs: dict[str, str] = {}

    def start_trial(self, record: TrialRecord) -> None:
        """Find or make the trial's run, with its hyper-parameters as params."""
        if record.id in self._runs:
            return
        params = [Param(k, str(v)) for k, v in record.training.model_dump().items()]
        with _unreachable(self._uri):
            run_id = self._find_run(TRIAL_TAG, record.id, parent=self.parent)
            self._client.log_batch(run_id, params=params)
        self._runs[record.id] = run_id

    def log_epoch(
        self,
        trial: str,
        losses: EpochLosses,
        steps_before: int,
        objective: float,
        scores: Sequence[tuple[float, Sequence[ClipScores]]],
    ) -> None:
        """Log an epoch's losses, what the search was told, and each metric's mean by lora_scale.

        Step losses have the optimiser step as MLflow's step, everything else the epoch;
        ``steps_before`` is how many optimiser steps the epochs before it had.
        """
        time = int(losses.finished_at * 1000)
        metrics = [
            Metric("training_loss", losses.training_loss, time, losses.epoch),
            Metric("validation_loss", losses.validation_loss, time, losses.epoch),
            Metric("objective", objective, time, losses.epoch),
            Metric("seconds", losses.seconds, time, losses.epoch),
            *_group_metrics(losses, time),
            *_step_metrics(losses, steps_before, time),
            *_variant_metrics(losses.epoch, time, scores),
        ]
        self._log(self._runs[trial], metrics)

    def end_trial(self, trial: str, result: TrialResult, tags: dict[str, str]) -> None:
        """Close the trial's run; ``tags`` link to what is kept in the storage."""
        run_id = self._runs[trial]
        tags = {"voxsweep.end": result.end, "voxsweep.reason": result.reason, **tags}
        with _unreachable(self._uri):
            self._client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()])
            self._client.set_terminated(run_id, _STATUS[result.end])

    def describe_data(self, params: Mapping[str, str]) -> None:
        """Add ``params`` to the parent run.

        Those that an earlier run of the sweep logged stay as they are: MLflow never changes one.
        """
        with _unreachable(self._uri):
            known = self._client.get_run(self.parent).data.params
            new = [Param(key, value) for key, value in params.items() if key not in known]
            for start in range(0, len(new), _PARAMS):
                self._client.log_batch(self.parent, params=new[start : start + _PARAMS])

    def end_sweep(self, verdict: Verdict, files: Iterable[Path]) -> None:
        """Record the verdict on the parent run, with ``files`` as its artifacts, and close it."""
        tags = {
            "voxsweep.verdict": verdict.verdict,
            "voxsweep.sentence": verdict.sentence,
            "voxsweep.variant": verdict.variant or "",
            "voxsweep.protocol": verdict.protocol_hash,
        }
        with _unreachable(self._uri):
            self._client.log_batch(self.parent, tags=[RunTag(k, v) for k, v in tags.items()])
            for path in files:
                self._client.log_artifact(self.parent, str(path))
            self._client.set_terminated(self.parent, "FINISHED")

    def _find_experiment(self, name: str, artifacts: str | None) -> str:
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=artifacts))

    def _find_run(self, tag: str, value: str, parent: str | None) -> str:
        """The run tagged so, open again, or a new one."""
        found = self._client.search_runs([self._experiment], f"tags.`{tag}` = '{value}'")
        run: Run
        if found:
            run = found[0]
            self._client.update_run(run.info.run_id, RunStatus.to_string(RunStatus.RUNNING))
        else:
            tags = {tag: value, MLFLOW_RUN_NAME: value}
            tags |= {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
            run = self._client.create_run(self._experiment, tags=tags)
        return str(run.info.run_id)

    def _log(self, run_id: str, metrics: Sequence[Metric]) -> None:
        with _unreachable(self._uri):
            for start in range(0, len(metrics), _BATCH):
                self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def _group_metrics(losses: EpochLosses, time: int) -> Iterator[Metric]:
    """Such as ``validation_loss.language.km``."""
    taken: dict[str, set[str]] = defaultdict(set)
    for group, loss in losses.group_losses.items():
        by, _, name = group.partition("/")
        legal = legal_name(name, taken[by])
        taken[by].add(legal)
        yield Metric(f"validation_loss.{by}.{legal}", loss, time, losses.epoch)


def _step_metrics(losses: EpochLosses, before: int, time: int) -> Iterator[Metric]:
    steps = zip(losses.step_losses, losses.learning_rates, strict=True)
    for step, (loss, rate) in enumerate(steps, start=before + 1):
        yield Metric("step_loss", loss, time, step)
        yield Metric("learning_rate", rate, time, step)


def _variant_metrics(
    epoch: int, time: int, scores: Sequence[tuple[float, Sequence[ClipScores]]]
) -> Iterator[Metric]:
    for scale, rows in scores:
        names = dict.fromkeys(name for row in rows for name in row.values)
        for name in names:
            values = [row.values[name] for row in rows if name in row.values]
            yield Metric(f"scale_{scale:.2f}/{name}", float(np.mean(values)), time, epoch)
        failed = sum(bool(row.failures) for row in rows)
        yield Metric(f"scale_{scale:.2f}/unscored_clips", failed, time, epoch)


@contextmanager
def _unreachable(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise InfrastructureError(
            f"MLflow must answer at {uri}, but: {error}. Start it, or set records.mlflow to null."
        ) from error


def local_tracking(directory: Path) -> tuple[str, str]:
    """Tracking URI and artifact location of MLflow's SQLite file and artifact folder there."""
    return f"sqlite:///{directory / 'mlflow.db'}", (directory / "mlartifacts").as_uri()
