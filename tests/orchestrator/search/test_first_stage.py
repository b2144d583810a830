"""A search that begins where it is cheap, and carries what was best there to everywhere else."""

from collections.abc import Sequence

import pytest
from ray.tune.search import Searcher

from tests.orchestrator.search.study_driver import Driver

RATES = [1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3]
SPACE = {"rank": {"choices": [8, 16, 32]}, "learning_rate": {"choices": RATES}}


@pytest.fixture
def begin(tmp_path):
    def make(first=4, hold=None, space=None, trials=6) -> Driver:
        search = {
            "trials": trials,
            "space": space or SPACE,
            "first": {"hold": hold or {"rank": 8}, "trials": first},
        }
        return Driver(tmp_path, search, None, f"journal:{tmp_path / 'study.log'}")

    return make


def best_at(rate: float, point: dict) -> float:
    """A promise with one peak."""
    return -abs(RATES.index(point["learning_rate"]) - RATES.index(rate))


def go(asked: Driver, rate: float, count: int = 9) -> list[dict]:
    """One after another, with the best learning rate at ``rate``."""
    points = []
    for number in range(count):
        suggested = asked.search.suggest(f"t{number}")
        if suggested == Searcher.FINISHED:
            break
        points.append(asked.point(suggested))
        asked.tell(f"t{number}", points[-1], promise=best_at(rate, points[-1]))
    return points


def rates(points: Sequence[dict]) -> list[float]:
    return [point["learning_rate"] for point in points]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (1.6e-3, [8e-4, 1.6e-3, 3.2e-3, 4e-4]),
        (2e-4, [8e-4, 1.6e-3, 4e-4, 2e-4]),
        (8e-4, [8e-4, 1.6e-3, 4e-4, 3.2e-3]),
    ],
)
def test_learning_rates_are_climbed_and_the_best_goes_to_the_other_ranks(begin, rate, expected):
    points = go(begin(), rate, 6)
    assert rates(points[:4]) == expected
    assert {point["rank"] for point in points[:4]} == {8}
    assert points[4:] == [
        {"rank": 16, "learning_rate": rate},
        {"rank": 32, "learning_rate": rate},
    ]


def test_the_sampler_goes_on_after_the_transfer(begin):
    points = go(begin(trials=8), 8e-4, 8)
    assert len({(p["rank"], p["learning_rate"]) for p in points}) == 8


def test_nothing_is_carried_before_the_stage_has_ended(begin):
    asked = begin(first=2)
    first, second = (asked.suggest(name) for name in "ab")
    assert asked.search.suggest("c") is None
    asked.tell("a", first, promise=0.1)
    assert asked.search.suggest("c") is None
    asked.tell("b", second, promise=0.2)
    assert asked.suggest("c") == {**second, "rank": 16}


def test_what_was_stopped_early_is_behind_what_was_not(begin):
    """Its promise is of another epoch."""
    asked = begin(first=2)
    first, second = (asked.suggest(name) for name in "ab")
    asked.tell("a", first, promise=0.1)
    asked.tell("b", second, promise=0.2, epoch=2)
    assert asked.suggest("c") == {**first, "rank": 16}


def test_a_stage_of_failures_carries_nothing(begin):
    asked = begin(first=1)
    asked.search.suggest("a")
    asked.search.on_trial_complete("a", {"failed": "nan", "final": True})
    assert asked.suggest("b")["rank"] in (8, 16, 32)


def test_a_later_run_knows_the_stage_of_the_first(begin):
    asked = begin(first=2)
    first, second = (asked.suggest(name) for name in "ab")
    asked.tell("a", first, promise=0.1)
    asked.build()
    assert [asked.suggest(name) for name in "ab"] == [first, second]
    assert asked.search.suggest("c") is None
    asked.tell("a", first, promise=0.1)
    asked.tell("b", second, promise=0.0)
    assert asked.suggest("c") == {**first, "rank": 16}


def test_where_a_range_is_left_the_sampler_draws_with_the_rank_held(begin):
    space = {**SPACE, "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    asked = begin(first=3, space=space)
    points = []
    for number in range(5):
        points.append(asked.suggest(f"t{number}"))
        asked.tell(f"t{number}", points[-1], promise=points[-1]["learning_rate"])
    assert [point["rank"] for point in points] == [8, 8, 8, 16, 32]
    assert set(rates(points[3:])) == {max(rates(points[:3]))}


def test_a_stage_with_fewer_points_than_trials_ends_with_them(begin):
    space = {"rank": {"choices": [8, 16]}, "schedule": {"choices": ["linear", "cosine"]}}
    asked = begin(first=6, trials=9, space=space)
    points = []
    for number in range(4):
        points.append(asked.suggest(f"t{number}"))
        promise = 1.0 if points[-1]["schedule"] == "cosine" else 0.0
        asked.tell(f"t{number}", points[-1], promise=promise)
    assert [point["rank"] for point in points] == [8, 8, 16, 16]
    assert points[2]["schedule"] == "cosine"
