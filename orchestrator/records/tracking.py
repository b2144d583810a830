"""MLflow as a view of the ledger: one parent run a sweep, one child run a trial.

Nothing is logged twice: what a run has is looked up when the tracker is opened, an epoch is counted
once it is logged, and MLflow keeps one value per metric, time and step.
"""

import hashlib
import json
import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from cluster.storage.base import Storage
from orchestrator.addresses import is_database, sqlite_url
from orchestrator.errors import InfrastructureError
from orchestrator.records.runs import TRIAL_TAG, RunContent

SWEEP_ID_TAG = "voxsweep.sweep_id"
EPOCHS_TAG = "voxsweep.epochs_logged"
FILES_TAG = "voxsweep.files"
"""Digests of the artifacts that a run has."""
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Opens MLflow's pages on runs and charts; left to guess, they open on traces of chats."""
_BATCH = 500
"""Metrics a request; MLflow takes at most 1000, and 1 MB."""
_PARAMS = 100
"""Params a request, as many as MLflow takes; there are fewer tags than that."""
_PAGE = 1000
"""Runs that one request asks for."""
_RUNNING = RunStatus.to_string(RunStatus.RUNNING)

for _noisy in ("alembic", "mlflow"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class MlflowStore:
    """Where MLflow keeps runs and registered models."""

    uri: str
    artifacts: str | None = None
    """Where a new experiment keeps its artifacts; None leaves it to the server."""
    file: Path | None = None
    """The SQLite file beside the artifacts, where the storage holds both; None for any other."""


def mlflow_store(
    address: str | None, folder: Path, database: str = "mlflow.db", artifacts: str = "mlartifacts"
) -> MlflowStore:
    """The store at ``address``, or else in the SQLite file ``database`` of ``folder``.

    A database cannot say where artifacts go, so they go to ``folder``; a server can.
    """
    if address and not is_database(address):
        return MlflowStore(address)
    where = (folder / artifacts).as_uri()
    if address:
        return MlflowStore(address, where)
    file = folder / database
    return MlflowStore(sqlite_url(file), where, file)


_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow 3 keeps addresses of artifacts: its tables and columns."""


def open_client(store: MlflowStore) -> MlflowClient:
    """A client of the store, whose artifacts are where the storage is now.

    MLflow keeps the absolute address of each artifact, and has no request that changes it: of a
    storage that was moved or copied, they would be read and written where it was.
    """
    if store.file is not None and store.file.is_file():
        _follow(store.file, str(store.artifacts))
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


def _follow(file: Path, artifacts: str) -> None:
    """Have every address of an artifact in MLflow's own ``file`` begin with ``artifacts``."""
    folder = artifacts.rpartition("/")[2]
    with closing(sqlite3.connect(file)) as database, database:
        known = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
        if not {table for table, _ in _LOCATIONS} <= known:
            return  # it has just been made, and holds nothing yet
        found = database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for (before,) in found:
            if before == artifacts or (before or "").rpartition("/")[2] != folder:
                continue
            for table, column in _LOCATIONS:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (artifacts, len(before) + 1, len(before), before),
                )


def find_experiment(client: MlflowClient, name: str, artifacts: str | None) -> tuple[str, bool]:
    """The id of the experiment of this name, and whether it was made now.

    Raises:
        InfrastructureError: somebody deleted it in MLflow.
    """
    known = client.get_experiment_by_name(name)
    if known is None:
        made = client.create_experiment(name, artifact_location=artifacts, tags=_EXPERIMENT_TAGS)
        return str(made), True
    if known.lifecycle_stage != "active":
        raise InfrastructureError(
            f"the experiment {name!r} was deleted in MLflow; "
            f"bring it back: mlflow experiments restore -x {known.experiment_id}"
        )
    return str(known.experiment_id), False


@dataclass
class Recorded:
    """What trackers of one sweep did, all of them together."""

    runs: int = 0
    """That MLflow has of the sweep: its own and one a trial."""
    created: int = 0
    """Of those, the ones that it had not before."""
    changes: int = 0
    """Requests that added or changed something."""
    changed_at: float = 0.0
    """When the last of them was answered, by the monotonic clock."""

    def count(self) -> None:
        """Add a request that changed something."""
        self.changes += 1
        self.changed_at = time.monotonic()


class _KnownRun:
    """A run as MLflow has it."""

    def __init__(self, run: Run) -> None:
        self.run_id: str = run.info.run_id
        self.params: set[str] = set(run.data.params)
        self.tags: dict[str, str] = dict(run.data.tags)
        self.metrics: dict[str, float] = dict(run.data.metrics)
        """The latest values."""
        self.end: tuple[str, int | None] = (run.info.status, run.info.end_time)


class Tracker:
    """The only writer of a sweep's runs.

    Every method raises what MLflow raises when it does not answer or refuses. What was logged by
    then stays; a new tracker goes on from there.
    """

    def __init__(
        self,
        store: MlflowStore,
        sweep: str,
        sweep_id: str,
        storage: Storage,
        recorded: Recorded | None = None,
    ) -> None:
        """Find or make the sweep's experiment, and find its runs.

        Args:
            store: where MLflow is.
            sweep: the sweep's name, and the experiment's.
            sweep_id: what tells the sweep from others of its name.
            storage: where artifacts are read.
            recorded: to which this tracker adds what it does.
        """
        self._storage = storage
        self.recorded = recorded or Recorded()
        self._sweep_id = sweep_id
        self._client = open_client(store)
        self._experiment, is_new = find_experiment(self._client, sweep, store.artifacts)
        if is_new:
            self.recorded.count()
        self._known = self._find_runs()
        self.recorded.runs = len(self._known)

    @property
    def runs(self) -> Mapping[str | None, str]:
        """Run ids by trial; the sweep's own by None."""
        return {trial: known.run_id for trial, known in self._known.items()}

    def record(self, content: RunContent) -> None:
        """Make the run have what ``content`` says; a trial's only after the sweep's own."""
        run = self._known.get(content.trial) or self._create(content)
        self._add_params(run, content.params)
        for epoch in range(int(run.tags.get(EPOCHS_TAG, "0")) + 1, content.epochs + 1):
            self._log(run, content.epoch_values(epoch), {EPOCHS_TAG: str(epoch)})
        news = [metric for metric in content.summary if run.metrics.get(metric.key) != metric.value]
        self._log(run, news)
        run.metrics |= {metric.key: metric.value for metric in news}
        self._upload(run, content.files)
        if new := {key: tag for key, tag in content.tags.items() if run.tags.get(key) != tag}:
            self._write(run, tags=new)
        self._set_end(run, content)

    def _find_runs(self) -> dict[str | None, _KnownRun]:
        of_sweep = f"tags.`{SWEEP_ID_TAG}` = '{self._sweep_id}'"
        found: dict[str | None, list[_KnownRun]] = defaultdict(list)
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], of_sweep, max_results=_PAGE, page_token=token
            )
            for run in page:
                found[run.data.tags.get(TRIAL_TAG)].append(_KnownRun(run))
            token = page.token
            if not token:
                return {trial: self._only(runs) for trial, runs in found.items()}

    def _only(self, runs: Sequence[_KnownRun]) -> _KnownRun:
        """The run that holds something; the others are deleted. They are empty: each was made by a
        request whose answer was lost, and the repeated request made the one that is in use."""
        first, *others = sorted(
            runs, key=lambda run: (-len(run.params), -len(run.metrics), run.run_id)
        )
        for other in others:
            self._client.delete_run(other.run_id)
            self.recorded.count()
        return first

    def _create(self, content: RunContent) -> _KnownRun:
        # All by which it is found again comes with the first request, or not at all.
        tags = {key: content.tags[key] for key in (SWEEP_ID_TAG, TRIAL_TAG) if key in content.tags}
        if content.trial is not None:
            tags[MLFLOW_PARENT_RUN_ID] = self._known[None].run_id
        run = _KnownRun(
            self._client.create_run(
                self._experiment, start_time=content.started_at, tags=tags, run_name=content.name
            )
        )
        self._known[content.trial] = run
        self.recorded.count()
        self.recorded.created += 1
        self.recorded.runs = len(self._known)
        return run

    def _add_params(self, run: _KnownRun, params: Mapping[str, str]) -> None:
        """Those that an earlier driver logged stay as they are: MLflow never changes one."""
        new = iter([Param(key, value) for key, value in params.items() if key not in run.params])
        while batch := list(islice(new, _PARAMS)):
            self._write(run, params=batch)

    def _log(
        self, run: _KnownRun, metrics: Sequence[Metric], then: Mapping[str, str] | None = None
    ) -> None:
        """Log ``metrics`` in their order; the tags ``then`` come with the last of them."""
        for start in range(0, len(metrics), _BATCH):
            is_last = start + _BATCH >= len(metrics)
            self._write(run, metrics[start:][:_BATCH], tags=then if is_last else None)

    def _write(
        self,
        run: _KnownRun,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """In one request."""
        new = tags or {}
        self._client.log_batch(
            run.run_id, metrics, params, [RunTag(key, value) for key, value in new.items()]
        )
        self.recorded.count()
        run.params |= {param.key for param in params}
        run.tags |= new

    def _upload(self, run: _KnownRun, files: Mapping[str, str]) -> None:
        digests: dict[str, str] = json.loads(run.tags.get(FILES_TAG, "{}"))
        for name, key in files.items():
            data = self._storage.read(key)
            digest = hashlib.sha256(data).hexdigest()[:16]
            if digests.get(name) != digest:
                self._client.log_text(run.run_id, data.decode(), name)
                self.recorded.count()
                digests[name] = digest
                self._write(run, tags={FILES_TAG: json.dumps(digests)})

    def _set_end(self, run: _KnownRun, content: RunContent) -> None:
        end = content.end or (_RUNNING, None)
        if content.end is not None and run.end != end:
            self._client.set_terminated(run.run_id, *end)
        elif content.end is None and run.end[0] != _RUNNING:
            self._client.update_run(run.run_id, _RUNNING)
        else:
            return
        self.recorded.count()
        run.end = end
