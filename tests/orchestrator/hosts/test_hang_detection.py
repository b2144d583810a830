"""Hung hosts are told from slow ones by what they finish, not by what they take."""

import pytest

from jobs.training.packing import Progress
from orchestrator.hosts.hang_detection import PATIENCE, HostWatch

HANG = 60.0


@pytest.fixture
def watch():
    return HostWatch(HANG)


def test_one_piece_of_work_for_too_long_is_hung(watch):
    watch.hear(Progress(7, "training", HANG))
    assert not watch.is_hung(now=0.0)
    watch.hear(Progress(7, "training", HANG + 1))
    assert watch.is_hung(now=0.0)


def test_slow_is_not_hung(watch):
    """Each piece takes most of the time allowed, and then the next one does."""
    for turns in range(50):
        watch.hear(Progress(turns, "training", 0.9 * HANG))
        assert not watch.is_hung(now=0.0)


def test_who_has_taken_long_before_may_take_longer(watch):
    watch.hear(Progress(1, "training", 50.0))
    watch.hear(Progress(2, "training", 0.1))
    assert watch.limit == PATIENCE * 50.0
    watch.hear(Progress(2, "training", 19 * 50.0))
    assert not watch.is_hung(now=0.0)
    watch.hear(Progress(2, "training", 21 * 50.0))
    assert watch.is_hung(now=0.0)


def test_a_piece_that_has_not_ended_excuses_nothing(watch):
    """Else the longer it hung, the longer it might."""
    for seconds in (10.0, 30.0, 50.0):
        watch.hear(Progress(1, "training", seconds))
    assert watch.limit == HANG


def test_idle_is_not_hung(watch):
    watch.hear(Progress(3, "", 0.0))
    watch.ask(now=0.0)
    watch.hear(Progress(3, "", 0.0))
    assert not watch.is_hung(now=1e9)


def test_silence_for_too_long_is_hung(watch):
    watch.ask(now=100.0)
    assert not watch.is_hung(now=100.0 + HANG)
    assert watch.is_hung(now=101.0 + HANG)
    watch.hear(Progress(1, "training", 1.0))
    assert not watch.is_hung(now=1e9)


def test_a_restarted_host_begins_anew_but_stays_known_as_slow(watch):
    watch.hear(Progress(1, "training", 50.0))
    watch.hear(Progress(2, "training", 5000.0))
    assert watch.is_hung(now=0.0)
    watch.restart()
    assert not watch.is_hung(now=1e9)
    assert watch.limit == PATIENCE * 50.0
    watch.hear(Progress(0, "", 0.0))
    assert watch.limit == PATIENCE * 50.0
