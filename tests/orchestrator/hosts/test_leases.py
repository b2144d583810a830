"""Leases: who gets which slot. Nothing but decisions, so nothing but calls and answers."""

import pytest

from orchestrator.hosts.leases import FencedError, LeaseTable, SlotLease


def table(*slots: int) -> LeaseTable:
    leases = LeaseTable()
    for host, count in enumerate(slots):
        leases.open_host(host, count)
    return leases


def ask(
    leases: LeaseTable, trial: str, holder: str = "", *, alone: bool = False
) -> SlotLease | None:
    """Ask, and what is granted to the asker at once."""
    holder = holder or f"{trial}/1"
    leases.request(trial, holder, alone=alone)
    granted = {lease.holder: lease for lease in leases.settle().granted}
    return granted.get(holder)


def granted(leases: LeaseTable) -> dict[str, int]:
    return {lease.trial: lease.host for lease in leases.settle().granted}


def end(leases: LeaseTable, lease: SlotLease | None) -> dict[str, int]:
    """Release a lease and have the host detach it; who gets what then."""
    assert lease is not None
    leases.release(lease.id)
    assert leases.settle().detach == [lease]
    leases.mark_detached(lease.id)
    return granted(leases)


def test_the_emptiest_host_comes_first():
    leases = table(2, 2)
    hosts = [ask(leases, trial) for trial in "abcd"]
    assert [lease.host for lease in hosts if lease] == [0, 1, 0, 1]
    assert leases.free == 0
    assert ask(leases, "e") is None
    assert leases.waiting == ["e/1"]


def test_a_slot_goes_on_when_the_host_has_emptied_it():
    leases = table(1)
    a = ask(leases, "a")
    assert ask(leases, "b") is None
    assert a is not None
    leases.release(a.id)
    assert leases.on_host(0) == {}
    assert granted(leases) == {}
    leases.mark_detached(a.id)
    assert granted(leases) == {"b": 0}


def test_who_came_first_is_served_first():
    leases = table(1)
    a = ask(leases, "a")
    ask(leases, "b")
    ask(leases, "c")
    assert end(leases, a) == {"b": 0}


def test_a_newer_holder_fences_the_older_for_good():
    leases = table(2)
    old = ask(leases, "t", "t/1")
    assert old is not None
    assert ask(leases, "t", "t/2") is None  # the old one may be about to commit
    leases.mark_detached(old.id)
    (new,) = leases.settle().granted
    assert leases.on_host(0) == {new.id: "t"}
    with pytest.raises(FencedError):
        leases.request("t", "t/1")
    assert leases.on_host(0) == {new.id: "t"}
    assert old.id != new.id


def test_fencing_detaches_the_older_lease():
    leases = table(2)
    old = ask(leases, "t", "t/1")
    leases.request("t", "t/2")
    actions = leases.settle()
    assert actions.detach == [old]
    assert actions.granted == []
    assert old is not None
    leases.mark_expired(old.id)  # no answer came, but its term is over
    assert [lease.holder for lease in leases.settle().granted] == ["t/2"]
    assert leases.free == 0  # its slot is not
    assert leases.settle().detach == []


def test_a_holder_that_waits_is_fenced_too():
    leases = table(1)
    ask(leases, "a")
    leases.request("t", "t/1")
    leases.request("t", "t/2")
    actions = leases.settle()
    assert actions.fenced == ["t/1"]
    assert leases.waiting == ["t/2"]


def test_asking_again_under_the_same_holder_gives_up_the_lease():
    leases = table(1)
    first = ask(leases, "t")
    leases.request("t", "t/1")
    assert leases.settle().detach == [first]
    assert first is not None
    leases.mark_detached(first.id)
    assert granted(leases) == {"t": 0}


def test_a_reaped_trial_frees_its_slot_and_stays_out():
    leases = table(1)
    lease = ask(leases, "t")
    leases.reap("t")
    assert leases.settle().detach == [lease]
    with pytest.raises(FencedError):
        leases.request("t", "t/1")
    leases.request("t", "t/2")  # somebody takes it up anew


def test_reaping_ends_the_waiting():
    leases = table(1)
    ask(leases, "a")
    ask(leases, "t")
    leases.reap("t")
    assert leases.settle().fenced == ["t/1"]
    assert leases.waiting == []


def test_releasing_twice_frees_one_slot():
    leases = table(1)
    lease = ask(leases, "t")
    end(leases, lease)
    assert lease is not None
    leases.release(lease.id)
    assert leases.settle().detach == []
    assert leases.free == 1


class TestAlone:
    def test_an_empty_host_is_kept_to_itself(self):
        leases = table(2, 2)
        ask(leases, "a")
        alone = ask(leases, "poison", alone=True)
        assert alone is not None
        assert alone.host == 1
        b, c = ask(leases, "b"), ask(leases, "c")
        assert b is not None
        assert b.host == 0
        assert c is None
        assert end(leases, alone) == {"c": 1}

    def test_a_host_runs_empty_for_it(self):
        """Without that, others would come and go for ever and never leave a host empty."""
        leases = table(2)
        a, b = ask(leases, "a"), ask(leases, "b")
        assert ask(leases, "poison", alone=True) is None
        assert ask(leases, "c") is None
        assert end(leases, a) == {}
        assert end(leases, b) == {"poison": 0}

    def test_the_host_that_runs_empty_is_the_one_with_fewest(self):
        leases = table(2, 2)
        for trial in "abc":
            ask(leases, trial)
        assert ask(leases, "poison", alone=True) is None
        d = ask(leases, "d")
        assert d is None  # host 0 is full, host 1 runs empty
        assert leases.free == 1

    def test_a_host_that_opens_empty_serves_it_and_nobody_is_kept_out_for_it(self):
        leases = table(2)
        ask(leases, "a")
        assert ask(leases, "poison", alone=True) is None
        assert ask(leases, "b") is None  # host 0 runs empty
        leases.open_host(1, 2)
        assert granted(leases) == {"poison": 1, "b": 0}

    def test_its_own_lease_does_not_stand_in_its_way(self):
        leases = table(2)
        shared = ask(leases, "poison")
        leases.request("poison", "poison/1", alone=True)
        assert leases.settle().detach == [shared]
        assert shared is not None
        leases.mark_detached(shared.id)
        assert granted(leases) == {"poison": 0}

    def test_two_take_turns(self):
        leases = table(2)
        first = ask(leases, "p", alone=True)
        assert ask(leases, "q", alone=True) is None
        assert end(leases, first) == {"q": 0}

    def test_the_host_is_free_again_when_it_no_longer_waits(self):
        leases = table(2)
        ask(leases, "a")
        ask(leases, "poison", alone=True)
        ask(leases, "b")
        leases.reap("poison")
        assert granted(leases) == {"b": 0}

    def test_a_lost_host_is_not_waited_for(self):
        leases = table(1, 1)
        ask(leases, "a")
        b = ask(leases, "b")
        ask(leases, "poison", alone=True)
        leases.lose_host(0)
        assert end(leases, b) == {"poison": 1}


class TestLostHosts:
    def test_its_leases_are_gone_and_nothing_is_granted_there(self):
        leases = table(1, 1)
        ask(leases, "a")
        ask(leases, "b")
        leases.lose_host(0)
        assert leases.on_host(0) == {}
        assert ask(leases, "c") is None
        leases.open_host(0, 1)
        assert granted(leases) == {"c": 0}

    def test_its_trial_moves_on_under_the_same_holder_when_no_ghost_serves_it(self):
        leases = table(1, 1)
        lost = ask(leases, "a")
        assert lost is not None
        assert leases.lose_host(0) == [lost.id]
        assert ask(leases, "a") is None  # though a slot is free
        other = ask(leases, "b")
        assert other is not None
        end(leases, other)
        leases.mark_expired(lost.id)
        moved = leases.settle().granted
        assert [(lease.holder, lease.host) for lease in moved] == [("a/1", 1)]

    def test_what_was_leaving_it_may_still_be_served(self):
        leases = table(1, 1)
        a = ask(leases, "a")
        assert a is not None
        leases.request("a", "a/2")
        leases.settle()
        assert leases.lose_host(0) == [a.id]
        leases.mark_detached("another")
        assert granted(leases) == {}
        leases.mark_detached(a.id)
        assert granted(leases) == {"a": 1}

    def test_a_trial_that_may_be_served_elsewhere_keeps_no_host_for_itself(self):
        leases = table(1, 1)
        ask(leases, "a")
        leases.lose_host(0)
        assert ask(leases, "a", alone=True) is None
        assert ask(leases, "b") is not None

    def test_what_was_leaving_it_takes_no_slot_when_it_is_back(self):
        leases = table(1)
        a = ask(leases, "a")
        assert a is not None
        leases.release(a.id)
        leases.settle()
        leases.lose_host(0)
        leases.open_host(0, 1)
        assert leases.free == 1


class TestRebuilt:
    """A pool that died left leases on the hosts."""

    def held(self, trial: str = "t", *, alone: bool = False) -> SlotLease:
        return SlotLease(f"lease of {trial}", trial, f"{trial}/1", host=0, alone=alone)

    def test_leases_are_taken_over(self):
        leases = LeaseTable()
        leases.open_host(0, 2, [self.held()])
        assert leases.on_host(0) == {"lease of t": "t"}
        assert leases.free == 1
        end(leases, self.held())
        assert leases.free == 2

    def test_an_older_lease_than_the_trial_asks_for_is_detached(self):
        leases = LeaseTable()
        leases.request("t", "t/2")
        leases.open_host(0, 2, [self.held()])
        actions = leases.settle()
        assert actions.detach == [self.held()]
        assert actions.granted == []
        leases.mark_detached(self.held().id)
        assert [lease.holder for lease in leases.settle().granted] == ["t/2"]

    def test_what_was_released_meanwhile_is_detached(self):
        leases = LeaseTable()
        leases.release("lease of t")
        leases.open_host(0, 2, [self.held()])
        assert leases.settle().detach == [self.held()]

    def test_a_trial_that_ended_meanwhile_is_detached(self):
        leases = LeaseTable()
        leases.reap("t")
        leases.open_host(0, 2, [self.held()])
        assert leases.settle().detach == [self.held()]

    def test_the_newest_holder_is_known_again(self):
        leases = LeaseTable()
        leases.open_host(0, 2, [self.held()])
        leases.request("t", "t/2")
        with pytest.raises(FencedError):
            leases.request("t", "t/1")

    def test_who_is_alone_stays_alone(self):
        leases = LeaseTable()
        leases.open_host(0, 2, [self.held(alone=True)])
        assert ask(leases, "a") is None
