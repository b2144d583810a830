"""How far a sweep has come, from what it committed."""

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cluster.storage.base import LocalStorage
from jobs.problems import InputError
from jobs.spec.trial import EngineSpec, PromptSpec, TrainingSpec, TrialSpec
from jobs.training.epochs import EpochLosses, write_losses
from orchestrator.cli import app
from orchestrator.ledger import VERDICT_FILE, Ledger, TrialResult
from orchestrator.spec.inputs import Inputs
from orchestrator.spec.stored import store_spec
from orchestrator.status import RungStatus, SweepStatus, TrialStatus, sweep_status
from orchestrator.terminal.sweep import SweepProgress, show_status

SEARCH = "search: {sampler: grid, space: {rank: [2, 4, 8]}}"


@pytest.fixture
def ledger(tmp_path, make_spec) -> Ledger:
    """A sweep of three trials of at most four epochs: one ended, one was stopped, one goes on."""
    made = Ledger(LocalStorage(tmp_path / "st"), "small")
    spec = make_spec(search=SEARCH, training="training: {epochs: 4}", engine="engine: {ranks: 2}")
    store_spec(made, spec, Inputs([], [], 0, [], [PromptSpec(id="b", text="one")]))
    for rank, epochs, end in ((2, 4, "finished"), (4, 1, "stopped"), (8, 3, None)):
        trial = TrialSpec(
            family="codec_lm",
            base_digest="b",
            data_digest="d",
            training=TrainingSpec(rank=rank, epochs=4),
            engine=EngineSpec(ranks=2),
        )
        record = made.start_trial(trial, {"rank": rank})
        for epoch in range(1, epochs + 1):
            losses = EpochLosses(epoch, 1.0, 1 / epoch, (1.0,), (0.1,), 450.0, 0.0)
            with made.storage.commit(made.checkpoint(record.id, epoch)) as folder:
                write_losses(folder, losses)
        if end:
            made.end_trial(record.id, TrialResult(end, epochs))
    return made


def test_trials_rungs_and_hours(ledger):
    status = sweep_status(ledger)
    assert [(t.rank, t.epoch, t.epochs, t.status) for t in status.trials] == [
        (2, 4, 4, "finished"),
        (4, 1, 4, "stopped"),
        (8, 3, 4, "open"),
    ]
    assert status.rungs == (RungStatus(1, 3, 1), RungStatus(2, 2, 0))
    assert (status.asked, status.epochs, status.most_epochs) == (3, 8, 12)
    assert status.training_hours == 1.0
    assert status.most_gpu_hours == 0.0
    assert status.verdict is None
    assert [t.objective for t in status.trials] == [None] * 3
    ledger.write_text(VERDICT_FILE, '{"verdict": "PROMOTE"}')
    assert sweep_status(ledger).verdict == "PROMOTE"


def test_the_command_says_the_same(ledger):
    runner = CliRunner()
    asked = ["status", "small", "--storage", ledger.storage.url]
    said = json.loads(runner.invoke(app, [*asked, "--json"]).stdout)
    assert said["epochs"] == 8
    assert said["jobs"] == []
    shown = runner.invoke(app, asked).stdout
    assert "rung at epoch 1: 3 came to it, 1 stopped there" in shown
    assert "verdict: none yet" in shown


def test_a_sweep_in_steps_is_told_in_steps():
    progress = TrialStatus("t" * 13, 4, 1e-3, 3, 20, checkpoint_steps=500)
    status = SweepStatus(
        *("s", "file:s", (progress,), 1, 3, 20, (RungStatus(2, 1, 0),), 1.0, 0.0, None),
        checkpoint_steps=500,
    )
    console = Console(width=200, record=True, file=StringIO())
    show_status(console, status)
    shown = console.export_text()
    for said in (
        "step ",
        " 1500/10000 ",
        "rung at step 1000: 1 came",
        "1/1 trials, 1500/10000 steps",
    ):
        assert said in shown
    assert "epoch" not in shown
    live = Console(width=200, record=True, file=StringIO())
    SweepProgress(live).update(progress)
    SweepProgress(live).update(replace(progress, status="stopped"))
    lines = live.export_text().splitlines()
    assert "  step 1500/10000  " in lines[0]
    assert lines[1].endswith("stopped after step 1500")


def test_a_sweep_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="must hold the sweep 'other'"):
        sweep_status(Ledger(LocalStorage(tmp_path / "none"), "other"))
    assert not list(tmp_path.iterdir())


def test_replicates_are_shown_apart(ledger):
    before = sweep_status(ledger)
    record = ledger.start_replicate(ledger.trials()[0], seed=1)
    now = sweep_status(ledger)
    assert replace(now, replicates=()) == before
    assert [each.trial for each in now.replicates] == [record.id]
    shown = CliRunner().invoke(app, ["status", "small", "--storage", ledger.storage.url]).stdout
    assert "replicates: the winner's hyperparameters with other seeds" in shown
