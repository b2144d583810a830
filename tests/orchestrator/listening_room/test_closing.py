"""The end of a test: unblinded once, and everything that follows from the sweep's storage."""

import csv
import io
import json
from random import Random

import numpy as np
import pytest
from _panels import WINNER, pending_verdict, protocol_of

from benchmarks.panels import World
from cluster.storage.base import open_storage
from jobs.problems import InputError
from orchestrator.ledger import REPORT_FILE, Ledger
from orchestrator.listening_room import closing
from orchestrator.listening_room.closing import LOG_FILE, STUDY_FILE, close, conclude, keep
from orchestrator.listening_room.exchange import bring, from_webmushra
from orchestrator.listening_room.opening import enter
from orchestrator.listening_room.store import Answer
from orchestrator.records import runs
from orchestrator.release.finished_sweep import read_finished
from orchestrator.scores.from_files import read_ratings
from orchestrator.scores.stored_ratings import (
    RATINGS_FILE,
    StoredTest,
    after_listeners,
    heard,
    is_settled,
    stored_tests,
    verdict_of_metrics,
)
from orchestrator.spec.stored import stored_protocol, stored_verdict
from orchestrator.verdict.listening.languages import panels
from orchestrator.verdict.listening.ratings import Ratings
from tests.orchestrator.listening_room.conftest import Room, Served
from tests.simulated_raters import HttpBrowser, SimulatedRater, join_path, prefers, sleeps

PAGE = closing._page


@pytest.fixture
def held(ledger, clock, room, monkeypatch):
    """A test whose sweep may be written to; MLflow is told of by name, and pages are short."""
    told = []
    monkeypatch.setattr(closing, "rebuild", lambda *at: told.append(at[1]))
    monkeypatch.setattr(closing, "_page", lambda _, verdict: verdict.sentence)
    held = Room(room.store, room.study, ledger, clock)
    held.told = told
    return held


def rate(room, *opinions, hears_traps=True, name="r"):
    """What raters of these opinions answer, straight into the store."""
    for place, opinion in enumerate(opinions):
        rater = room.store.rater_of(room.store.invite(room.study, f"{name}{place}"))
        rng = Random(place)
        for state in room.store.states(rater.id):
            item = state.item
            if item.kind == "trap" or item.system in ("", "anchor"):
                answer = item.expected if hears_traps and item.expected else 3
            else:
                answer = opinion(rng, 150.0 if item.second.system == room.variant else -150.0)
            submission = f"{rater.id:08d}{state.at:08d}"
            given = {"at": state.at, "version": 1, "answer": answer, "submission": submission}
            room.store.answer(rater, Answer(**given, seconds=3.2, plays=2, agent="agent"))


def rate_over_http(room, *opinions):
    """The same through the real web server."""
    served = Served(room)
    for place, opinion in enumerate(opinions):
        browser = HttpBrowser(served.door.address)
        assert browser.get(join_path(served.link(f"r{place}"))).status == 200
        SimulatedRater(browser, opinion, place, room.clock.wait).run()
        browser.close()
    served.stop()


def end(room):
    return close(room.store, room.study, room.ledger, print)


OPINIONS = pytest.mark.parametrize(
    ("opinion", "verdict"), [(prefers(2, 0.4), "PROMOTE"), (prefers(0), "DO-NOT-FINE-TUNE")]
)


@OPINIONS
def test_listeners_decide(held, opinion, verdict):
    rate(held, opinion, opinion, opinion)
    found = end(held).verdict
    assert found.verdict == verdict
    assert stored_verdict(held.ledger) == found
    assert held.ledger.read_text(REPORT_FILE) == found.sentence
    assert held.told == ["small"]
    if verdict == "PROMOTE":
        assert read_finished(held.ledger).variant(None).id == held.variant


@pytest.mark.full
@OPINIONS
def test_through_the_web_server_listeners_decide_and_all_follows(
    held, monkeypatch, opinion, verdict
):
    monkeypatch.setattr(closing, "_page", PAGE)
    before = '<section id="data">kept</section><section id="protocol">kept too</section>'
    held.ledger.write_text(REPORT_FILE, before)
    rate_over_http(held, opinion, opinion, opinion)
    found = end(held).verdict
    assert found.verdict == verdict
    assert stored_verdict(held.ledger) == found
    assert held.told == ["small"]
    page = held.ledger.read_text(REPORT_FILE)
    assert "Listening test" in page
    assert before.partition("</section>")[0] in page
    assert before.rpartition("<section")[2] in page
    assert "on the scale from −3 to +3" in page
    (report,) = found.listening
    assert (report.raters, report.sentences) == (3, 8)
    assert report.preferred.variant == (24 if verdict == "PROMOTE" else 0)
    if verdict == "PROMOTE":
        assert read_finished(held.ledger).variant(None).id == held.variant


def test_a_closed_test_is_final(held):
    rate(held, *[prefers(2)] * 3)
    first = end(held)
    assert end(held) == first
    assert [test.key for test in stored_tests(held.ledger)] == ["small/listening/0001"]
    with pytest.raises(InputError, match="this one's has been closed"):
        enter(held.store, held.ledger, stored_protocol(held.ledger), None, "en")
    assert held.browser().get("").status == 403
    assert "is over" in held.rater("r0").get("").text


def test_a_process_that_died_at_any_step_ends_the_same(held, monkeypatch):
    rate(held, *[prefers(2)] * 3)
    steps = ["keep", "read_finished", "after_listeners", "_page", "rebuild"]
    for step in steps:
        with monkeypatch.context() as patch:
            patch.setattr(closing, step, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                end(held)
    assert end(held).verdict.verdict == "PROMOTE"
    assert len(stored_tests(held.ledger)) == 1


def test_nobody_rated_so_nothing_is_closed(held):
    held.rater("ann")
    with pytest.raises(InputError, match="nobody has rated"):
        end(held)
    assert not held.store.is_closed(held.study.id)
    assert stored_tests(held.ledger) == []


def test_one_listener_decides_nothing_and_the_sentence_says_so(held):
    rate(held, prefers(2))
    found = end(held).verdict
    assert found.verdict == "PROMOTE-PENDING-LISTENING"
    assert (
        "1 listener over 8 sentences prefers it in 8 and the base in 0, which is one person's "
        "taste and tells nothing of others, where 3 listeners and 8 sentences decide"
    ) in found.sentence
    # Then a panel, which decides by itself.
    protocol = stored_protocol(held.ledger)
    held.study = enter(held.store, held.ledger, protocol, None, "en")
    panel = Room(held.store, held.study, held.ledger, held.clock)
    rate(panel, *[prefers(0)] * 3)
    found = end(panel).verdict
    assert found.verdict == "DO-NOT-FINE-TUNE"
    assert "So far" not in found.sentence
    assert len(stored_tests(held.ledger)) == 2


def test_who_sleeps_does_not_count(held):
    rate(held, *[prefers(2)] * 3)
    rate(held, sleeps, hears_traps=False, name="sleepy")
    (report,) = end(held).verdict.listening
    assert [(each.rater, each.rule) for each in report.excluded] == [("sleepy0", "traps")]


def test_the_files_are_those_that_judge_reads_and_all_answers(held, tmp_path):
    rate(held, *[prefers(2)] * 3)
    key = end(held).key
    path = tmp_path / "ratings.csv"
    path.write_bytes(held.ledger.storage.read_from(key, RATINGS_FILE))
    sentences = {sentence for sentence, _ in held.study.pairs[""]}
    ratings = read_ratings(path, sentences, {held.variant, "base"})
    assert ratings.raters == ("r0", "r1", "r2")
    assert ratings.traps.tolist() == [[2, 0]] * 3
    log = held.ledger.storage.read_from(key, LOG_FILE).decode()
    rows = list(csv.DictReader(io.StringIO(log)))
    assert len(rows) == 3 * 17
    assert {row["kind"] for row in rows} == {"training", "rating", "repeat", "trap"}
    assert len({row["submission"] for row in rows}) == len(rows)


def test_a_name_is_no_formula_in_a_spreadsheet(held):
    rate(held, prefers(1), name='=HYPERLINK("x")')
    text = held.ledger.storage.read_from(end(held).key, RATINGS_FILE).decode()
    assert "\"'=HYPERLINK" in text


def test_the_sweep_run_again_says_what_listeners_said(held):
    rate(held, *[prefers(2)] * 3)
    by_metrics = stored_verdict(held.ledger)
    found = end(held).verdict
    assert verdict_of_metrics(held.ledger) == by_metrics
    assert after_listeners(held.ledger, by_metrics, stored_protocol(held.ledger)) == found


def test_mlflow_has_what_listeners_said(held):
    rate(held, *[prefers(2)] * 3)
    end(held)
    content = runs.read_sweep(held.ledger, read_finished(held.ledger).spec)
    values = {metric.key: metric.value for metric in content.summary}
    assert values["listening/difference"] == values["listening/preference"] == 2.0
    assert values["listening/preferred"] == 1.0
    assert values["listening/raters"] == 3
    assert content.tags["voxsweep.verdict"] == "PROMOTE"


def ratings_text(room, score=2):
    lines = ["rater,sentence,system,axis,score"]
    for rater in range(3):
        lines += [
            f"r{rater},{sentence},{variant},preference,{score}"
            for sentence, variant in room.study.pairs[""]
        ]
    return "\n".join(lines) + "\n"


def test_a_test_held_elsewhere_ends_this_one(held, tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(ratings_text(held))
    sweep = read_finished(held.ledger)
    key = bring(sweep, path)
    assert conclude(held.ledger, print).verdict == "PROMOTE"
    assert held.ledger.storage.read_from(key, RATINGS_FILE) == path.read_bytes()
    path.write_text(ratings_text(held, -1))
    with pytest.raises(InputError, match="has been closed"):
        bring(sweep, path)


def mushra(room, base=40, variant=85, more=""):
    lines = ["session_test_id,email,session_uuid,trial_id,rating_stimulus,rating_score,rating_time"]
    lines[0] += ",rating_comment"
    for rater in range(3):
        for sentence, name in room.study.pairs[""]:
            for system, score in (("base", base), (name, variant), ("anchor35", 3)):
                lines.append(f"t,a@b,{rater},{sentence},{system},{score},1200,")
    return "\n".join(lines) + "\n" + more


def test_webmushra_is_read_as_comparisons(held, tmp_path):
    path = tmp_path / "mushra.csv"
    path.write_text(mushra(held))
    bring(read_finished(held.ledger), path)
    found = conclude(held.ledger, print)
    assert found.verdict == "PROMOTE"
    assert found.listening[0].result.difference.mean == 2.0


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("t,a@b,9,c0,{v},101,1,\n", "a score is from 0 to 100, got '101'"),
        ("t,a@b,9,c0,{v},,1,\n", "a score is from 0 to 100, got ''"),
        ("t,a@b,9,nowhere,{v},5,1,\n", "a trial is a prompt of set B, got 'nowhere'"),
        ("t,a@b,9,c0,{v},5,1,\n", "a page has the base"),
        ("t,a@b,0,c0,{v},5,1,\n", "a stimulus is scored once on a page"),
    ],
)
def test_what_webmushra_cannot_have_is_told(held, tmp_path, more, what):
    text = mushra(held, more=more.format(v=held.variant))
    sentences = {sentence for sentence, _ in held.study.pairs[""]}
    with pytest.raises(InputError, match=what):
        from_webmushra(text, tmp_path / "m.csv", sentences, {held.variant, "base"})


def test_a_closed_test_is_written_once_in_s3_too(bucket):
    ledger = Ledger(open_storage("s3://voices/sweeps"), "small")

    def files(test, text):
        return {RATINGS_FILE: text, STUDY_FILE: json.dumps({"id": test})}

    assert keep(ledger, "one", files("one", "first")) == "small/listening/0001"
    assert keep(ledger, "one", files("one", "changed")) == "small/listening/0001"
    assert keep(ledger, "two", files("two", "second")) == "small/listening/0002"
    assert ledger.storage.read_from("small/listening/0001", RATINGS_FILE) == b"first"


def test_a_test_in_which_a_language_was_not_heard_settles_nothing(tmp_path):
    protocol = protocol_of(200, ("km", "ko"))
    verdict = pending_verdict(("km", "ko"))
    world = World(0.6)
    rows = {
        name: World().rows(world.scores(np.random.default_rng(place)), f"{name}-", name)
        for place, name in enumerate(("km", "ko"))
    }
    assert [(panel.group, panel.variant) for panel in panels(verdict, protocol)] == [
        (("language", "km"), WINNER),
        (("language", "ko"), WINNER),
    ]
    half = StoredTest("1", Ratings.build(rows["km"]))
    whole = StoredTest("2", Ratings.build(rows["km"] + rows["ko"]))
    assert not is_settled(half, verdict, protocol)
    assert is_settled(whole, verdict, protocol)
    assert [r.group for r in heard(whole, verdict, protocol).listening] == [
        panel.group for panel in panels(verdict, protocol)
    ]
