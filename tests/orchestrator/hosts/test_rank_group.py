"""A rank that fails while the others wait for it in a collective."""

import threading
from types import SimpleNamespace

import pytest

from jobs.training.epochs import DivergedError
from orchestrator.hosts.rank_group import PeerActor, RankGroup


def peer(host: object) -> PeerActor:
    made = PeerActor.__new__(PeerActor)
    made._rank, made._host = 1, host
    made._failed, made._reason = threading.Event(), ""
    return made


def step(host) -> str:
    return host()


def fail():
    raise ValueError("another batch than the others")


def diverge():
    raise DivergedError("the loss must be finite, got nan")


def test_a_rank_above_0_says_at_once_why_it_failed():
    failed = peer(fail)
    with pytest.raises(ValueError, match="another batch"):
        failed.call(step, (), {})
    reason = failed.wait_for_failure()
    assert reason == "step failed on rank 1: ValueError('another batch than the others')"


def test_what_every_rank_raises_alike_is_no_failure_of_one():
    both = peer(diverge)
    both.call(step, (), {})
    assert not both._failed.is_set()


@pytest.fixture
def group(monkeypatch):
    """Rank 0 with a peer whose call returns only when it is let."""
    made = RankGroup.__new__(RankGroup)
    told: list[str] = []
    awaited: list[str] = []
    monkeypatch.setattr("ray.get", awaited.append)
    made._end = told.append
    remote = SimpleNamespace(remote=lambda *arguments: "the peer's call")
    made._peers = [SimpleNamespace(call=remote, wait_for_failure=remote)]
    return made, told, awaited


def test_rank_0_does_not_wait_for_ranks_that_wait_for_it(group):
    made, told, awaited = group
    made._host = fail
    with pytest.raises(ValueError, match="another batch"):
        made._on_every_rank(step)()
    assert told == ["step failed on a rank: ValueError('another batch than the others')"]
    assert awaited == []


def test_rank_0_hears_of_the_failure_while_it_waits_itself(group, monkeypatch):
    made, told, _ = group
    monkeypatch.setattr("ray.get", lambda reference: "step failed on rank 1")
    made._watch(made._peers[0])
    assert told == ["step failed on rank 1"]
