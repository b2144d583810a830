"""The Optuna study as Ray Tune's searcher, asked without a cluster."""

import json

import pytest
from optuna.trial import TrialState

from jobs.spec.trial import TrainingSpec
from orchestrator.ledger import TrialRecord
from orchestrator.search.study import StudySearch
from orchestrator.search.study_storage import study_storage
from orchestrator.spec.model import SearchSpec
from tests.orchestrator.search.study_driver import MIXES, Driver

EVERY_KIND = {
    "rank": {"low": 2, "high": 9},
    "batch_size": {"low": 1, "high": 64, "log": True},
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "dropout": {"low": 0.0, "high": 0.5},
    "schedule": {"choices": ["linear", "cosine"]},
    "targets": {"choices": [["q_proj"], ["q_proj", "v_proj"]]},
    "alpha": {"choices": [None, 8.0, 16]},
    "batch_tokens": {"low": 1000, "high": 9000},
    "mix": {"choices": ["single", "mixed", None]},
}
"""int, log int, log float, float, texts, lists, null beside numbers and texts, int or null."""


@pytest.fixture
def driver(tmp_path):
    """In a journal, as by default; SQLite is asked in ``test_study_records.py``."""
    return lambda **search: Driver(tmp_path, search)


def unique(points) -> set[str]:
    return {json.dumps(point, sort_keys=True) for point in points}


def test_lists_of_numbers_and_what_peft_offers_are_searched(driver):
    space = {
        "alpha": {"low": 4.0, "high": 64.0, "log": True},
        "rslora": {"choices": [False, True]},
        "layers_to_transform": {"choices": [None, [0, 1], [3]]},
        "betas": {"choices": [[0.9, 0.999], [0.8, 0.95]]},
        "loraplus_lr_ratio": {"low": 1.0, "high": 16.0},
    }
    points = driver(sampler="random", space=space).ask(16)
    trainings = [TrainingSpec.model_validate(point) for point in points]
    assert {each.layers_to_transform for each in trainings} == {None, (0, 1), (3,)}
    assert {each.betas for each in trainings} == {(0.9, 0.999), (0.8, 0.95)}
    assert {each.rslora for each in trainings} == {False, True}
    assert len({each.scaling_alpha for each in trainings}) == 16
    assert all(1.0 <= each.loraplus_lr_ratio <= 16.0 for each in trainings)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_values_mean_what_the_space_says(driver, sampler):
    asked = driver(sampler=sampler, space=EVERY_KIND)
    points = asked.ask(12)
    assert len(points) == len(unique(points)) == 12
    for point in points:
        assert list(point) == list(EVERY_KIND)
        assert isinstance(point["rank"], int)
        assert 2 <= point["rank"] <= 9
        assert isinstance(point["batch_size"], int)
        assert 1 <= point["batch_size"] <= 64
        assert 1e-4 <= point["learning_rate"] <= 1e-2
        assert 0 <= point["dropout"] <= 0.5
        assert point["targets"] in (("q_proj",), ("q_proj", "v_proj"))
        assert point["alpha"] in (None, 8.0, 16)
        assert isinstance(point["batch_tokens"], int)
        assert 1000 <= point["batch_tokens"] <= 9000
        TrainingSpec.model_validate(point)
    assert len({point["targets"] for point in points}) == 2
    assert {point["mix"] for point in points} == {"single", "mixed", None}
    assert [record.point for record in asked.ledger.trials()] == points


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_log_range_is_searched_evenly_in_the_exponent(driver, sampler):
    """Of draws from 1e-4 to 1e-2 half lie below 1e-3; evenly drawn, one in eleven would."""
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    rates = [point["learning_rate"] for point in driver(sampler=sampler, space=space).ask(10)]
    assert 2 <= sum(rate < 1e-3 for rate in rates) <= 9


@pytest.mark.parametrize("value", [True, False, None, 3, 0.5, "a", ("a", "b")])
def test_each_kind_of_choice_comes_back_as_itself(tmp_path, value):
    """Through Optuna's SQLite file. No key of training takes a bool today; a choice may be one."""
    storage, points = study_storage(f"sqlite:///{tmp_path / 'study.db'}", tmp_path), []

    def start(point) -> TrialRecord:
        points.append(point)
        return TrialRecord("t", 0, point, Driver.trial_spec({}))

    search = SearchSpec.model_validate({"space": {"seed": {"choices": [value, "other"]}}})
    known = TrialRecord("t", 0, {"seed": value}, Driver.trial_spec({}))
    StudySearch(search, "s", storage, [known], (), start).suggest("a")
    assert points == [{"seed": value}]
    assert type(points[0]["seed"]) is type(value)


def test_a_grid_is_exactly_the_grid(driver):
    space = {"rank": {"choices": [2, 4]}, "schedule": {"choices": ["linear", "constant", "cosine"]}}
    asked = driver(sampler="grid", trials=1, space=space)
    expected = [
        {"rank": rank, "schedule": schedule}
        for rank in (2, 4)
        for schedule in ("linear", "constant", "cosine")
    ]
    assert asked.ask(20) == expected


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_finite_space_ends_when_each_point_was_suggested_once(driver, sampler):
    """Also with TPE, which by itself would ask for what went well for ever."""
    ranks, seeds = [2, 4, 8, 16], [0, 1, 2]
    space = {"rank": {"choices": ranks}, "seed": {"choices": seeds}}
    asked = driver(sampler=sampler, trials=20, space=space)
    points = asked.ask(20)
    assert unique(points) == unique({"rank": r, "seed": s} for r in ranks for s in seeds)
    assert len(points) == 12
    complete = [t for t in asked.study().trials if t.state == TrialState.COMPLETE]
    assert len(complete) == 12


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_single_against_mixed_are_trials_of_their_own(driver, sampler):
    space = {"mix": {"choices": ["single", "mixed"]}, "rank": {"choices": [2, 4]}}
    asked = driver(sampler=sampler, trials=8, space=space)
    points = asked.ask(8)
    every = [{"mix": mix, "rank": rank} for mix in ("single", "mixed") for rank in (2, 4)]
    assert unique(points) == unique(every)
    assert len(asked.ledger.trials()) == 4
    for record in asked.ledger.trials():
        assert record.spec.mix == MIXES[record.point["mix"]]


def test_points_that_mean_the_same_weights_are_one_trial(driver):
    """Alpha null is twice the rank."""
    asked = driver(
        sampler="grid", space={"rank": {"choices": [4]}, "alpha": {"choices": [None, 8]}}
    )
    assert asked.ask(20) == [{"rank": 4, "alpha": None}]


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_rebuilt_study_suggests_the_known_points_first(driver, sampler):
    """In their order, whatever the kind of value, then goes on with new ones."""
    space = EVERY_KIND
    if sampler == "grid":
        space = {k: v for k, v in EVERY_KIND.items() if "choices" in v}
    asked = driver(sampler=sampler, space=space)
    first = asked.ask(5)
    asked.build()
    again = asked.ask(7)
    assert again[:5] == first
    assert len(unique(again)) == 7
    assert [record.point for record in asked.ledger.trials()] == again


def test_a_study_is_reproducible(tmp_path):
    runs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        runs.append(Driver(tmp_path / name, {"seed": 3, "space": EVERY_KIND}).ask(6))
    assert runs[0] == runs[1]


def test_optuna_itself_reads_the_study(driver):
    asked = driver(space={"rank": {"choices": [2, 4, 8]}})
    points = asked.ask(2)
    trials = asked.study().trials
    names = [record.id for record in asked.ledger.trials()]
    assert [trial.user_attrs["trial"] for trial in trials] == names
    assert [trial.params for trial in trials] == points
    assert [trial.value for trial in trials] == [1.0 / point["rank"] for point in points]
    assert asked.study().best_trial.params["rank"] == min(point["rank"] for point in points)


def test_the_space_is_maximised(driver):
    """TPE comes to prefer what it was told is better: here, the low ranks."""
    asked = driver(space={"rank": {"low": 1, "high": 200}})
    ranks = [point["rank"] for point in asked.ask(30)]
    assert sum(ranks[20:]) < sum(ranks[:10])


def test_a_spent_budget_lets_known_trials_go_on_and_begins_no_other(driver):
    asked = driver(sampler="random", trials=9, space={"rank": {"low": 1, "high": 64}})
    begun = asked.ask(2)
    asked.build()
    asked.search._refusal = lambda: "nothing is left"
    assert asked.ask(9) == begun
    assert asked.search.undone == "nothing is left"
    assert len(asked.ledger.trials()) == 2
