"""The main job itself: real Ray, DeepSpeed, Optuna, MLflow, through the command line."""

import json
import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import optuna
import pytest
import soundfile
from ray.tune import ExperimentAnalysis, ResultGrid
from typer.testing import CliRunner

from cluster.storage.base import LocalStorage
from jobs.diversity.measure import read_measured
from jobs.speech.clips import read_clips
from orchestrator.cli import app
from orchestrator.ledger import (
    CONFIRMATION,
    DATA_FILE,
    PROTOCOL_FILE,
    REPORT_FILE,
    SCREEN,
    SHORTLIST,
    VARIANTS_FILE,
    VERDICT_FILE,
    Ledger,
)
from orchestrator.records.recorder import rebuild
from orchestrator.scores import from_ledger
from orchestrator.scores.from_files import judge_files
from orchestrator.search.study_storage import study_storage
from orchestrator.spec.reading import read_spec
from orchestrator.verdict.comparison import Comparison
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.screen import choose_finalists, choose_shortlist
from tests.orchestrator.records.made_sweep import everything
from tests.small_sweep import (
    EPOCHS,
    FRESH_PROMPTS,
    NAME,
    PROMPTS,
    RANKS,
    SCALES,
    SHORTLIST_AFTER,
    TRAINING_CLIPS,
    Run,
    Undisturbed,
    undisturbed,
    write_spec,
)

FIRST_HOUR = (
    "study small",
    "status small",
    "judge sweeps/small/scores --protocol sweeps/small/protocol.json",
    "records small",
    "promote small",
    "say models:/small@candidate three one four -o out.wav",
    "export small --format gguf -o small-gguf",
    "demote small",
    "doctor",
    "k8s render configs/demo.yaml --storage s3://bucket/sweeps",
)
"""What the documents tell people to do with a finished sweep; ``demo`` there."""


@dataclass(frozen=True)
class Done:
    """A sweep that ran to its end."""

    run: Undisturbed

    @property
    def ledger(self) -> Ledger:
        return Ledger(LocalStorage(self.run.storage), NAME)

    @property
    def folder(self) -> Path:
        return self.run.storage / NAME

    @property
    def protocol(self) -> Protocol:
        return Protocol.model_validate_json(self.ledger.read_text(PROTOCOL_FILE))

    @property
    def table(self):
        return from_ledger.ScoredSweep(self.ledger, read_spec(self.run.spec), self.protocol).table

    @property
    def comparison(self):
        return Comparison(self.table, self.protocol.screening())

    def objectives(self) -> dict[str, float]:
        """By trial, what the search should have been told last: its best variant's."""
        comparison = self.comparison
        return {
            record.id: max(
                comparison.assess(variant.id).objective
                for variant in comparison.table.adapted
                if variant.trial == record.id
            )
            for record in self.ledger.trials()
        }


@pytest.fixture(scope="module")
def sweep(shared_folder) -> Done:
    done = Done(undisturbed(shared_folder))
    assert done.run.code in (0, 3), done.run.stderr
    return done


def test_it_prints_one_object(sweep):
    printed = json.loads(sweep.run.stdout)
    verdict = Verdict.from_json(sweep.ledger.read_text(VERDICT_FILE))
    assert printed == {
        "sweep": NAME,
        "verdict": verdict.verdict,
        "variant": verdict.variant,
        "trials": len(RANKS),
        "epochs_trained": len(RANKS) * EPOCHS,
        "report": str(sweep.folder / REPORT_FILE),
        "storage": str(sweep.run.storage),
        "recorded": True,
    }
    assert sweep.run.code == 0


def test_the_ledger_is_complete(sweep):
    records = sweep.ledger.trials()
    assert [record.point for record in records] == [{"rank": rank} for rank in RANKS]
    for record in records:
        result = sweep.ledger.result(record.id)
        assert (result.end, result.epochs) == ("finished", EPOCHS)
        assert [losses.epoch for losses in sweep.ledger.epochs(record.id)] == [1, 2]
    variants = [
        f"{record.id}-e{epoch:02d}-s{scale:.2f}"
        for record in records
        for epoch in range(1, EPOCHS + 1)
        for scale in SCALES
    ]
    storage = sweep.ledger.storage
    assert storage.children(f"{NAME}/clips/screen") == sorted(["base", *variants])
    for variant in ["base", *variants]:
        clips = read_clips(storage.fetch(sweep.ledger.clips(variant)))
        assert tuple(clip.text for clip in clips.values()) == PROMPTS[:SHORTLIST_AFTER]
        rows = sweep.ledger.scores(variant)
        assert [row.prompt for row in rows] == list(clips)
        for row in rows:
            measured = {*row.values, *row.failures}
            assert measured == set(read_spec(sweep.run.spec).scoring.measured)
    scored = [row for v in variants for row in sweep.ledger.scores(v) if not row.failures]
    assert scored, "nothing that was spoken could be scored"


def test_the_shortlist_said_the_rest_of_set_a(sweep):
    shortlist, storage = choose_shortlist(sweep.comparison, sweep.protocol), sweep.ledger.storage
    # A third of 8 variants is 3, among them or beside them the best of each rank.
    assert len(shortlist) in (3, 4)
    assert storage.children(f"{NAME}/clips/shortlist") == sorted(["base", *shortlist])
    for variant in ("base", *shortlist):
        clips = read_clips(storage.fetch(sweep.ledger.clips(variant, SHORTLIST)))
        assert tuple(clip.text for clip in clips.values()) == PROMPTS[SHORTLIST_AFTER:]
        rows = sweep.ledger.scores(variant, SHORTLIST)
        assert [(row.prompt, row.seed) for row in rows] == [(prompt, 0) for prompt in clips]


def test_the_finalist_was_confirmed_on_fresh_prompts(sweep):
    table, protocol = sweep.table, sweep.protocol
    shortlist = choose_shortlist(sweep.comparison, protocol)
    of_all_a = from_ledger.table_of(
        sweep.ledger, [table.variants[name] for name in shortlist], (SCREEN, SHORTLIST), protocol
    )
    (finalist,) = choose_finalists(Comparison(of_all_a, protocol)).all
    storage = sweep.ledger.storage
    assert storage.children(f"{NAME}/clips/confirmation") == sorted(["base", finalist])
    for variant in ("base", finalist):
        clips = read_clips(storage.fetch(sweep.ledger.clips(variant, CONFIRMATION)))
        assert tuple(clip.text for clip in clips.values()) == FRESH_PROMPTS
        rows = sweep.ledger.scores(variant, CONFIRMATION)
        assert [(row.prompt, row.seed) for row in rows] == [(prompt, 1) for prompt in clips]


def test_it_says_how_its_host_packs(sweep):
    (line,) = [line for line in sweep.run.stderr.splitlines() if line.startswith("hosts: ")]
    assert "at batch size 8" in line


def test_it_says_what_it_heard(sweep):
    heard = [line for line in sweep.run.stderr.splitlines() if line.startswith("listened to ")]
    expected = "listened to 20 of 34 clips with the embedded recogniser: 0 say something else"
    assert [line.startswith(expected) for line in heard] == [True]


def test_it_says_what_it_does_without(sweep):
    (line,) = [line for line in sweep.run.stderr.splitlines() if line.startswith("without ")]
    assert line.startswith("without wavlm_similarity, which is not required: a model must be a ")
    (omitted,) = sweep.protocol.omitted
    assert line.endswith(omitted.reason)
    assert "left out: wavlm_similarity" in sweep.ledger.read_text(REPORT_FILE)


def test_training_brings_the_loss_down(sweep):
    for record in sweep.ledger.trials():
        first, last = sweep.ledger.epochs(record.id)
        assert last.training_loss < first.training_loss
        assert last.validation_loss < first.validation_loss


def test_the_verdict_follows_from_the_ledger(sweep):
    """By what ``voxsweep judge`` reads, nothing else."""
    again, _ = judge_files(
        sweep.folder / "scores", sweep.folder / PROTOCOL_FILE, sweep.folder / VARIANTS_FILE
    )
    assert again == Verdict.from_json(sweep.ledger.read_text(VERDICT_FILE))


def test_ray_tells_the_same_story(sweep):
    grid = ResultGrid(ExperimentAnalysis(str(sweep.folder / "ray")))
    assert {result.metrics["trial"]: result.metrics["objective"] for result in grid} == (
        sweep.objectives()
    )
    assert all(result.metrics["epoch"] == EPOCHS for result in grid)
    assert all(sweep.ledger.storage.is_committed(result.metrics["checkpoint"]) for result in grid)
    assert not grid.errors


def test_optuna_tells_the_same_story(sweep):
    study = optuna.load_study(study_name=NAME, storage=study_storage(None, sweep.folder))
    told = {trial.user_attrs["trial"]: trial.value for trial in study.trials}
    assert told == sweep.objectives()
    assert [trial.params["rank"] for trial in study.trials] == list(RANKS)


def test_mlflow_tells_the_same_story(sweep, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{sweep.folder / 'mlflow.db'}")
    runs = mlflow.search_runs(experiment_names=[NAME])
    trials = runs[runs["tags.voxsweep.trial"].notna()]
    told = dict(
        zip(trials["tags.voxsweep.trial"], trials["metrics.objective/best_so_far"], strict=True)
    )
    assert told == sweep.objectives()
    (parent,) = runs[runs["tags.voxsweep.sweep"] == NAME]["run_id"]
    assert set(trials["tags.mlflow.parentRunId"]) == {parent}
    assert set(runs["status"]) == {"FINISHED"}
    names = {item.path for item in mlflow.MlflowClient().list_artifacts(parent)}
    files = {"spec.yaml", "plan.json", "protocol.json", "verdict.json", "report.html"}
    assert names == files


def test_mlflow_is_the_same_when_it_is_made_again(sweep, tmp_path):
    """By one command, from the storage alone; and where it has all, nothing is added."""
    target, live = f"sqlite:///{tmp_path / 'mlflow.db'}", f"sqlite:///{sweep.folder / 'mlflow.db'}"
    _, rebuilt = rebuild(sweep.ledger.storage, NAME, target, print)
    assert (rebuilt.runs, rebuilt.created) == (1 + len(RANKS), 1 + len(RANKS))
    folders = [tmp_path / "again", tmp_path / "live"]
    for folder in folders:
        folder.mkdir()
    again, first = (
        everything(uri, NAME, folder) for uri, folder in zip((target, live), folders, strict=True)
    )
    assert again == first
    assert len(again["sweep"]["artifacts"]) == 5
    _, again = rebuild(sweep.ledger.storage, NAME, None, print)
    assert again.changes == 0


def test_there_is_a_report(sweep):
    page = sweep.ledger.read_text(REPORT_FILE)
    assert page.lstrip().lower().startswith("<!doctype html>")
    for record in sweep.ledger.trials():
        assert record.id in page


def test_the_data_was_measured_once_and_told(sweep, monkeypatch):
    told = json.loads(sweep.ledger.read_text(DATA_FILE))
    measured = read_measured(sweep.ledger.storage, told["features"])
    assert len(measured) == TRAINING_CLIPS
    assert not any(clip.failures for clip in measured)
    (speaker,) = told["speakers"]
    page = sweep.ledger.read_text(REPORT_FILE)
    assert speaker["forecast"]["sentence"] in page
    assert page.count('aria-label="Training clip ') == 10
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{sweep.folder / 'mlflow.db'}")
    runs = mlflow.search_runs(experiment_names=[NAME])
    (parent,) = runs[runs["tags.voxsweep.sweep"] == NAME].to_dict("records")
    assert parent["params.data.slt.clips"] == str(TRAINING_CLIPS)
    assert parent["params.data.slt.forecast"] == speaker["forecast"]["outcome"]


def test_what_people_do_with_a_finished_sweep(sweep, tmp_path, monkeypatch):
    """On a copy, and of a variant that is named: a sweep this small has no winner."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(sweep.run.storage, "sweeps")
    (tmp_path / "configs").symlink_to(Path(__file__).parents[2] / "configs")
    assert json.loads(sweep.run.stdout)["variant"] is None
    heard = next(info.id for info in sweep.table.adapted)
    ends = {}
    for line in FIRST_HOUR:
        command, *arguments = shlex.split(line)
        if command in ("promote", "export"):
            arguments += ["--variant", heard]
        if command == "say":
            model, *text, option, out = arguments
            arguments = [model, " ".join(text), option, out]
        ended = CliRunner().invoke(app, [command, *arguments])
        ends[line] = ended.exit_code if ended.exception is None else repr(ended.exception)
    assert ends == dict.fromkeys(FIRST_HOUR, 0)
    audio, rate = soundfile.read("out.wav")
    assert len(audio) > rate / 2
    assert abs(audio).max() > 0.01
    assert json.loads(Path("small-gguf/manifest.json").read_text())["format"] == "gguf"
    nothing_before = CliRunner().invoke(app, ["rollback", "small"])
    assert "must have been champion before" in str(nothing_before.exception)


def test_nothing_is_left_running(sweep):
    assert sweep.run.processes >= 4, "the run's processes were not seen"
    assert sweep.run.left_behind == []


@pytest.mark.full
def test_again_trains_nothing_and_says_the_same(sweep):
    before = sweep.ledger.read_text(VERDICT_FILE)
    checkpoints = _inodes(sweep.folder / "trials")
    data = _files(sweep.run.storage / "data")
    assert [path.name for path in data].count("diversity.json") == 1
    assert len(checkpoints) >= len(RANKS) * EPOCHS * 4
    first = json.loads(sweep.run.stdout)
    run = Run(sweep.run.spec, sweep.run.storage).start()
    try:
        assert run.finish() == sweep.run.code, run.stderr
        assert json.loads(run.stdout) == {**first, "epochs_trained": 0}
        assert run.left_behind() == []
    finally:
        run.end()
    assert sweep.ledger.read_text(VERDICT_FILE) == before
    assert _inodes(sweep.folder / "trials") == checkpoints
    assert _files(sweep.run.storage / "data") == data
    test_optuna_tells_the_same_story(sweep)
    test_ray_tells_the_same_story(sweep)


MORE_PROMPTS = ("two eight", "one one six")
ADDED = "shortlist-2"


@pytest.fixture
def more_prompts(sweep):
    """Set A has two prompts more than the sweep began with, for a while."""
    file = sweep.run.folder / "prompts.jsonl"
    before = file.read_text()
    rows = [f'{{"id": "more-{i}", "text": "{text}"}}\n' for i, text in enumerate(MORE_PROMPTS)]
    file.write_text(before + "".join(rows))
    yield
    file.write_text(before)


@pytest.mark.full
def test_a_sweep_that_has_grown_equals_one_that_began_as_large(sweep, more_prompts, tmp_path):
    """Three epochs of two, another scale, more of set A; it says where set B was used before."""
    spec = sweep.run.spec.read_text()
    for old, new in (
        (" manifest.jsonl", f" {sweep.run.folder}/manifest.jsonl"),
        (" prompts.jsonl", f" {sweep.run.folder}/prompts.jsonl"),
        (" fresh.jsonl", f" {sweep.run.folder}/fresh.jsonl"),
        ("{epochs: 2", "{epochs: 3"),
        ("[0, 0.7, 1.0]", "[0, 0.7, 0.85, 1.0]"),
    ):
        assert old in spec
        spec = spec.replace(old, new)
    found = {}
    for name in ("grown", "at once"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "grown":
            # MLflow's file names the folder in which it was made.
            without = shutil.ignore_patterns("mlflow.db", "mlartifacts")
            shutil.copytree(sweep.run.storage, folder / "st", ignore=without)
        (folder / sweep.run.spec.name).write_text(spec)
        run = Run(folder / sweep.run.spec.name, folder / "st").complete()
        found[name] = Ledger(LocalStorage(folder / "st"), NAME), json.loads(run.stdout)
    (grown, told), (straight, _) = found["grown"], found["at once"]
    # Which of the two a rung stops after two epochs depends on who is there first.
    trained = {
        (record.id, epoch)
        for record in grown.trials()
        for epoch in range(1, len(grown.epochs(record.id)) + 1)
    }
    assert told["epochs_trained"] == len(trained) - len(RANKS) * EPOCHS >= 1
    also = {(t, e) for t, e in trained if straight.storage.is_committed(straight.checkpoint(t, e))}
    assert len(also) > len(RANKS) * EPOCHS
    for trial, epoch in also:
        key = grown.checkpoint(trial, epoch)
        for file in ("adapter_model.safetensors", "optimizer.safetensors"):
            one, other = (of.storage.read_from(key, file) for of in (grown, straight))
            assert one == other, (key, file)
    grown_a, rest_a = (of.read_text(PROTOCOL_FILE) for of in (grown, straight))
    assert Protocol.model_validate_json(grown_a).added_after == (len(PROMPTS),)
    assert Protocol.model_validate_json(rest_a).added_after == ()
    spoke = set(grown.scored_variants(ADDED)) & set(straight.scored_variants(SHORTLIST))
    assert len(spoke) > 1
    for name in spoke:
        parts = [row for part in (SHORTLIST, ADDED) for row in grown.scores(name, part)]
        assert parts == straight.scores(name, SHORTLIST)
        assert len(parts) == len(PROMPTS) - SHORTLIST_AFTER + len(MORE_PROMPTS)
    for part in (SCREEN, CONFIRMATION):
        both = set(grown.scored_variants(part)) & set(straight.scored_variants(part))
        assert len(both) >= {SCREEN: 1 + 3 * len(also), CONFIRMATION: 1}[part]
        assert all(grown.scores(name, part) == straight.scores(name, part) for name in both)
    before = set(sweep.ledger.scored_variants(CONFIRMATION))
    now = Verdict.from_json(grown.read_text(VERDICT_FILE))
    assert before <= {"base", *(each.row.id for each in now.confirmed)}
    protocol = Protocol.model_validate_json(grown.read_text(PROTOCOL_FILE))
    assert ("Set B tested" in now.sentence) == bool(protocol.confirmed_before)
    of = tmp_path / "grown" / "st" / NAME
    verdict, _ = judge_files(of / "scores", of / PROTOCOL_FILE, of / VARIANTS_FILE, None)
    assert verdict == now


@pytest.mark.full
def test_a_finished_sweep_tests_its_winners_hyperparameters_with_other_seeds(sweep, tmp_path):
    """A sweep this small has no winner, so its finalist's scores of set B are made better."""
    without = shutil.ignore_patterns("mlflow.db", "mlartifacts")
    shutil.copytree(sweep.run.storage, tmp_path / "st", ignore=without)
    spec = sweep.run.spec.read_text().replace("{sampler: grid", "{sampler: grid, confirm_seeds: 3")
    for name in ("manifest", "prompts", "fresh"):
        spec = spec.replace(f" {name}.jsonl", f" {sweep.run.folder}/{name}.jsonl")
    (tmp_path / sweep.run.spec.name).write_text(spec)
    ledger, folder = Ledger(LocalStorage(tmp_path / "st"), NAME), tmp_path / "st" / NAME
    (finalist,) = set(ledger.scored_variants(CONFIRMATION)) - {"base"}
    better = [
        replace(row, values={**row.values, "similarity": 0.7 + place / 100})
        for place, row in enumerate(ledger.scores(finalist, CONFIRMATION))
    ]
    ledger.write_scores(finalist, better, CONFIRMATION)
    trials = ledger.trials()
    run = Run(tmp_path / sweep.run.spec.name, tmp_path / "st").complete()
    check_replicates(folder, ledger, finalist)
    assert ledger.trials() == trials
    epoch = int(finalist.partition("-e")[2][:2])
    assert json.loads(run.stdout)["epochs_trained"] == 3 * epoch


@pytest.mark.full
def test_a_spent_budget_begins_no_trial_and_is_said(tmp_path):
    """Killed in its first trial, then run after its deadline, then without one."""
    spec = write_spec(tmp_path)
    text, ledger = spec.read_text(), Ledger(LocalStorage(tmp_path / "st"), NAME)
    late = text + "budget: {deadline: 2026-01-01T00:00:00Z}\n"

    def run(text: str, until=None) -> Run:
        spec.write_text(text)
        run = Run(spec, tmp_path / "st").start()
        try:
            if until is None:
                run.finish()
            else:
                run.wait_for(until)
                run.kill()
        finally:
            run.end()
        return run

    refused = run(late)
    assert "budget: no trial fits: the budget has 0 hours left" in refused.stderr
    assert ledger.trials() == []
    run(text, until=lambda: any(ledger.epochs(record.id) for record in ledger.trials()))
    (first,) = ledger.trials()
    (killed,) = ledger.record().runs
    spent = run(late)
    undone = "1 of 2 trials were not begun: the budget has 0 hours left"
    assert undone in spent.stderr
    assert ledger.trials() == [first]
    assert ledger.final_result(first.id).end == "finished"
    assert Verdict.from_json(ledger.read_text(VERDICT_FILE)).rows
    assert undone in ledger.read_text(REPORT_FILE)
    assert ledger.record().undone.startswith(undone)
    status = CliRunner().invoke(app, ["status", NAME, "--storage", str(tmp_path / "st")])
    assert undone in " ".join(status.output.split())
    assert ledger.record().runs[0] == killed
    run(text)
    record = ledger.record()
    assert (len(record.runs), record.undone, len(ledger.trials())) == (3, "", 2)
    assert all(run.seconds > 0 for run in record.runs)


def check_replicates(folder, ledger, winner) -> None:
    """Three trainings of the winner's hyperparameters, and what they are told as."""
    trial, _, variant = winner.partition("-e")
    records = ledger.replicates()
    assert [(record.replicate_of, record.training.seed) for record in records] == [
        (trial, seed) for seed in (1, 2, 3)
    ]
    heard = [f"{record.id}-e{variant}" for record in records]
    now = Verdict.from_json(ledger.read_text(VERDICT_FILE))
    assert (now.verdict, now.variant) == ("PROMOTE-PENDING-LISTENING", winner)
    assert [each.variant for each in now.recipe.replicates] == heard
    assert now.recipe.gain is not None
    assert "with 3 other seeds it gains" in now.sentence
    assert set(ledger.scored_variants(CONFIRMATION)) == {"base", winner, *heard}
    assert not set(ledger.scored_variants(SCREEN)) & set(heard)
    keys = [ledger.checkpoint(name, int(variant[:2])) for name in (trial, *(r.id for r in records))]
    weights = {ledger.storage.read_from(key, "adapter_model.safetensors") for key in keys}
    assert len(weights) == 4
    again, _ = judge_files(folder / "scores", folder / PROTOCOL_FILE, folder / VARIANTS_FILE)
    assert again == now
    study = optuna.load_study(study_name=NAME, storage=study_storage(None, folder))
    searched = {record.id for record in ledger.trials()}
    assert {each.user_attrs["trial"] for each in study.trials} == searched
    assert not searched & {record.id for record in records}
    page = ledger.read_text(REPORT_FILE)
    assert all(record.id in page for record in records)
    asked = ["status", NAME, "--storage", ledger.storage.url, "--json"]
    status = json.loads(CliRunner().invoke(app, asked).stdout)
    assert [each["status"] for each in status["replicates"]] == ["finished"] * 3
    assert {each["trial"] for each in status["trials"]} == searched


def _inodes(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: of for path, of in _files(folder).items() if "checkpoints" in path.parts}


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}
