"""Hung hosts are told from slow ones by what they finish, not by what they take."""

import pytest

from jobs.training.packing import HostProgress
from orchestrator.hosts.hang_detection import SLOW_FACTOR, HangDetector

HANG = 60.0


@pytest.fixture
def detector():
    return HangDetector(HANG)


def test_one_piece_of_work_for_too_long_is_hung(detector):
    detector.got_answer(HostProgress(7, "training", HANG))
    assert not detector.is_hung(now=0.0)
    detector.got_answer(HostProgress(7, "training", HANG + 1))
    assert detector.is_hung(now=0.0)


def test_slow_is_not_hung(detector):
    """Each piece takes most of the time allowed, and then the next one does."""
    for finished in range(50):
        detector.got_answer(HostProgress(finished, "training", 0.9 * HANG))
        assert not detector.is_hung(now=0.0)


def test_who_has_taken_long_before_may_take_longer(detector):
    detector.got_answer(HostProgress(1, "training", 50.0))
    detector.got_answer(HostProgress(2, "training", 0.1))
    assert detector.limit == SLOW_FACTOR * 50.0
    detector.got_answer(HostProgress(2, "training", 19 * 50.0))
    assert not detector.is_hung(now=0.0)
    detector.got_answer(HostProgress(2, "training", 21 * 50.0))
    assert detector.is_hung(now=0.0)


def test_a_piece_that_has_not_ended_excuses_nothing(detector):
    """Else the longer it hung, the longer it might."""
    for seconds in (10.0, 30.0, 50.0):
        detector.got_answer(HostProgress(1, "training", seconds))
    assert detector.limit == HANG


def test_idle_is_not_hung(detector):
    detector.got_answer(HostProgress(3, "", 0.0))
    detector.sent_heartbeat(now=0.0)
    detector.got_answer(HostProgress(3, "", 0.0))
    assert not detector.is_hung(now=1e9)


def test_silence_for_too_long_is_hung(detector):
    detector.sent_heartbeat(now=100.0)
    assert not detector.is_hung(now=100.0 + HANG)
    assert detector.is_hung(now=101.0 + HANG)
    detector.got_answer(HostProgress(1, "training", 1.0))
    assert not detector.is_hung(now=1e9)


def test_a_restarted_host_begins_anew_but_stays_known_as_slow(detector):
    detector.got_answer(HostProgress(1, "training", 50.0))
    detector.got_answer(HostProgress(2, "training", 5000.0))
    assert detector.is_hung(now=0.0)
    detector.host_restarted()
    assert not detector.is_hung(now=1e9)
    assert detector.limit == SLOW_FACTOR * 50.0
    detector.got_answer(HostProgress(0, "", 0.0))
    assert detector.limit == SLOW_FACTOR * 50.0
