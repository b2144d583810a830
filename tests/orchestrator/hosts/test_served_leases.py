"""Leases that nobody renews come to an end."""

import pytest

from jobs.training.epochs import SlotGoneError
from orchestrator.hosts.leases import SlotLease
from orchestrator.hosts.served_leases import HostBrokenError, ServedLeases


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def lease(lease: str) -> SlotLease:
    return SlotLease(lease, "t", "t/1", host=0, alone=False)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def leases(clock):
    leases = ServedLeases(10.0, clock)
    leases.start(lease("a"), leases.read_clock())
    leases.start(lease("b"), leases.read_clock())
    return leases


def test_a_lease_lapses_unless_it_is_renewed(leases, clock):
    clock.now += 9.0
    assert leases.expire() == []
    leases.renew(["a"], leases.read_clock())
    clock.now += 9.0
    assert leases.expire() == ["b"]
    assert leases.served() == [lease("a")]
    clock.now += 1.0
    assert leases.expire() == ["a"]
    assert leases.expire() == []


def test_only_a_lease_in_force_is_served(leases):
    leases.check("a")
    assert leases.end("a")
    assert not leases.end("a")
    with pytest.raises(SlotGoneError, match="lease a was ended"):
        leases.check("a")
    with pytest.raises(SlotGoneError):
        leases.check("never begun")


def test_renewing_brings_no_lease_back(leases):
    leases.end("a")
    leases.renew(["a", "never begun"], leases.read_clock())
    assert leases.served() == [lease("b")]


def test_a_lease_is_over_at_its_moment_and_not_when_somebody_looks(leases, clock):
    """A process that was stopped wakes up in the middle of what it did."""
    clock.now += 10.0
    with pytest.raises(SlotGoneError, match="not renewed"):
        leases.check("a")


def test_a_term_begins_when_the_reading_was_given_out_however_late_the_renewal_comes(leases, clock):
    reading = leases.read_clock()
    clock.now += 8.0
    leases.renew(["a"], reading)
    clock.now += 1.0
    leases.check("a")
    leases.renew(["a"], leases.read_clock())
    leases.renew(["a"], reading)  # one that was on its way for long shortens nothing
    clock.now += 9.0
    leases.check("a")
    with pytest.raises(SlotGoneError):
        leases.check("b")


def test_what_was_meant_for_an_earlier_process_is_refused(leases, clock):
    before = ServedLeases(10.0, clock).read_clock()
    with pytest.raises(HostBrokenError, match="started another"):
        leases.start(lease("c"), before)
    with pytest.raises(HostBrokenError):
        leases.renew(["a"], before)
    assert len(leases.served()) == 2
