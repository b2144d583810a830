"""From the ledger to what MLflow's runs hold."""

import json
from dataclasses import asdict, replace

import pytest

from jobs.metrics.base import ClipScores
from orchestrator.ledger import CONFIRMATION, VERDICT_FILE, Ledger, TrialResult
from orchestrator.records.runs import (
    DIVERGENCE_TAG,
    NOTE_TAG,
    RunContent,
    TrialRuns,
    read_sweep,
)
from orchestrator.verdict.outcome import Divergence, LossReport, Verdict
from orchestrator.verdict.stats import Interval
from tests.orchestrator.records.made_sweep import MadeSweep
from tests.orchestrator.search.fake_sweep import SECTIONS


@pytest.fixture
def read(made):
    """A trial's run, by its number."""
    runs = TrialRuns(made.ledger)
    return lambda number=0: runs.read(made.trials[number])


def values(content: RunContent) -> dict[str, list[tuple[int, float]]]:
    """By name, the steps and values of all epochs and of the summary, in their order."""
    found: dict[str, list[tuple[int, float]]] = {}
    epochs = [content.epoch_values(epoch) for epoch in range(1, content.epochs + 1)]
    for of in (*epochs, content.summary):
        for value in of:
            found.setdefault(value.key, []).append((value.step, pytest.approx(value.value)))
    return found


STEP_METRICS = {
    "by_step/loss": [(1, 3.0), (2, 3.25), (3, 3.5), (4, 1.5), (5, 1.75)],
    "by_step/learning_rate": [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.1), (5, 0.2)],
}
EPOCH_METRICS = {
    "loss/training": [(1, 3.0), (2, 1.5)],
    "loss/validation": [(1, 2.0), (2, 1.0)],
    "validation_loss/language.km": [(1, 3.5), (2, 3.5)],
    "validation_loss/speaker.Ann_B_": [(1, 1.0), (2, 1.0)],
    "validation_loss/speaker.Ann_B__2": [(1, 2.0), (2, 2.0)],
    "seconds/epoch": [(1, 11.0), (2, 10.0)],
    "seconds/so_far": [(1, 11.0), (2, 21.0)],
    # The base's similarity is 0, so the gain is the similarity.
    "objective/scale_0.50": [(1, 0.15), (2, 0.05)],
    "objective/scale_1.00": [(1, 0.2), (2, 0.1)],
    "objective/best_so_far": [(1, 0.2), (2, 0.2)],
    "similarity/scale_0.50": [(1, 0.15), (2, 0.05)],
    "similarity/scale_1.00": [(1, 0.2), (2, 0.1)],
}


def test_a_trial_that_has_begun(made, read):
    content, record = read(1), made.ledger.trial(made.trials[1])
    assert content.name == "02 rank 4"
    assert content.started_at == int(record.started_at * 1000)
    assert (content.epochs, content.end, list(content.summary)) == (0, None, [])
    assert content.params["rank"] == "4"
    assert content.params["alpha"] == "null"
    assert content.params["betas"] == "0.9, 0.999"
    assert set(content.params) == set(type(record.training).model_fields)
    assert content.tags["voxsweep.trial"] == record.id
    assert content.tags["voxsweep.order"] == "1"


def test_metrics_by_step_and_epoch(made, read):
    made.train(made.trials[0], 1)
    made.train(made.trials[0], 2)
    content = read()
    found = values(content)
    assert {name: found.pop(name) for name in STEP_METRICS} == STEP_METRICS
    assert {name: found.pop(name) for name in EPOCH_METRICS} == EPOCH_METRICS
    healthy = {
        f"{metric}/scale_{scale}"
        for metric in (
            "end_of_speech_failure",
            "duration",
            "tail_silence",
            "clipping",
            "unscored_clips",
        )
        for scale in ("0.50", "1.00")
    }
    assert set(found) == healthy
    assert {v.timestamp for v in content.epoch_values(2)} == {1_700_000_040_500}


def test_a_training_in_steps_is_logged_by_its_steps(make_spec, tmp_path):
    sections = {**SECTIONS, "training": "training: {steps: 1000, checkpoint_steps: 500}"}
    made = MadeSweep(make_spec(**sections), tmp_path / "st", ranks=(2,)).run()
    found = values(TrialRuns(made.ledger).read(made.trials[0]))
    for name, by_epoch in EPOCH_METRICS.items():
        assert found[name] == [(500 * epoch, value) for epoch, value in by_epoch]
    assert found["by_step/loss"] == STEP_METRICS["by_step/loss"]
    confirmed = found["similarity/confirmation_scale_1.00"]
    assert confirmed == [(500, 0.5)]
    assert json.loads(made.ledger.read_text(VERDICT_FILE))["variant"].endswith("-n00500-s1.00")


def test_an_epoch_counts_once_all_of_it_is_scored(made, read):
    trial = made.trials[0]
    made.train(trial, 1)
    made.commit(trial, 2)
    assert read().epochs == 1
    made.score(trial, 2)
    assert read().epochs == 2
    assert read().tags["voxsweep.best_variant"] == f"{trial}-e01-s1.00"


@pytest.mark.parametrize(
    ("end", "status"), [("finished", "FINISHED"), ("stopped", "FINISHED"), ("failed", "FAILED")]
)
def test_how_a_trial_ended(made, read, end, status):
    made.train(made.trials[0], 1)
    made.end(made.trials[0], TrialResult(end, 1, "why"))
    content = read()
    ended = made.ledger.result(made.trials[0]).ended_at
    assert content.end == (status, int(ended * 1000))
    assert content.tags["voxsweep.end"] == end
    assert content.tags["voxsweep.reason"] == "why"
    assert "why" in content.tags[NOTE_TAG]


def test_a_trial_that_goes_on_is_open_again(made, read):
    trial = made.trials[0]
    made.train(trial, 1)
    made.end(trial, TrialResult("failed", 1, "its process died", final=False))
    assert read().end is not None
    made.train(trial, 2)
    assert read().end is None


def test_a_ledger_of_before_it_kept_times(made):
    """Has those of its epochs."""
    trial = made.trials[0]
    made.train(trial, 1)
    made.end(trial)
    for name in ("trial.json", "result.json"):
        row = json.loads(made.ledger.read_text(f"trials/{trial}/{name}"))
        old = {key: value for key, value in row.items() if key not in ("started_at", "ended_at")}
        assert len(old) == len(row) - 1
        made.ledger.write_text(f"trials/{trial}/{name}", json.dumps(old))
    again = Ledger(made.ledger.storage, made.ledger.sweep)
    content = TrialRuns(again).read(trial)
    assert content.started_at == 1_700_000_020_500 - 11_000
    assert content.end == ("FINISHED", 1_700_000_020_500)


def test_confirmation_is_told_of_finalists(made, read):
    made.run()
    verdict = Verdict.from_json(made.ledger.read_text("verdict.json"))
    told = {
        f"{made.trials[n]}-e{value.step:02d}-s{value.key[-4:]}"
        for n in range(2)
        for value in read(n).summary
        if value.key.startswith("similarity/confirmation_scale_")
    }
    assert told == {each.row.id for each in verdict.confirmed}
    assert verdict.confirmed


class TestSweepRun:
    """The parent."""

    def test_before_the_verdict(self, made):
        content = read_sweep(made.ledger, made.spec)
        assert content.name == "small"
        assert content.started_at == int(made.ledger.begin().started_at * 1000)
        assert content.end is None
        assert content.params["family"] == "codec_lm"
        assert content.params["training.epochs"] == "3"
        assert content.params["search.space"].startswith('{"rank"')
        # What may change between runs of a sweep is in the artifact alone.
        assert not [key for key in content.params if key.startswith(("resources", "records"))]
        assert set(content.files) == {"spec.yaml", "protocol.json"}
        assert "no verdict yet" in content.tags[NOTE_TAG]

    def test_with_the_verdict(self, made):
        content = read_sweep(made.run().ledger, made.spec)
        verdict = Verdict.from_json(made.ledger.read_text("verdict.json"))
        winner = verdict.confirmed[0].row
        assert content.end == ("FINISHED", int(made.ledger.begin().ended_at * 1000))
        assert content.tags["voxsweep.verdict"] == verdict.verdict
        assert content.tags["voxsweep.variant"] == (verdict.variant or "")
        assert content.tags["voxsweep.report"].startswith("file:///")
        assert {*content.files} == {"spec.yaml", "protocol.json", "verdict.json", "report.html"}
        told = {value.key: value.value for value in content.summary}
        assert told["gain/low"] == winner.gain.low
        assert told["similarity/base"] == pytest.approx(0.0)
        note = content.tags[NOTE_TAG]
        assert verdict.sentence in note
        assert f"`{winner.id}`" in note
        assert "| `similarity/*` |" in note
        assert "voxsweep records small --storage" in note

    def test_loss_and_sound_that_part_are_a_tag(self, made):
        verdict = Verdict.from_json(made.run().ledger.read_text(VERDICT_FILE))
        fall = Interval(0.2, 0.1, 0.3, 4)
        pairs = tuple(Divergence("t0", at, at + 1, (2.0, 1.5), fall) for at in (1, 2))
        loss = LossReport(None, 3, "t0-e3", 2, 3)
        tags = []
        for found in ((), pairs):
            told = replace(verdict, loss=replace(loss, divergences=found))
            made.ledger.write_text(VERDICT_FILE, told.to_json())
            tags.append(read_sweep(made.ledger, made.spec).tags.get(DIVERGENCE_TAG))
        assert tags == [None, "t0 1-2, t0 2-3"]

    def test_the_same_ledger_says_the_same(self, made):
        made.run()
        first, second = (read_sweep(made.ledger, made.spec) for _ in range(2))
        assert asdict(first) == asdict(second)


def test_a_replicate_has_a_run_that_says_what_it_repeats(made):
    """It speaks set B alone, so an epoch counts once it is trained."""
    ledger = made.run().ledger
    of = ledger.trial(made.trials[1])
    record = ledger.start_replicate(of, seed=3)
    made.commit(record.id, 1)
    made.end(record.id, TrialResult("finished", 1))
    variant = f"{record.id}-e01-s1.00"
    rows = [ClipScores(variant, "c0", 1, {"similarity": 0.25})]
    ledger.write_scores(variant, rows, CONFIRMATION)
    content = TrialRuns(ledger).read(record.id)
    assert content.name == "replicate, seed 3, rank 4"
    assert content.tags["voxsweep.replicate_of"] == of.id
    assert "voxsweep.best_variant" not in content.tags
    assert f"trial `{of.id}` trained again with seed 3" in content.tags[NOTE_TAG]
    assert (content.epochs, content.end[0], content.params["seed"]) == (1, "FINISHED", "3")
    found = values(content)
    assert found["similarity/confirmation_scale_1.00"] == [(1, 0.25)]
    assert "loss/validation" in found
    assert not any(name.startswith("objective/") for name in found)
    assert "voxsweep.replicate_of" not in TrialRuns(ledger).read(of.id).tags
