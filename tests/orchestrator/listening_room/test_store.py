"""An answer is committed once, whatever a browser repeats; what was accepted stays in the log."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from jobs.problems import InputError
from orchestrator.listening_room.opening import enter
from orchestrator.listening_room.plans import ClipName
from orchestrator.listening_room.store import Answer, RefusedAnswer, StudyStore, digest
from orchestrator.listening_room.study import labels_for
from orchestrator.spec.stored import stored_protocol

ID = "a" * 32


def give(room, rater, at=0, version=1, answer=1, submission=ID):
    given = {"at": at, "version": version, "answer": answer, "submission": submission}
    room.store.answer(rater, Answer(**given, seconds=2.5, plays=2, agent="agent"))


def enrolled(room, name="ann"):
    return room.store.rater_of(room.store.invite(room.study, name))


def test_the_same_submission_again_is_one_answer(room):
    rater = enrolled(room)
    for _ in range(3):
        give(room, rater)
    assert room.store.states(rater.id)[0].version == 1
    assert len(room.store.log(rater.id)) == 1


def test_a_second_window_that_does_not_know_of_the_first_is_refused(room):
    rater = enrolled(room)
    give(room, rater)
    with pytest.raises(RefusedAnswer, match="stale"):
        give(room, rater, answer=-2, submission="b" * 32)
    assert room.store.states(rater.id)[0].answer == 1


def test_an_answer_can_be_changed_and_both_are_in_the_log(room):
    rater = enrolled(room)
    give(room, rater)
    give(room, rater, version=2, answer=-2, submission="b" * 32)
    state = room.store.states(rater.id)[0]
    assert (state.answer, state.version) == (-2, 2)
    assert [(row.version, row.answer) for row in room.store.log(rater.id)] == [(1, 1), (2, -2)]


def test_a_submission_is_of_one_answer_alone(room):
    ann, ben = enrolled(room), enrolled(room, "ben")
    give(room, ann)
    for rater, at, answer in ((ann, 1, 1), (ann, 0, 2), (ben, 0, 1)):
        with pytest.raises(RefusedAnswer, match="stale"):
            give(room, rater, at=at, answer=answer)
    assert not room.store.log(ben.id)


def test_of_many_windows_at_once_one_counts(room):
    rater = enrolled(room)

    def answer(i):
        try:
            give(room, rater, answer=i % 3, submission=f"{i:032d}")
        except RefusedAnswer:
            return 0
        return 1

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(answer, range(16))) == 1
    assert len(room.store.log(rater.id)) == 1


def test_nothing_is_taken_when_the_study_is_frozen_and_it_freezes_once(room):
    rater = enrolled(room)
    give(room, rater)
    when = room.store.freeze(room.study.id)
    room.clock.wait(10)
    assert room.store.freeze(room.study.id) == when
    give(room, rater)  # what was acknowledged is acknowledged again
    with pytest.raises(RefusedAnswer, match="closed"):
        give(room, rater, at=1, submission="b" * 32)


def test_a_plan_is_fixed_at_enrolment_and_kept_with_a_new_token(room):
    token = room.store.invite(room.study, " ann  b ")
    rater = room.store.rater_of(token)
    assert rater.name == "ann b"
    give(room, rater)
    again = room.store.invite(room.study, "ann b")
    assert room.store.rater_of(token) is None
    assert room.store.rater_of(again) == rater
    assert room.store.states(rater.id)[0].answer == 1
    assert len(room.store.raters(room.study.id)) == 1


def test_tokens_expire_and_are_not_kept(room, tmp_path):
    token = room.store.invite(room.study, "ann")
    room.clock.wait(29 * 86400)
    assert room.store.rater_of(token)
    room.clock.wait(2 * 86400)
    assert room.store.rater_of(token) is None
    for path in tmp_path.glob("listening.db*"):
        assert token.encode() not in path.read_bytes()
    with sqlite3.connect(tmp_path / "listening.db") as db:
        assert db.execute("select token from listening_raters").fetchone() == (digest(token),)
        assert db.execute("pragma journal_mode").fetchone() == ("wal",)
    db.close()


@pytest.mark.parametrize("name", ["", "  ", "x" * 81])
def test_a_rater_has_a_name(room, name):
    with pytest.raises(ValueError, match="1 to 80"):
        room.store.invite(room.study, name)


def test_the_open_study_goes_on_and_another_mode_is_refused(room):
    protocol = stored_protocol(room.ledger)
    assert enter(room.store, room.ledger, protocol, None, "ko") == room.study
    with pytest.raises(InputError, match="the open test has mode cmos"):
        enter(room.store, room.ledger, protocol, "mos", "en")


@pytest.mark.parametrize(
    "address", ["mysql://a/b", "postgresql://ann:secret@host/db", "listening.db"]
)
def test_an_address_is_a_database_without_a_password(address):
    with pytest.raises(InputError) as caught:
        StudyStore(address)
    assert "secret" not in str(caught.value)


@pytest.mark.postgres
def test_the_same_in_postgresql(postgres, room):
    store = StudyStore(postgres.create_database())
    sounds = {
        clip: (room.store.clip(room.study.id, clip), 1.0)
        for item in room.store.states(enrolled(room).id)
        for clip in item.item.clips
    }
    store.add(room.study, "here", sounds)
    room.store = store
    for test in (
        test_the_same_submission_again_is_one_answer,
        test_of_many_windows_at_once_one_counts,
    ):
        with store._write() as db:
            for table in ("log", "answers", "items", "raters"):
                db.exec_driver_sql(f"delete from listening_{table}")
        test(room)
    store.close()


def test_a_rater_of_one_language_hears_it_alone_and_reads_it_where_there_are_labels(store, room):
    ((_, variant), *_) = pairs = room.study.pairs[""]
    study = replace(
        room.study,
        id="two",
        pairs={"km": pairs[:4], "de": pairs[4:]},
        training={"km": [("c0", variant)], "de": [("c5", variant)]},
    )
    store.add(study, "here", {ClipName("base", "c0"): (b"", 1.0)})
    for name, languages, labels in (
        ("ann", ["km"], "km"),
        ("ben", ["de"], "en"),
        ("eve", [], "en"),
    ):
        rater = store.rater_of(store.invite(study, name, languages))
        heard = {s.item.sentence for s in store.states(rater.id) if s.item.kind == "rating"}
        of = languages or ["km", "de"]
        assert heard == {sentence for each in of for sentence, _ in study.pairs[each]}
        assert labels_for(study, rater.languages) == labels
    with pytest.raises(ValueError, match="one of the study's"):
        store.invite(study, "zoe", ["ko"])
