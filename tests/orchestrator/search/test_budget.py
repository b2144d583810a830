"""Whether one more trial could end within the budget, and all that follows."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from jobs.problems import InputError
from orchestrator.ledger import Ledger, SweepRun
from orchestrator.search.budget import Budget
from orchestrator.spec.cost import Pace
from orchestrator.spec.model import BudgetSpec
from orchestrator.spec.plan import SweepEnd
from tests.orchestrator.spec.test_cost import HERE, earlier  # noqa: F401 (a fixture)
from tests.orchestrator.spec.test_plan import INPUTS

NOW = 10_000.0
SECTIONS = {
    "name": "name: later",
    "resources": "resources: {hosts: 2, gpus_per_rank: 0.5}",
    "training": "training: {epochs: 4}",
    "variants": "variants: {lora_scales: [0, 0.5, 1.0]}",
    "search": "search: {trials: 8, confirm_seeds: 3, space: {rank: [2, 4]}}",
}
TRIAL = 4 * 20
"""Seconds: the earlier sweep took 20 s an epoch, and 1 s a clip."""
AFTER = 2 * TRIAL + 6 * (2 + 2)
"""In 2 slots, after one trial: 3 replicates and 3 finalists speak the 6 prompts of set B."""


@pytest.fixture
def budget(make_spec, earlier, monkeypatch):  # noqa: F811
    """Of a run that started 600 s ago, after one of 300 s on half as many GPUs."""

    def make(machine="L4", **limits):
        storage, _ = earlier()
        spec = make_spec(**SECTIONS).model_copy(update={"budget": BudgetSpec(**limits)})
        clock = [NOW - 600]
        monkeypatch.setattr("orchestrator.search.budget.time.time", lambda: clock[0])
        ledger = Ledger(storage, "later")
        made = Budget.of(spec, ledger, machine, INPUTS)
        ledger.begin(machine)
        ledger.note_run(SweepRun(1000.0, 1300.0, gpus=0.5))
        made.note()
        clock[0] = NOW
        return made

    return make


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, UTC)


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({}, None),
        ({"deadline": at(70)}, 70.0),
        # of 1800 GPU-seconds 150 before, and 600 of this run, on one GPU in all
        ({"gpu_hours": 0.5}, 1050.0),
        ({"money": 3.0, "price": 6.0}, 1050.0),
        ({"money": 3.0, "price": 6.0, "gpu_hours": 0.3, "deadline": at(1000)}, 330.0),
    ],
)
def test_the_nearest_limit_counts(budget, limits, left):
    assert budget(**limits).left() == (left if left is None else pytest.approx(left))


def test_a_trial_begins_while_it_and_all_that_follows_could_end(budget):
    assert budget(HERE, deadline=at(TRIAL + AFTER)).refusal(slots=2) == ""
    told = budget(HERE, deadline=at(TRIAL + AFTER - 1)).refusal(slots=2)
    assert told == (
        "the budget has 0.073 hours left; a trial takes up to 0.022 hours, and what follows it "
        "0.051 hours"
    )
    assert budget(HERE).refusal(slots=2) == ""


def test_replicates_begin_while_they_could_end(budget):
    """Two of the three at once, then the last; each speaks 6 prompts."""
    needed = 2 * (3 * 20 + 6)
    assert budget(HERE, deadline=at(needed)).refusal_of_replicates(3, epochs=3, slots=2) == ""
    told = budget(HERE, deadline=at(needed - 1)).refusal_of_replicates(3, epochs=3, slots=2)
    assert told == "the budget has 0.036 hours left; they take up to 0.037 hours"
    assert budget(HERE).refusal_of_replicates(3, epochs=3, slots=2) == ""


def test_of_unknown_length_it_begins_until_nothing_is_left(budget):
    assert budget(deadline=at(1)).refusal(slots=2) == ""
    told = budget(deadline=at(-1)).refusal(slots=2)
    assert told == "the budget has 0 hours left; a trial takes up to 0 hours"


def test_its_own_trials_count_before_those_of_an_earlier_sweep(budget):
    """It is the earlier sweep that goes on: 20 s an epoch, whatever another has taken."""
    own = budget(deadline=at(TRIAL + AFTER))
    ledger = Ledger(own.ledger.storage, "earlier")
    expected = Pace(epoch=1000.0, clip=1000.0)
    again = Budget(own.spec, ledger, own.prompts, own.confirmation, NOW, expected)
    assert again.refusal(slots=2) == ""
    ledger.note_run(SweepRun(130.0, 135.0, 1.0))
    ledger.note_run(SweepRun(150.0, 160.0, 1.0))
    assert "a trial takes up to 1.1 hours" in replace(again, _ended={}).refusal(slots=2)


def test_what_follows_the_last_trial():
    end = SweepEnd(5, 90, 3, 20, replicates=3, epochs=4)
    assert end.seconds(Pace(50.0, 2.0), slots=4) == 4 * 50 + 2 * (2 * 90 + 20 + 20)


def test_what_is_recorded_is_kept(budget):
    ledger = budget().ledger
    ledger.note_run(SweepRun(1000.0, 1500.0, 0.5), "2 trials")
    record = ledger.begin()
    assert [(run.started_at, run.seconds, run.gpus) for run in record.runs] == [
        (NOW - 600, 0.0, 1.0),
        (1000.0, 500.0, 0.5),
    ]
    ledger.end()
    assert Ledger(ledger.storage, "later").begin().runs == record.runs
    assert (record.machine, record.undone) == ("L4", "2 trials")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{money: 3}", "a budget in money needs the price of a GPU-hour"),
        ("{gpu_hours: 2}", "budget.gpu_hours is about GPUs, but resources.gpus_per_rank is 0"),
        ("{deadline: 2026-12-01 18:00:00}", "timezone"),
    ],
)
def test_budgets_that_are_refused(make_spec, section, said):
    with pytest.raises(InputError, match=said):
        make_spec(budget=f"budget: {section}")


def test_a_deadline_as_yaml_has_it(make_spec):
    spec = make_spec(budget="budget: {deadline: 2026-12-01T18:00:00+01:00}")
    assert spec.budget.deadline == datetime(2026, 12, 1, 17, tzinfo=UTC)
    assert spec.budget.is_set
