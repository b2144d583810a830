"""Leases that nobody renews come to an end."""

import pytest

from jobs.training.epochs import SlotGoneError
from orchestrator.hosts.lease_terms import LeaseTerms, StrangeStampError
from orchestrator.hosts.leases import Grant


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
    terms.begin(grant("a"), terms.stamp())
    terms.begin(grant("b"), terms.stamp())
    return terms


def test_a_lease_lapses_unless_it_is_renewed(terms, clock):
    clock.now += 9.0
    assert terms.end_lapsed() == []
    terms.renew(["a"], terms.stamp())
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
    terms.renew(["a", "never begun"], terms.stamp())
    assert terms.served() == [grant("b")]


def test_a_lease_is_over_at_its_moment_and_not_when_somebody_looks(terms, clock):
    """A process that was stopped wakes up in the middle of what it did."""
    clock.now += 10.0
    with pytest.raises(SlotGoneError, match="not renewed"):
        terms.check("a")


def test_a_term_begins_when_the_stamp_was_given_out_however_late_the_renewal_comes(terms, clock):
    stamp = terms.stamp()
    clock.now += 8.0
    terms.renew(["a"], stamp)
    clock.now += 1.0
    terms.check("a")
    terms.renew(["a"], terms.stamp())
    terms.renew(["a"], stamp)  # one that was on its way for long shortens nothing
    clock.now += 9.0
    terms.check("a")
    with pytest.raises(SlotGoneError):
        terms.check("b")


def test_what_was_meant_for_an_earlier_process_is_refused(terms, clock):
    before = LeaseTerms(10.0, clock).stamp()
    with pytest.raises(StrangeStampError, match="started another"):
        terms.begin(grant("c"), before)
    with pytest.raises(StrangeStampError):
        terms.renew(["a"], before)
    assert len(terms.served()) == 2
