"""Leases that nobody renews come to an end."""

import pytest

from jobs.training.epochs import SlotGoneError
from orchestrator.tuning.leases import Grant
from orchestrator.tuning.terms import LeaseTerms


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def grant(lease: str) -> Grant:
    return Grant(lease, "t", "t/1", host=0, alone=False)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def terms(clock):
    terms = LeaseTerms(10.0, clock)
    terms.begin(grant("a"))
    terms.begin(grant("b"))
    return terms


def test_a_lease_lapses_unless_it_is_renewed(terms, clock):
    clock.now += 9.0
    assert terms.end_lapsed() == []
    terms.renew(["a"])
    clock.now += 9.0
    assert terms.end_lapsed() == ["b"]
    assert terms.served() == [grant("a")]
    clock.now += 1.0
    assert terms.end_lapsed() == ["a"]
    assert terms.end_lapsed() == []


def test_only_a_lease_in_force_is_served(terms):
    terms.check("a")
    assert terms.end("a")
    assert not terms.end("a")
    with pytest.raises(SlotGoneError, match="lease a was ended"):
        terms.check("a")
    with pytest.raises(SlotGoneError):
        terms.check("never begun")


def test_renewing_brings_no_lease_back(terms):
    terms.end("a")
    terms.renew(["a", "never begun"])
    assert terms.served() == [grant("b")]
