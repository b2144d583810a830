"""A test of several finalists: what is opened, heard, and made of it."""

from dataclasses import replace

import pytest

from jobs.problems import InputError
from orchestrator.ledger import VERDICT_FILE
from orchestrator.listening_room import closing
from orchestrator.listening_room.closing import close
from orchestrator.listening_room.opening import enter
from orchestrator.listening_room.store import Answer
from orchestrator.records import runs
from orchestrator.release.finished_sweep import read_finished
from orchestrator.spec.stored import stored_protocol, stored_verdict
from tests.orchestrator.listening_room.conftest import Room, speak


@pytest.fixture
def two(ledger, monkeypatch):
    """The sweep with a second finalist that the metrics found better; returns its id."""
    monkeypatch.setattr(closing, "rebuild", lambda *_: None)
    monkeypatch.setattr(closing, "_page", lambda _, verdict: verdict.sentence)
    verdict = stored_verdict(ledger)
    (first,) = verdict.confirmed
    other = next(r for r in verdict.rows if r.id not in ("base", first.row.id))
    second = replace(first, row=replace(first.row, id=other.id))
    ledger.write_text(VERDICT_FILE, replace(verdict, confirmed=(first, second)).to_json() + "\n")
    speak(ledger, other.id, [prompt.id for prompt in stored_protocol(ledger).confirmation])
    return other.id


def opened(store, ledger, **how):
    return enter(store, ledger, stored_protocol(ledger), None, "en", **how)


def test_all_finalists_are_heard_or_the_winner_alone(store, ledger, two):
    study = opened(store, ledger)
    winner = stored_verdict(ledger).variant
    assert (study.sentences, study.variants) == (8, 2)
    assert {variant for _, variant in study.pairs[""]} == {winner, two}
    # One person may take part in the panel.
    assert opened(store, ledger, winner_alone=True) == study


def test_a_test_of_the_winner_alone_does_not_become_the_panels(store, ledger, two):
    study = opened(store, ledger, winner_alone=True)
    assert (study.sentences, study.variants) == (8, 1)
    assert opened(store, ledger, winner_alone=True) == study
    with pytest.raises(InputError, match="the open one has the winner alone"):
        opened(store, ledger)


def test_listeners_choose_another_finalist_and_all_follows(store, ledger, clock, two):
    room = Room(store, opened(store, ledger), ledger, clock)
    winner = stored_verdict(ledger).variant
    for name in ("ann", "ben", "eve"):
        rater = store.rater_of(store.invite(room.study, name))
        for state in store.states(rater.id):
            item = state.item
            score = {two: 3, winner: 1}.get(item.system, -3)
            answer = item.expected if item.kind == "trap" else item.score(score)
            given = {"at": state.at, "version": 1, "answer": answer, "seconds": 3.0, "plays": 2}
            submission = f"{rater.id:08d}{state.at:08d}"
            store.answer(rater, Answer(**given, submission=submission, agent=""))
    found = close(store, room.study, ledger, print).verdict
    assert (found.verdict, found.variant, found.runner_up) == ("PROMOTE", two, winner)
    assert [(r.variant, r.raters, r.sentences) for r in found.listening] == [
        (winner, 3, 8),
        (two, 3, 8),
    ]
    assert read_finished(ledger).variant(None).id == two
    metrics = {metric.key: metric.value for metric in runs._listening(found, 0)}
    assert metrics["listening/difference"] == 3.0
    assert metrics[f"listening/{winner}/difference"] == 1.0
