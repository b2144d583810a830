"""What a search is told of a variant."""

import pytest

from orchestrator.verdict.screen import objective
from orchestrator.verdict.standing import FAILED_CLIPS, standing


@pytest.fixture
def heard(make_table, make_protocol):
    protocol = make_protocol()
    table = make_table(
        protocol,
        good={"p808": [3.3, 3.4]},
        terrible={"p808": [1.0]},
        slightly_off={"p808": [5.0], "speaker_similarity": [0.87]},
        endless={"p808": [5.0], "end_of_speech_failure": [1.0]},
    )
    names = ("good", "terrible", "slightly_off", "endless")
    found = {name: standing(table, name, protocol) for name in names}
    assert all(found[name].objective == objective(table, name, protocol) for name in names)
    return found


def test_what_keeps_everything_promises_its_gain(heard):
    for name in ("good", "terrible"):
        assert heard[name].promise == heard[name].objective
        assert all(value <= 0 for value in heard[name].constraints.values())


def test_what_breaks_little_for_much_promises_more_than_what_breaks_nothing(heard):
    """Which an objective never grants."""
    assert heard["slightly_off"].objective < heard["terrible"].objective
    assert heard["slightly_off"].promise > heard["good"].promise
    assert heard["slightly_off"].constraints["speaker_similarity"] == pytest.approx(0.01)
    assert heard["slightly_off"].measured["speaker_similarity"] == pytest.approx(0.87)


def test_clips_that_fail_are_counted_and_cost_the_promise(heard):
    assert heard["endless"].constraints[FAILED_CLIPS] > 0
    assert heard["endless"].promise < heard["terrible"].promise


def test_gates_are_no_measurement(heard):
    assert "end_of_speech_failure" not in heard["good"].measured
    assert heard["good"].measured["p808"] == pytest.approx(3.35)
