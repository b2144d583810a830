"""A sweep whose checkpoints are counted in optimiser steps, stopped on its way and run again."""

import json
import signal
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from cluster.storage.base import LocalStorage
from orchestrator.cli import app
from orchestrator.ledger import Ledger
from tests.small_sweep import NAME, RANKS, SCALES, Run, write_spec

pytestmark = pytest.mark.full

STEPS, EVERY = 8, 4
"""Of 24 clips in batches of 8: an epoch has 3 steps, and the second checkpoint begins in one."""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("steps")
    spec = write_spec(folder, slots=2)
    text = spec.read_text()
    for epochs, steps in (
        ("epochs: 2,", f"steps: {STEPS}, checkpoint_steps: {EVERY}, schedule: cosine,"),
        ("grace_epochs: 2", f"grace_steps: {EVERY}"),
    ):
        assert epochs in text
        text = text.replace(epochs, steps)
    spec.write_text(text)
    run = Run(spec, folder / "st").start()
    try:
        run.wait_for(lambda: any(folder.glob(f"st/{NAME}/trials/*/checkpoints/*/COMMITTED")))
        run.signal(signal.SIGTERM)
        assert run.finish() == 5, run.stderr
    finally:
        run.end()
    return Run(spec, folder / "st").complete()


def test_every_trial_has_its_checkpoints_and_one_was_not_trained_twice(ended: Run):
    told = json.loads(ended.stdout)
    assert told["trials"] == len(RANKS)
    ledger = Ledger(LocalStorage(Path(ended.storage)), NAME)
    for trial in ledger.histories():
        counted = [len(losses.step_losses) for losses in trial.epochs]
        assert counted == [EVERY] * (STEPS // EVERY) or trial.end == "stopped"
        assert trial.epochs[-1].learning_rates[-1] < trial.epochs[0].learning_rates[0]
    assert told["epochs_trained"] < sum(len(trial.epochs) for trial in ledger.histories())


def test_variants_status_report_and_mlflow_speak_of_steps(ended: Run):
    storage = Path(ended.storage)
    variants = {path.stem for path in (storage / NAME / "scores" / "screen").glob("t*.jsonl")}
    assert {name.split("-")[1] for name in variants} == {"n00004", "n00008"}
    assert len(variants) % len(SCALES) == 0
    shown = CliRunner().invoke(app, ["status", NAME, "--storage", str(storage)]).stdout
    assert f"rung at step {EVERY}: {len(RANKS)} came to it" in shown
    assert f"{STEPS}/{STEPS}" in shown
    page = (storage / NAME / "report" / "index.html").read_text(encoding="utf-8")
    assert "steps trained in" in page
    assert f"falls to 0 at step {STEPS}: a checkpoint before that is not what" in page
    client = MlflowClient(f"sqlite:///{storage / NAME / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name != "Default")
    found = {
        value.step
        for run in client.search_runs([experiment.experiment_id])
        for value in client.get_metric_history(run.info.run_id, "loss/validation")
    }
    assert found == {4, 8}
