"""Several finalists before one panel: whom it confirms, at which level, and whom it chooses."""

from dataclasses import replace

import numpy as np
import pytest
from _panels import SEED, WINNER, pending_verdict, protocol_of

from orchestrator.verdict.listening import finalists
from orchestrator.verdict.listening.finalists import hear_finalists, to_hear
from orchestrator.verdict.listening.languages import apply_listening_test
from orchestrator.verdict.listening.ratings import PREFERENCE, Rating, Ratings

OTHER, REFUSED = "other", "refused"
PROTOCOL = protocol_of(400)


@pytest.fixture
def pending():
    """Two finalists are better by the metrics, and one is not."""
    verdict = pending_verdict((), (OTHER, WINNER, REFUSED))
    *better, last = verdict.confirmed
    confirmed = (*better, replace(last, finding="undecided"))
    return replace(verdict, confirmed=confirmed, runner_up=REFUSED)


def panel(raters=8, sentences=20, **gains):
    """A panel that compares these with the base; the ear's noise is each pair's own."""
    rng = np.random.default_rng(SEED)
    rows = []
    for system, gain in gains.items():
        scores = gain + rng.normal(0, 0.2, (raters, 1)) + rng.normal(0, 0.7, (raters, sentences))
        rows += [
            Rating(f"r{r}", f"b{s:02d}", system, PREFERENCE, int(np.clip(round(score), -3, 3)))
            for (r, s), score in np.ndenumerate(scores)
        ]
    return Ratings.build(rows)


def test_only_what_the_metrics_found_better_is_heard_and_the_winner_first(pending):
    assert to_hear(pending) == (WINNER, OTHER)
    assert to_hear(replace(pending, variant=None)) == ()
    by_language = pending_verdict(("km", "ko"))
    assert to_hear(replace(by_language, confirmed=pending.confirmed)) == ()


def test_the_winner_stays_where_listeners_do_not_tell_them_apart(pending):
    after = apply_listening_test(pending, panel(**{WINNER: 1.0, OTHER: 1.1}), PROTOCOL)
    assert (after.verdict, after.variant, after.runner_up) == ("PROMOTE", WINNER, REFUSED)
    assert [report.variant for report in after.listening] == [WINNER, OTHER]
    assert after.sentence.startswith("Promote it.")


@pytest.mark.parametrize("gain", [0.6, 0.0])
def test_listeners_choose_another(pending, gain):
    after = apply_listening_test(pending, panel(**{WINNER: gain, OTHER: 2.0}), PROTOCOL)
    assert (after.verdict, after.variant, after.runner_up) == ("PROMOTE", OTHER, WINNER)
    standings = {each.id: each.standing for each in after.rows}
    assert standings == {OTHER: "winner", WINNER: "passed", REFUSED: "passed"}
    (reason,) = next(each.reasons for each in after.rows if each.id == WINNER)
    assert reason == f"listeners chose {OTHER}"
    assert after.sentence.startswith(f"Promote {OTHER}, which listeners chose. {WINNER}: 8 list")
    assert f"{OTHER}: 8 listeners" in after.sentence
    assert after.sentence.endswith(f"The metrics said: {pending.sentence}")


def test_what_the_metrics_did_not_find_better_is_not_promoted_by_ear(pending):
    after = apply_listening_test(pending, panel(**{WINNER: 1.0, REFUSED: 3.0}), PROTOCOL)
    assert (after.verdict, after.variant) == ("PROMOTE", WINNER)
    assert [report.variant for report in after.listening] == [WINNER]


def test_without_the_winner_no_other_finalist_decides(pending):
    with pytest.raises(ValueError, match=WINNER):
        apply_listening_test(pending, panel(**{OTHER: 2.0}), PROTOCOL)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ({WINNER: -1.0, OTHER: -1.0}, "REGRESSION"),
        ({WINNER: -1.0, OTHER: -0.15}, "DO-NOT-FINE-TUNE"),
        ({WINNER: -1.0, OTHER: 0.12}, "PROMOTE-PENDING-LISTENING"),
    ],
)
def test_the_promotion_is_refused_where_every_finalist_is(pending, gains, verdict):
    after = apply_listening_test(pending, panel(sentences=40, **gains), protocol_of(400, (), 40))
    assert after.verdict == verdict
    assert after.variant == (WINNER if verdict.startswith("PROMOTE") else None)


def test_levels_are_holms(pending, monkeypatch):
    """The first is confirmed at a half of the level, and leaves the whole to the other."""
    levels = []
    judge = finalists.hear

    def noted(ratings, variant, protocol):
        levels.append((variant, round(1 - protocol.confidence, 4)))
        return judge(ratings, variant, protocol)

    monkeypatch.setattr(finalists, "hear", noted)
    reports = hear_finalists(panel(**{WINNER: 0.1, OTHER: 2.0}), pending, PROTOCOL)
    assert levels == [(WINNER, 0.025), (OTHER, 0.025), (WINNER, 0.05)]
    assert [(r.variant, round(r.confidence, 3)) for r in reports] == [
        (WINNER, 0.95),
        (OTHER, 0.975),
    ]
