"""A sweep's ledger without a sweep, and MLflow's runs in full, to be compared."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import sqlalchemy
import yaml
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from jobs.metrics.base import ClipScores
from jobs.spec.trial import Variant
from jobs.training.epochs import EpochLosses, write_losses
from orchestrator.context import SweepContext
from orchestrator.ledger import (
    CONFIRMATION,
    PROTOCOL_FILE,
    REPORT_FILE,
    SPEC_FILE,
    VERDICT_FILE,
    Ledger,
    TrialResult,
)
from orchestrator.scores import from_ledger
from orchestrator.spec.model import SweepSpec
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.judge import judge
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.screen import choose_finalists
from tests.orchestrator.search.fake_sweep import CONFIRMATION as FRESH
from tests.orchestrator.search.fake_sweep import PROMPTS, fake_context

HEALTHY = {"end_of_speech_failure": 0.0, "duration": 1.0, "tail_silence": 0.0, "clipping": 0.0}
STEPS = (3, 2)
"""Optimiser steps of the two epochs: they need not have as many as each other."""
GROUPS = {"language/km": 3.5, "speaker/Ann B.": 1.0, "speaker/Ann?B?": 2.0}


class MadeSweep:
    """Writes to the ledger what a sweep would, when a test says so."""

    def __init__(self, spec: SweepSpec, storage: Path, ranks: tuple[int, ...] = (2, 4)) -> None:
        self.spec = spec
        self._context: SweepContext = fake_context(spec, storage)
        self.ledger: Ledger = self._context.ledger()
        self.ledger.begin()
        self.ledger.write_text(SPEC_FILE, yaml.safe_dump(spec.model_dump(mode="json")))
        self.ledger.write_text(PROTOCOL_FILE, self._context.protocol.model_dump_json())
        self.trials = [self._start(rank) for rank in ranks]

    def _start(self, rank: int) -> str:
        point = {"rank": rank}
        return self.ledger.start_trial(self._context.trial_spec(point), point).id

    def commit(self, trial: str, epoch: int) -> None:
        """An epoch is trained; nobody has heard it yet."""
        steps = STEPS[epoch - 1]
        losses = EpochLosses(
            epoch,
            training_loss=3.0 / epoch,
            validation_loss=2.0 / epoch,
            step_losses=tuple(3.0 / epoch + 0.25 * step for step in range(steps)),
            learning_rates=tuple(0.1 * (step + 1) for step in range(steps)),
            seconds=12.0 - epoch,
            finished_at=1_700_000_000.5 + 20 * epoch,
            group_losses=GROUPS,
        )
        with self.ledger.storage.commit(self.ledger.checkpoint(trial, epoch)) as folder:
            write_losses(folder, losses)

    def score(self, trial: str, epoch: int) -> None:
        """What its variants said is scored; the stronger, the better, but in the second epoch."""
        for variant in self._variants(trial, epoch):
            similarity = 0.1 * (2 - epoch) + variant.lora_scale / 10
            rows = [
                ClipScores(variant.id, prompt.id, 0, {**HEALTHY, "similarity": similarity})
                for prompt in PROMPTS
            ]
            self.ledger.write_scores(variant.id, rows)

    def train(self, trial: str, epoch: int) -> None:
        """All of an epoch."""
        self.commit(trial, epoch)
        self.score(trial, epoch)

    def end(self, trial: str, result: TrialResult | None = None) -> None:
        """The trial ends."""
        self.ledger.end_trial(trial, result or TrialResult("finished", len(STEPS)))

    def finish(self) -> None:
        """The verdict, after all that was before it."""
        ledger, protocol = self.ledger, self.protocol
        screen = from_ledger.ScoredSweep(ledger, self.spec, protocol).table
        finalists = choose_finalists(Comparison(screen, protocol)).all
        for name in ("base", *finalists):
            rows = [
                ClipScores(name, p.id, 1, {**HEALTHY, "similarity": 0.5 * (name != "base")})
                for p in FRESH
            ]
            ledger.write_scores(name, rows, CONFIRMATION)
        fresh = protocol.confirming()
        confirmation = from_ledger.table_of(
            ledger, [screen.variants[name] for name in finalists], (CONFIRMATION,), fresh
        )
        ledger.write_text(REPORT_FILE, "<!doctype html><title>small</title>")
        ledger.end()
        ledger.write_text(VERDICT_FILE, judge(screen, confirmation, protocol).to_json() + "\n")

    def run(self) -> "MadeSweep":
        """All of the sweep."""
        for trial in self.trials:
            for epoch in range(1, len(STEPS) + 1):
                self.train(trial, epoch)
            self.end(trial)
        self.finish()
        return self

    @property
    def protocol(self) -> Protocol:
        text = self.ledger.read_text(PROTOCOL_FILE)
        assert text is not None
        return Protocol.model_validate_json(text)

    def _variants(self, trial: str, epoch: int) -> list[Variant]:
        every = self.spec.training.checkpoint_steps
        return [
            Variant(trial=trial, epoch=epoch, lora_scale=scale, checkpoint_steps=every)
            for scale in self.spec.variants.adapted_scales
        ]


def everything(
    uri: str, sweep: str, folder: Path | None = None, database: str | None = None
) -> dict[str, dict[str, Any]]:
    """All that MLflow has of the sweep's runs, by trial and ``sweep``.

    Left out is what two stores cannot share: run ids, which stand for themselves, what lies under
    them, and when the store itself wrote. Artifacts come as bytes when there is a ``folder``.
    ``database`` is that of the server at ``uri``, where it is one.
    """
    client = MlflowClient(tracking_uri=uri)
    histories = _histories(database or uri)
    experiment = client.get_experiment_by_name(sweep)
    runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
    names = {run.info.run_id: run.data.tags.get("voxsweep.trial", "sweep") for run in runs}
    assert len(set(names.values())) == len(runs), "a run is there twice"
    found = {}
    for run in runs:
        tags = dict(run.data.tags)
        parent = tags.pop(MLFLOW_PARENT_RUN_ID, None)
        run_id = run.info.run_id
        found[names[run_id]] = {
            "name": run.info.run_name,
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "parent": parent and names[parent],
            "params": run.data.params,
            "tags": tags,
            "latest": run.data.metrics,
            "history": histories[run_id],
            "artifacts": None if folder is None else _artifacts(client, run_id, folder),
        }
    return found


def _histories(database: str) -> dict[str, dict[str, list[tuple[int, int, float]]]]:
    """By run and metric; MLflow's own answers take a request for each, and are in no order.

    Of a SQLite file in the order in which they were logged; PostgreSQL does not keep it, and gives
    them by step, which is the order in which they ought to have been logged.
    """
    engine = sqlalchemy.create_engine(database)
    order = "rowid" if database.startswith("sqlite") else "step, timestamp, value"
    found: dict[str, dict[str, list[tuple[int, int, float]]]] = defaultdict(dict)
    with engine.connect() as connection:
        asked = f"SELECT run_uuid, key, step, timestamp, value FROM metrics ORDER BY {order}"
        for run, key, *value in connection.execute(sqlalchemy.text(asked)):
            found[run].setdefault(key, []).append(tuple(value))
    engine.dispose()
    return found


def _artifacts(client: MlflowClient, run_id: str, folder: Path) -> dict[str, bytes]:
    place = folder / run_id
    place.mkdir()
    return {
        item.path: Path(client.download_artifacts(run_id, item.path, str(place))).read_bytes()
        for item in client.list_artifacts(run_id)
    }
