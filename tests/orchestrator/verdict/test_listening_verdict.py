"""Listeners confirm, refute or leave open what the metrics chose."""

import numpy as np
import pytest

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict.listening import AXES, Rating, Ratings
from orchestrator.verdict.listening_verdict import hear
from orchestrator.verdict.outcome import Verdict

GOOD = {"p808": [3.3, 3.4, 3.35, 3.45]}


@pytest.fixture
def pending(make_verdict, info, speak):
    return make_verdict([info("good")], [*speak(BASE_VARIANT), *speak("good", **GOOD)])


def rated(gain, raters=8, sentences=20, spread=0.0):
    """Ratings of base and ``good``; every ``1 / gain``-th sentence is a point better."""
    rng = np.random.default_rng(0)
    rows = []
    for rater in range(raters):
        for sentence in range(sentences):
            step = np.sign(gain) * (rng.random() < abs(gain))
            step += rng.choice([-1, 1]) if rng.random() < spread else 0
            for system, score in ((BASE_VARIANT, 3), ("good", 3 + int(step))):
                rows += [Rating(f"r{rater}", f"c{sentence}", system, axis, score) for axis in AXES]
    return Ratings.build(rows)


@pytest.mark.parametrize(
    ("gain", "outcome", "variant"),
    [
        (0.5, "PROMOTE", "good"),
        (0.02, "DO-NOT-FINE-TUNE", None),
        (-0.3, "REGRESSION", None),
    ],
)
def test_enough_listeners_decide(pending, make_protocol, gain, outcome, variant):
    verdict = hear(pending, rated(gain), make_protocol())
    assert (verdict.verdict, verdict.variant) == (outcome, variant)
    assert verdict.listening.difference.mean == pytest.approx(gain, abs=0.12)
    assert (verdict.listening.raters, verdict.listening.sentences) == (8, 20)
    assert "8 listeners over 20 sentences" in verdict.sentence
    assert Verdict.from_json(verdict.to_json()) == verdict
    if variant is None:
        assert verdict.runner_up == "good"
        assert f"The metrics said: {pending.sentence}" in verdict.sentence
    else:
        assert "once listeners confirm it" not in verdict.sentence


@pytest.mark.parametrize(("raters", "sentences"), [(7, 20), (8, 19)])
def test_too_few_leave_it_pending(pending, make_protocol, raters, sentences):
    verdict = hear(pending, rated(0.5, raters, sentences), make_protocol())
    assert (verdict.verdict, verdict.variant) == ("PROMOTE-PENDING-LISTENING", "good")
    assert verdict.sentence.startswith(pending.sentence)
    assert "8 listeners and 20 sentences decide" in verdict.sentence


def test_listeners_who_disagree_leave_it_pending(pending, make_protocol):
    verdict = hear(pending, rated(0.12, spread=0.9), make_protocol())
    assert verdict.verdict == "PROMOTE-PENDING-LISTENING"
    assert "decides neither way" in verdict.sentence


def test_without_a_winner_there_is_nothing_to_confirm(make_verdict, make_protocol, info, speak):
    none = make_verdict([info("good")], [*speak(BASE_VARIANT), *speak("good")])
    assert hear(none, rated(0.5), make_protocol()) is none


def test_the_winner_must_have_been_rated(pending, make_protocol):
    other = Ratings.build([Rating("r", "c0", BASE_VARIANT, axis, 3) for axis in AXES])
    with pytest.raises(ValueError, match="got 'good'"):
        hear(pending, other, make_protocol())
