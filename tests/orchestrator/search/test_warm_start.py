"""What a study learns from earlier sweeps, and what it refuses to."""

import json
import logging

import optuna
import pytest
import yaml
from typer.testing import CliRunner

from jobs.metrics.base import ClipScores
from jobs.problems import InputError
from jobs.speech.clips import Origin, write_clips
from jobs.training.epochs import EpochLosses, write_losses
from orchestrator.cli import app
from orchestrator.ledger import PROTOCOL_FILE, SPEC_FILE, TrialResult
from orchestrator.search.insight import study_insight
from orchestrator.search.study_storage import check_study, study_storage
from orchestrator.search.tune import searcher_for
from tests.orchestrator.search.fake_sweep import PROMPTS, SECTIONS, fake_context

HEALTHY = {"end_of_speech_failure": 0.0, "duration": 1.0, "tail_silence": 0.0, "clipping": 0.0}
RATES = [1e-4, 1e-3, 1e-2]
SEARCH = "search: {sampler: grid, space: {rank: [2, 4], learning_rate: [1.0e-4, 1.0e-3, 1.0e-2]}}"


def similarity(point) -> float:
    """Best in the middle of the learning rates, better at rank 4."""
    return 0.2 + 0.1 * (point["learning_rate"] == 1e-3) + 0.01 * (point["rank"] == 4)


@pytest.fixture
def sweep(make_spec, tmp_path):
    """A sweep in the storage; its ``trials`` were trained for an epoch, or ``lengths``, and heard.

    Every further epoch gains more than all that the keys can.
    """

    def make(name="earlier", trials=(), ends=None, lengths=None, **sections):
        spec = make_spec(**{**SECTIONS, "search": SEARCH, "name": f"name: {name}"} | sections)
        context = fake_context(spec, tmp_path / "st")
        ledger = context.ledger()
        ledger.write_text(SPEC_FILE, yaml.safe_dump(spec.model_dump(mode="json")))
        ledger.write_text(PROTOCOL_FILE, context.protocol.model_dump_json())
        for number, point in enumerate(trials):
            record = ledger.start_trial(context.trial_spec(point), point)
            epochs = (lengths or {}).get(number, 1)
            for epoch in range(1, epochs + 1):
                losses = EpochLosses(epoch, 1.0, 1.0, (), (), 7.0, 1.0)
                with ledger.storage.commit(ledger.checkpoint(record.id, epoch)) as folder:
                    write_losses(folder, losses)
                for scale in spec.variants.adapted_scales:
                    variant = f"{record.id}-e{epoch:02d}-s{scale:.2f}"
                    with ledger.storage.commit(ledger.clips(variant)) as folder:
                        write_clips(folder, [], [], Origin(variant, "codec_lm", ""))
                    gained = similarity(point) + scale / 100 + 0.3 * (epoch - 1)
                    values = {**HEALTHY, "similarity": gained}
                    rows = [ClipScores(variant, prompt.id, 0, values) for prompt in PROMPTS]
                    ledger.write_scores(variant, rows)
            end = (ends or {}).get(number, "finished")
            ledger.end_trial(record.id, TrialResult(end, epochs))
        return context

    return make


def points(ranks=(2, 4)) -> list[dict]:
    return [{"rank": rank, "learning_rate": rate} for rank in ranks for rate in RATES]


LATER = "search: {sampler: random, trials: 4, warm_start: [earlier], space: \
{rank: [4, 8, 16], learning_rate: {low: 1.0e-5, high: 1.0e-2, log: true}}}"


def study_of(context, tmp_path):
    check_study(context.spec, context.ledger(), tmp_path / "later")
    return searcher_for(context, tmp_path / "later")


def test_earlier_trials_that_fit_are_complete_and_marked(sweep, tmp_path):
    sweep(trials=points(), ends={5: "failed"})
    searcher = study_of(sweep("later", search=LATER), tmp_path)
    taught = [t for t in searcher.study.trials if t.state.name == "COMPLETE"]
    assert [t.params for t in taught] == [{"rank": 4, "learning_rate": rate} for rate in RATES[:2]]
    assert [t.value for t in taught] == pytest.approx([0.22, 0.32])
    assert {t.user_attrs["from_sweep"] for t in taught} == {"earlier"}
    assert taught[0].user_attrs["seconds"] == 7.0
    assert taught[0].user_attrs["similarity"] == pytest.approx(0.22)
    assert list(taught[0].constraints.values()) == [-1.0]
    assert taught[0].user_attrs["constraint failed_clips"] == -1.0
    assert not any("trial" in t.user_attrs for t in taught)


def test_the_best_earlier_learning_rate_is_tried_at_every_rank_first(sweep, tmp_path):
    sweep(trials=points(ranks=(2,)))
    context = sweep("later", search=LATER)
    searcher = study_of(context, tmp_path)
    ledger = context.ledger()
    first = [ledger.trial(searcher.suggest(name)["trial"]).point for name in "abc"]
    assert first == [{"rank": rank, "learning_rate": 1e-3} for rank in (4, 8, 16)]
    assert ledger.trial(searcher.suggest("d")["trial"]).point["learning_rate"] != 1e-3
    assert len(ledger.trials()) == 4


def test_a_second_run_is_taught_nothing_twice(sweep, tmp_path):
    sweep(trials=points())
    context = sweep("later", search=LATER)
    before = len(study_of(context, tmp_path).study.trials)
    assert len(study_of(context, tmp_path).study.trials) == before == 3 + 2


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"search": LATER.replace("earlier", "nothing")}, "'nothing' has no scores in"),
        (
            {
                "search": LATER,
                "scoring": "scoring: {metrics: [dnsmos_p808], primary: dnsmos_p808, "
                "min_effect: 0.05, "
                "bootstrap_resamples: 1000}",
            },
            "'earlier' must rank by dnsmos_p808, but ranks by similarity",
        ),
    ],
    ids=["absent", "other metric"],
)
def test_sweeps_that_cannot_teach_are_refused(sweep, tmp_path, sections, said):
    sweep(trials=points())
    context = sweep("later", **sections)
    with pytest.raises(InputError, match=said):
        check_study(context.spec, context.ledger(), tmp_path)


class TestAStudyOfTheName:
    @pytest.fixture
    def where(self, tmp_path) -> str:
        return f"records: {{optuna: 'journal:{tmp_path}/shared.log'}}"

    def test_of_another_storage_is_refused(self, sweep, tmp_path, where):
        context = sweep(records=where)
        study_of(context, tmp_path)
        check_study(context.spec, context.ledger(), tmp_path)
        (tmp_path / "st" / "earlier" / "sweep.json").unlink()
        with pytest.raises(InputError, match="belongs to a sweep of this name in another storage"):
            check_study(context.spec, context.ledger(), tmp_path)

    def test_with_trials_of_somebody_else_is_refused_unless_it_is_marked(
        self, sweep, tmp_path, where
    ):
        """A point that waits is one to try; what was told is no value of ours."""
        context = sweep(records=where)
        storage = study_storage(context.spec.records.optuna, tmp_path)
        study = optuna.create_study(storage=storage, study_name="earlier", direction="maximize")
        study.enqueue_trial({"rank": 4, "learning_rate": 1e-3})
        check_study(context.spec, context.ledger(), tmp_path)
        study.tell(study.ask(), 99.0)
        id = context.ledger().begin().id
        with pytest.raises(InputError, match=f"'earlier' has 1 trials that no .* to '{id}'"):
            check_study(context.spec, context.ledger(), tmp_path)
        study.set_user_attr("sweep", id)
        check_study(context.spec, context.ledger(), tmp_path)

    def test_with_other_objectives_is_refused(self, sweep, tmp_path, where):
        study_of(sweep(records=where), tmp_path)
        search = SEARCH.replace("sampler: grid", "sampler: grid, objectives: [objective, seconds]")
        context = sweep(records=where, search=search)
        with pytest.raises(InputError, match=r"objectives \['objective', 'seconds'\], got \['obj"):
            check_study(context.spec, context.ledger(), tmp_path)

    def test_whose_trials_mean_something_else_is_refused(self, sweep, tmp_path, where):
        study_of(sweep(records=where), tmp_path).suggest("a")
        context = sweep(records=where, search=SEARCH.replace("[2, 4]", "[2, 8]"))
        with pytest.raises(InputError, match="number 0, to which rank means something else"):
            check_study(context.spec, context.ledger(), tmp_path)


class TestInsight:
    def test_the_learning_rate_matters_more_than_the_rank(self, sweep):
        insight = study_insight(sweep(trials=points()).ledger())
        assert insight.ends == {"complete": 6, "pruned": 0, "fail": 0, "running": 0}
        assert (insight.compared, insight.compared_epoch) == (6, None)
        assert list(insight.importances) == ["learning_rate", "rank"]
        assert insight.importances["learning_rate"] > 0.8
        assert sum(insight.importances.values()) == pytest.approx(1)

    def test_stopped_trials_are_compared_where_the_first_was_stopped(self, sweep):
        """Only trials of rank 4 came to later epochs, which says nothing of ranks."""
        ends = {0: "stopped", 1: "stopped", 2: "stopped", 4: "failed", 5: "stopped"}
        lengths = {3: 3, 4: 3, 5: 2}
        insight = study_insight(sweep(trials=points(), ends=ends, lengths=lengths).ledger())
        assert insight.ends == {"complete": 1, "pruned": 4, "fail": 1, "running": 0}
        assert (insight.compared, insight.compared_epoch) == (6, 1)
        assert insight.importances["learning_rate"] > 0.8

    def test_the_pareto_set_keeps_what_nothing_beats(self, sweep):
        """All cost the same and differ in one metric: only the best is left."""
        insight = study_insight(sweep(trials=points()).ledger())
        assert insight.directions == {"similarity": "max", "seconds": "min"}
        (best,) = insight.pareto
        assert best.name == "rank 4, learning rate 1e-3, epoch 1, lora_scale 1"
        assert best.values == pytest.approx({"similarity": 0.32, "seconds": 7.0})

    def test_three_trials_are_too_few(self, sweep):
        insight = study_insight(sweep(trials=points()[:4], ends={0: "failed"}).ledger())
        assert insight.importances == {}
        assert insight.why_none == "importances need 4 trials with scores, got 3"

    def test_a_sweep_that_is_not_there(self, sweep):
        ledger = sweep().ledger()
        ledger.sweep = "other"
        with pytest.raises(InputError, match="must hold the sweep 'other'"):
            study_insight(ledger)

    @pytest.mark.parametrize("as_json", [True, False])
    def test_the_command_says_it(self, sweep, tmp_path, as_json):
        sweep(trials=points(), ends={0: "stopped"})
        arguments = ["study", "earlier", "--storage", str(tmp_path / "st")]
        said = CliRunner().invoke(app, [*arguments, "--json"] if as_json else arguments)
        assert said.exit_code == 0, said.output
        assert not logging.getLogger("optuna").isEnabledFor(logging.INFO)
        if as_json:
            row = json.loads(said.stdout)
            assert row["ends"] == {"complete": 5, "pruned": 1, "fail": 0, "running": 0}
            assert [each["values"]["seconds"] for each in row["pareto"]] == [7.0]
        else:
            assert "5 complete, 1 pruned" in said.stdout
            assert "learning_rate" in said.stdout
            assert "on each key: 6 trials by epoch 1" in said.stdout


def test_numbers_that_are_written_otherwise_are_the_same_choices(sweep):
    """By exponents alone, and an integer where the key has decimals."""
    sweep(trials=[{"rank": 4, "learning_rate": 1e-3}])
    search = "sampler: tpe, trials: 3, warm_start: [earlier]"
    space = "{rank: [4.0], learning_rate: [1e-4, 1e-3, 1]}"
    context = sweep(name="later", search=f"search: {{{search}, space: {space}}}")
    searcher = searcher_for(context, context.ledger().storage.workspace("later"))
    adopted = [t for t in searcher.study.trials if "from_sweep" in t.user_attrs]
    assert [t.params for t in adopted] == [{"rank": 4, "learning_rate": 1e-3}]
