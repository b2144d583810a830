"""A command within its budget, over it, and one that fails."""

import sys

import pytest

from tests import tier_budget

NOTHING = [sys.executable, "-c", ""]
FAILS = [sys.executable, "-c", "raise SystemExit(3)"]


@pytest.fixture(autouse=True)
def _speed_of_the_reference(monkeypatch):
    monkeypatch.setattr(tier_budget, "measure_speed", lambda: tier_budget.REFERENCE)


def test_within_the_budget_the_exit_code_is_the_commands():
    assert tier_budget.main(NOTHING) == 0
    assert tier_budget.main(FAILS) == 3


def test_over_the_budget_by_half_it_fails(monkeypatch, capfd):
    monkeypatch.setattr(tier_budget, "BUDGET", 1e-9)
    assert tier_budget.main(NOTHING) == 1
    assert tier_budget.main(FAILS) == 3
    assert capfd.readouterr().out.count("more than 1.5 times the budget") == 2


def test_a_slow_machine_has_a_larger_budget(monkeypatch, capfd):
    monkeypatch.setattr(tier_budget, "measure_speed", lambda: 2 * tier_budget.REFERENCE)
    assert tier_budget.main(NOTHING) == 0
    assert f"budget of {2 * tier_budget.BUDGET:.0f} s here" in capfd.readouterr().out


def test_the_work_is_the_same_every_time():
    assert tier_budget.work(2) == tier_budget.work(2) != tier_budget.work(3)
