"""The sweep's own record gives back what it was given."""

import os
import socket
import threading
from dataclasses import replace
from queue import Queue

import pytest
import yaml

from cluster.storage.base import LocalStorage
from jobs.data.clips import ManifestRow, TargetClip
from jobs.metrics.base import ClipScores
from jobs.problems import InputError
from jobs.spec.trial import EngineSpec, PromptSpec, TrainingSpec, TrialSpec
from jobs.training.epochs import EpochLosses, write_losses
from orchestrator.ledger import (
    CONFIRMATION,
    PLAN_FILE,
    PROTOCOL_FILE,
    SPEC_FILE,
    Ledger,
    TrialResult,
)
from orchestrator.scores.from_ledger import protocol_for
from orchestrator.spec.inputs import Inputs
from orchestrator.spec.stored import refuse_changes, store_spec
from orchestrator.workers.preparation import Prepared


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(LocalStorage(tmp_path / "st"), "sweep")


def trial_spec(**training) -> TrialSpec:
    return TrialSpec(
        family="codec_lm",
        base_digest="b",
        data_digest="d",
        training=TrainingSpec(**training),
        engine=EngineSpec(),
    )


def scores(prompt: str, variant: str = "v", seed: int = 0, failures=None, **values) -> ClipScores:
    return ClipScores(variant, prompt, seed, values, failures or {})


def test_documents(ledger):
    assert ledger.read_text("verdict.json") is None
    ledger.write_text("verdict.json", "{} é\n")
    assert ledger.read_text("verdict.json") == "{} é\n"


def test_a_trial_comes_back_as_it_was_started(ledger):
    """With every kind of value that a search can choose."""
    point = {
        "rank": 4,
        "alpha": None,
        "learning_rate": 1.2345678901234567e-4,
        "schedule": "cosine",
        "targets": ("q_proj", "v_proj"),
    }
    started = ledger.start_trial(trial_spec(**point), point)
    later = Ledger(ledger.storage, "sweep")
    assert later.trial(started.id) == started
    assert later.trials() == ledger.trials() == [started]
    assert started.training.rank == 4


def test_a_trial_that_was_not_started(ledger):
    with pytest.raises(FileNotFoundError):
        ledger.trial("t0")
    assert ledger.trials() == []


def test_trials_keep_their_order(ledger):
    points = [{"rank": rank} for rank in (8, 1, 64, 2, 32, 4, 16, 3, 5, 6, 7, 9)]
    for point in points:
        ledger.start_trial(trial_spec(**point), point)
    assert [record.point for record in ledger.trials()] == points
    assert [record.order for record in ledger.trials()] == list(range(12))
    names = [record.id for record in ledger.trials()]
    assert names != sorted(names), "the order would come out right by accident"


def test_a_trial_is_started_without_a_look_at_the_others(ledger, monkeypatch):
    """Of ten thousand, that would be ten thousand requests for each."""
    ledger.start_trial(trial_spec(rank=1), {"rank": 1})
    asked: list[str] = []
    for name in ("children", "exists", "read"):
        method = getattr(ledger.storage, name)
        seen = lambda key, of=method: asked.append(key) or of(key)  # noqa: E731
        monkeypatch.setattr(ledger.storage, name, seen)
    started = [ledger.start_trial(trial_spec(rank=rank), {"rank": rank}) for rank in (2, 4, 8)]
    assert asked == [f"sweep/trials/{record.id}/trial.json" for record in started]
    monkeypatch.undo()
    later = Ledger(ledger.storage, "sweep").start_trial(trial_spec(rank=16), {"rank": 16})
    assert [*(record.order for record in started), later.order] == [1, 2, 3, 4]


def test_starting_a_trial_again_changes_nothing(ledger):
    first = ledger.start_trial(trial_spec(rank=2), {"rank": 2})
    ledger.start_trial(trial_spec(rank=4), {"rank": 4})
    path = ledger.storage.root / "sweep/trials" / first.id / "trial.json"
    written = path.stat()
    assert ledger.start_trial(trial_spec(rank=2), {"rank": 2}) == first
    assert path.stat().st_ino == written.st_ino


def test_replicates_are_none_of_the_searchs_trials(ledger):
    first = ledger.start_trial(trial_spec(rank=2), {"rank": 2})
    started = [ledger.start_replicate(first, seed) for seed in (1, 2)]
    assert ledger.start_replicate(first, 1) == started[0]
    second = ledger.start_trial(trial_spec(rank=4), {"rank": 4})
    for of in (ledger, Ledger(ledger.storage, "sweep")):
        assert of.trials() == [first, second]
        assert of.replicates() == started
        assert [trial.record for trial in of.replicate_histories()] == started
    assert [second.order, *(record.order for record in started)] == [1, 0, 1]
    assert [record.training.seed for record in started] == [1, 2]
    assert {record.replicate_of for record in started} == {first.id}
    assert {record.training.model_copy(update={"seed": 0}) for record in started} == {
        first.training
    }


def test_a_trial_exists_once_its_record_does(ledger):
    """A driver that was killed while it started a trial leaves a folder without a record."""
    ledger.start_trial(trial_spec(rank=2), {"rank": 2})
    (ledger.storage.root / "sweep/trials/t123").mkdir()
    assert len(ledger.trials()) == 1


@pytest.mark.parametrize(
    "result",
    [TrialResult("finished", 4), TrialResult("stopped", 2, "worse"), TrialResult("failed", 0, "é")],
    ids=lambda result: result.end,
)
def test_how_a_trial_ended(ledger, result):
    trial = ledger.start_trial(trial_spec(), {}).id
    assert ledger.result(trial) is None
    ledger.end_trial(trial, result)
    assert ledger.result(trial) == result


def test_epochs_are_the_committed_ones_from_the_first_on(ledger):
    trial = ledger.start_trial(trial_spec(), {}).id
    losses = [EpochLosses(e, 1 / 3, 2 / 7, (0.1, 0.2), (1e-4, 1e-3), 1.5, 1e9 + e) for e in (1, 2)]
    for row in losses:
        with ledger.storage.commit(ledger.checkpoint(trial, row.epoch)) as directory:
            write_losses(directory, row)
    with ledger.storage.commit(ledger.checkpoint(trial, 4)) as directory:
        write_losses(directory, losses[0])
    assert ledger.epochs(trial) == losses


def test_scores_come_back_with_their_failures(ledger):
    rows = [
        scores("p1", similarity=0.1 + 0.2, word_error=0.0),
        scores("p2", similarity=-1.0, failures={"word_error": 'it said "é", not a word'}),
    ]
    assert ledger.scores("v") is None
    ledger.write_scores("v", rows)
    assert ledger.scores("v") == rows
    assert ledger.scores("v", CONFIRMATION) is None
    ledger.write_scores("v", [], CONFIRMATION)
    assert ledger.scores("v", CONFIRMATION) == []


SCORING = (
    "scoring: {metrics: [similarity, word_error], primary: similarity, min_effect: 0.05, "
    "finalists: "
)
PREPARED = Prepared("b", "d", "e")
GROWN = {
    "training": "training: {epochs: 6}",
    "search": "search: {space: {rank: [2, 4]}, trials: 20}",
    "variants": "variants: {lora_scales: [0, 0.5, 0.6, 0.7, 1.0, 1.3]}",
    "scoring": f"{SCORING}4}}",
}


class TestClaim:
    """A name belongs to one question."""

    A, B = PromptSpec(id="p", text="one"), PromptSpec(id="c", text="two")
    INPUTS = Inputs([], [], 0, [A], [B])
    FRESH = tuple(PromptSpec(id=f"f{i}", text=f"fresh {i}") for i in range(9))

    def test_spec_and_plan_are_written(self, ledger, make_spec):
        store_spec(ledger, make_spec(), self.INPUTS)
        assert ledger.read_text(SPEC_FILE).startswith("name: small\n")
        assert '"prompts": 1' in ledger.read_text(PLAN_FILE)

    def test_the_same_question_may_be_asked_again_on_other_machines(self, ledger, make_spec):
        store_spec(ledger, make_spec(), self.INPUTS)
        spec = make_spec(resources="resources: {hosts: 7}", records="records: {mlflow: http://x}")
        store_spec(ledger, spec, self.INPUTS)
        assert "hosts: 7" in ledger.read_text(SPEC_FILE)

    def test_a_sweep_goes_on_when_keys_were_added_since_it_began(self, ledger, make_spec):
        store_spec(ledger, make_spec(), self.INPUTS)
        written = yaml.safe_load(ledger.read_text(SPEC_FILE))
        for key in ("rslora", "layers_to_transform", "loraplus_lr_ratio"):
            del written["training"][key]
        ledger.write_text(SPEC_FILE, yaml.safe_dump(written))
        store_spec(ledger, make_spec(), self.INPUTS)
        assert "rslora: false" in ledger.read_text(SPEC_FILE)
        ledger.start_trial(trial_spec(rank=2), {"rank": 2})
        with pytest.raises(InputError, match=r"other training\.rslora \(False, now True\)"):
            store_spec(ledger, make_spec(training="training: {rslora: true}"), self.INPUTS)

    def test_a_run_that_made_nothing_claims_no_name(self, ledger, make_spec):
        store_spec(ledger, make_spec(), self.INPUTS)
        store_spec(ledger, make_spec(training="training: {dropout: 0.2}"), self.INPUTS)
        assert "dropout: 0.2" in ledger.read_text(SPEC_FILE)

    def test_where_files_lie_is_no_question(self, ledger, make_spec, tmp_path):
        """A project that was moved or copied, with the prompts in another file."""
        for folder in ("here", "there"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "p.jsonl").write_text('{"id": "p0", "text": "one"}\n')
            spec = make_spec(variants=f"variants: {{prompts: {folder}/p.jsonl}}")
            store_spec(ledger, spec, self.INPUTS)
            ledger.start_trial(trial_spec(rank=2), {"rank": 2})
        assert "/there/p.jsonl" in ledger.read_text(SPEC_FILE)

    def test_another_question_needs_another_name(self, ledger, make_spec):
        store_spec(ledger, make_spec(), self.INPUTS)
        ledger.start_trial(trial_spec(rank=2), {"rank": 2})
        before = ledger.read_text(SPEC_FILE)
        other = make_spec(
            training="training: {dropout: 0.2}",
            search="search: {space: {clip: {low: 1, high: 2}}}",
            resources="resources: {scorers: 9}",
        )
        with pytest.raises(InputError) as caught:
            store_spec(ledger, other, self.INPUTS)
        rule = "sweep 'small' was started with other "
        assert [each.what for each in caught.value.problems] == [
            f"{rule}training.dropout (0.05, now 0.2)",
            f"{rule}search.space.clip (None, now {{'choices': [], 'low': 1.0, 'high': 2.0, "
            "'log': False})",
            f"{rule}search.space.rank ({{'choices': [2, 4], 'low': None, 'high': None, "
            "'log': False}, now None)",
        ]
        assert ledger.read_text(SPEC_FILE) == before

    def test_clips_that_changed_since_its_trials_need_another_name(self, ledger, make_spec):
        def inputs(*texts: str) -> Inputs:
            rows = [
                ManifestRow(where=f"m:{n}", audio="a.wav", text=text, split="train")
                for n, text in enumerate(texts, start=1)
            ]
            return Inputs([TargetClip(r, "pcm", 16_000, 1.0) for r in rows], [], 0, [], [self.B])

        spec = make_spec()
        store_spec(ledger, spec, inputs("one", "two"))
        store_spec(ledger, spec, inputs("one", "three"))  # nothing was trained yet
        ledger.start_trial(trial_spec(rank=2), {"rank": 2})
        refuse_changes(ledger, spec, inputs("one", "three"))
        with pytest.raises(InputError) as caught:
            refuse_changes(ledger, spec, inputs("one", "tree", "four"))
        (problem,) = caught.value.problems
        assert problem.what == (
            "sweep 'small' was started with other clips: 2 of 3 are new or changed, first at m:2, "
            "and 1 are gone"
        )
        with pytest.raises(InputError):
            store_spec(ledger, spec, inputs("one"))
        refuse_changes(ledger, spec, inputs("three", "one"))

    def test_a_sweep_may_grow(self, ledger, make_spec):
        """A trial that finished has epochs left; one that was stopped or failed has not."""
        store_spec(ledger, make_spec(), self.INPUTS)
        specs = [trial_spec(rank=rank) for rank in (2, 4, 8)]
        ends = (TrialResult("finished", 4), TrialResult("stopped", 2), TrialResult("failed", 1))
        for spec, end in zip(specs, ends, strict=True):
            ledger.start_trial(spec, {"rank": spec.training.rank})
            ledger.end_trial(spec.id, end)
        before = ledger.trials()
        store_spec(ledger, make_spec(**GROWN), self.INPUTS)
        assert "epochs: 6" in ledger.read_text(SPEC_FILE)
        longer = [trial_spec(rank=rank, epochs=6) for rank in (2, 4, 8)]
        for of in (ledger, Ledger(ledger.storage, ledger.sweep)):
            grown = of.trials()
            assert grown == [replace(b, spec=s) for b, s in zip(before, longer, strict=True)]
            assert [of.final_result(each.id) for each in grown] == [None, *ends[1:]]

    def test_steps_may_grow_as_epochs_may(self, ledger, make_spec):
        shorter, longer = (
            make_spec(training=f"training: {{steps: {steps}, checkpoint_steps: 10}}")
            for steps in (40, 60)
        )
        store_spec(ledger, shorter, self.INPUTS)
        spec = trial_spec(epochs=None, steps=40, checkpoint_steps=10)
        ledger.start_trial(spec, {})
        ledger.end_trial(spec.id, TrialResult("finished", 4))
        assert ledger.final_result(spec.id) is not None
        store_spec(ledger, longer, self.INPUTS)
        assert ledger.trial(spec.id).training.checkpoints == 6
        assert ledger.final_result(spec.id) is None

    def test_prompts_may_be_added_to_set_a_and_to_no_other(self, ledger, make_spec):
        few, more = ([PromptSpec(id=f"p{i}", text=f"{i}") for i in range(n)] for n in (3, 4))
        spec = make_spec(variants="variants: {shortlist_after: 3}")
        store_spec(ledger, spec, Inputs([], [], 0, few, [*self.FRESH]))
        ledger.write_text(
            PROTOCOL_FILE, protocol_for(spec, few, self.FRESH, PREPARED).model_dump_json()
        )
        store_spec(ledger, spec, Inputs([], [], 0, more, [*self.FRESH]))
        before = ledger.read_text(PLAN_FILE)
        with pytest.raises(InputError) as caught:
            store_spec(ledger, spec, Inputs([], [], 0, more[1:], [*self.FRESH[1:]]))
        assert [each.what for each in caught.value.problems] == [
            "sweep 'small' was started with other variants.prompts",
            "sweep 'small' was started with other variants.confirmation_prompts",
        ]
        assert ledger.read_text(PLAN_FILE) == before

    @pytest.mark.parametrize("shortlist_after", ["null", "4"])
    def test_no_prompts_are_added_that_every_variant_would_have_to_say(
        self, ledger, make_spec, shortlist_after
    ):
        few, more = ([PromptSpec(id=f"p{i}", text=f"{i}") for i in range(n)] for n in (3, 4))
        spec = make_spec(variants=f"variants: {{shortlist_after: {shortlist_after}}}")
        ledger.write_text(
            PROTOCOL_FILE, protocol_for(spec, few, self.FRESH, PREPARED).model_dump_json()
        )
        store_spec(ledger, spec, Inputs([], [], 0, few, [*self.FRESH]))
        with pytest.raises(InputError, match=r"variants\.prompts \(3, now 4\)"):
            store_spec(ledger, spec, Inputs([], [], 0, more, [*self.FRESH]))

    @pytest.mark.parametrize(
        ("first", "then", "rule"),
        [
            ({"training": "training: {epochs: 6}"}, {}, r"training\.epochs \(6, now 4\)"),
            (GROWN, {**GROWN, "search": "search: {space: {rank: [2, 4]}}"}, r"search\.trials"),
            ({}, {"variants": "variants: {lora_scales: [0, 0.5, 1.0]}"}, r"variants\.lora_scales"),
            (GROWN, {**GROWN, "scoring": f"{SCORING}2}}"}, r"scoring\.finalists \(4, now 2\)"),
            (
                {"training": "training: {schedule: cosine}"},
                {"training": "training: {schedule: cosine, epochs: 6}"},
                r"training\.epochs \(4, now 6\)\. It may grow where it is not searched",
            ),
            (
                {"search": "search: {space: {schedule: [constant, linear]}}"},
                {
                    "search": "search: {space: {schedule: [constant, linear]}}",
                    "training": "training: {epochs: 6}",
                },
                r"training\.epochs \(4, now 6\)\. It may grow where it is not searched",
            ),
            (
                {"training": "training: {steps: 40, checkpoint_steps: 10}"},
                {"training": "training: {steps: 80, checkpoint_steps: 20}"},
                r"training\.checkpoint_steps \(10, now 20\)",
            ),
            (
                {},
                {"training": "training: {steps: 40, checkpoint_steps: 10}"},
                r"training\.steps \(None, now 40\)\. It may only grow",
            ),
        ],
    )
    def test_it_may_not_shrink_nor_grow_where_trials_would_be_others(
        self, ledger, make_spec, first, then, rule
    ):
        store_spec(ledger, make_spec(**first), self.INPUTS)
        ledger.start_trial(trial_spec(rank=2), {"rank": 2})
        before = ledger.read_text(SPEC_FILE)
        with pytest.raises(InputError, match=rule):
            store_spec(ledger, make_spec(**then), self.INPUTS)
        assert ledger.read_text(SPEC_FILE) == before


def test_a_trial_that_failed_is_tried_again_when_it_is_asked_for(ledger):
    ends = {2: TrialResult("failed", 1, "nan"), 4: TrialResult("finished", 4)}
    for rank, end in ends.items():
        spec = trial_spec(rank=rank)
        ledger.start_trial(spec, {"rank": rank})
        ledger.end_trial(spec.id, end)
    ledger.reopen_failed()
    finals = [ledger.final_result(record.id) for record in ledger.trials()]
    assert finals == [None, ends[4]]


def test_a_second_driver_waits_and_says_for_whom(ledger, monkeypatch):
    monkeypatch.setattr("orchestrator.ledger._TOLD_AFTER", 0.0)
    other = Ledger(ledger.storage, ledger.sweep)
    told, order = Queue(), []

    def second() -> None:
        with other.driven(told.put):
            order.append("second")

    with ledger.driven(lambda line: None):
        thread = threading.Thread(target=second)
        thread.start()
        line = told.get()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert f"process {os.getpid()} on {socket.gethostname()} runs this sweep since 2" in line
