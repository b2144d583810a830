"""What raters and the organiser see, and what nobody is told."""

import io
import json
import wave

import pytest

from orchestrator.listening_room.labels import LANGUAGES, labels
from orchestrator.listening_room.opening import enter
from orchestrator.spec.stored import stored_protocol
from tests.orchestrator.listening_room.conftest import END, Room
from tests.simulated_raters import SimulatedRater, prefers, read_page

JSON = {"content-type": "application/json"}


def simulated(room, name, points=2, **more):
    return SimulatedRater(room.rater(name), prefers(points), wait=room.clock.wait, **more)


def test_a_rater_goes_from_practice_to_the_end(room):
    rater = simulated(room, "ann")
    assert "Practice" in rater.browser.get("").text
    items = rater.run()
    (enrolled,) = room.store.raters(room.study.id)
    states = room.store.states(enrolled.id)
    assert items == len(states) == 3 + 8 + 4 + 2
    for state in states:
        if state.item.kind in ("rating", "repeat"):
            assert state.item.score(state.answer) == 2
        if state.item.kind == "trap":
            assert state.answer == state.item.expected
    assert "Done" in rater.browser.get("").text


def test_closing_the_tab_and_another_browser_go_on_where_it_was(room):
    simulated(room, "ann").run(5)
    again = simulated(room, "ann")  # a new link
    assert read_page(again.browser.get("").text).item == 5
    again.run()
    (enrolled,) = room.store.raters(room.study.id)
    assert all(state.version == 1 for state in room.store.states(enrolled.id))


def test_an_answer_before_the_clips_can_have_been_heard_is_refused(room):
    rater = simulated(room, "ann")
    shown = read_page(rater.browser.get("").text)
    assert rater.answer(shown, 1).json() == {"refused": "listen_first"}
    room.clock.wait(60)
    assert rater.answer(shown, 1).status == 200


def test_an_answer_to_an_item_that_was_never_shown_is_refused(room):
    rater = simulated(room, "ann")
    shown = read_page(rater.browser.get("").text)
    room.clock.wait(60)
    shown.item = 3
    assert rater.answer(shown, 1).status == 409
    assert rater.browser.get("clip/3/a").status == 404


def test_two_windows_count_once(room):
    rater = simulated(room, "ann")
    shown = read_page(rater.browser.get("").text)
    room.clock.wait(60)
    assert rater.answer(shown, 1).status == 200
    assert rater.answer(shown, -1).json() == {"refused": "stale"}


def test_a_rater_can_go_back_and_correct(room):
    rater = simulated(room, "ann")
    rater.run(2)
    page = rater.browser.get("?item=1").text
    shown = read_page(page)
    assert (shown.item, shown.version) == (1, 1)
    assert " checked" in page
    assert rater.answer(shown, 0).status == 200
    assert read_page(rater.browser.get("").text).item == 2
    assert read_page(rater.browser.get("?item=9").text).item == 2


def test_nothing_tells_the_system(room):
    """Every page, clip and header of a whole test, twice: with the systems' names nowhere."""
    browser = room.rater("ann")
    rater = SimulatedRater(browser, prefers(2), wait=room.clock.wait)
    lengths, texts, telling = (
        set(),
        [],
        {room.variant, room.variant.split("-")[0], "anchor", "trap", "repeat"},
    )
    telling = {word.encode() for word in telling}
    while True:
        page = browser.get("")
        shown = read_page(page.text)
        replies = [page]
        if shown:
            text = page.text.partition('class="sentence">')[2].partition("</p>")[0]
            texts.append(text.rpartition("</span>")[2].strip())
            replies += [browser.get(f"clip/{shown.item}/{side}") for side in shown.sides]
            for clip in replies[1:]:
                with wave.open(io.BytesIO(clip.body)) as file:
                    assert len(clip.body) == 44 + 2 * file.getnframes()
                    lengths.add((file.getframerate(), file.getsampwidth(), file.getnchannels()))
        for reply in replies:
            whole = reply.body + json.dumps(reply.headers).encode()
            found = [word for word in telling if word in whole.lower()]
            assert not found, found
            assert b"base" not in reply.body.replace(b"base-uri", b"").lower()
            assert reply.headers["cache-control"] == "no-store"
            assert "etag" not in reply.headers
        if not shown:
            break
        rater.run(1)
    assert lengths == {(16_000, 2, 1)}
    # A trap shows a sentence like any other item.
    assert len(texts) == 17
    assert set(texts) <= set(room.texts.values())


def test_two_raters_hear_other_orders(room):
    logs = []
    for name in ("ann", "ben"):
        simulated(room, name).run(6)
        rater = room.store.raters(room.study.id)[-1]
        logs.append([state.item.clips for state in room.store.states(rater.id)])
    assert logs[0] != logs[1]


def test_the_organiser_sees_progress_and_no_preference(room):
    simulated(room, "ann").run(10)
    simulated(room, "ben", -1, seed=3).run(6)
    organiser = room.browser()
    page = organiser.get(f"join/{room.organiser}").text
    assert page.count("10 of 17") == 1
    assert page.count("6 of 17") == 1
    assert "alpha" in page
    assert room.variant not in page
    assert "0 of 1" in page
    assert f"<code>{END}</code>" in page


def test_the_organiser_enrols_a_rater_who_then_rates(room):
    organiser = room.browser()
    page = organiser.get(f"join/{room.organiser}").text
    csrf = page.partition('name="csrf" content="')[2].partition('"')[0]
    body = json.dumps({"name": "ann", "languages": []}).encode()
    reply = organiser.post("organiser/raters", body, {**JSON, "x-csrf-token": csrf})
    assert reply.status == 200
    rater = room.browser()
    assert rater.get(reply.json()["join"]).status == 200
    assert SimulatedRater(rater, prefers(1), wait=room.clock.wait).run(2) == 2
    bad = json.dumps({"name": "ben", "languages": ["km"]}).encode()
    assert organiser.post("organiser/raters", bad, {**JSON, "x-csrf-token": csrf}).status == 422


@pytest.mark.parametrize("stripped", [True, False])
def test_a_reverse_proxy_may_have_it_under_a_path(store, ledger, clock, stripped):
    study = enter(store, ledger, stored_protocol(ledger), None, "en")
    room = Room(store, study, ledger, clock, root_path="/listen/here", stripped=stripped)
    browser = room.browser()
    reply = browser.ask("GET", f"join/{store.invite(study, 'ann')}")
    assert "path=/listen/here/;" in reply.headers["set-cookie"].lower()
    assert reply.headers["location"] == "../"
    page = browser.get("").text
    assert 'href="file/room.css"' in page
    assert '"/' not in page.replace('"/>', "")
    assert browser.get("file/room.js").status == 200
    assert SimulatedRater(browser, prefers(1), wait=clock.wait).run(1) == 1


@pytest.mark.full
def test_opinions_are_asked_axis_by_axis(store, ledger, clock):
    study = enter(store, ledger, stored_protocol(ledger), "mos", "ko")
    room = Room(store, study, ledger, clock)
    browser = room.rater("ann")
    questions = []
    while shown := read_page((page := browser.get("")).text):
        assert shown.sides == "a"
        assert '<html lang="ko">' in page.text
        assert "매우 좋음" in page.text
        question = page.text.partition('<h1 id="question">')[2].partition("</h1>")[0]
        if question not in questions:
            questions.append(question)
        clock.wait(60)
        body = {"item": shown.item, "version": 0, "answer": 4, "seconds": 1, "plays": 1}
        body["submission"] = f"{shown.item:032d}"
        headers = {**JSON, "x-csrf-token": shown.csrf}
        assert browser.post("answers", json.dumps(body).encode(), headers).status == 200
    assert questions == [*labels("ko")["question"].values()][1:]
    (enrolled,) = store.raters(study.id)
    assert len(store.states(enrolled.id)) == 3 + 3 * (16 + 4 + 2)


def test_an_opinion_is_of_one_clip(store, ledger, clock):
    study = enter(store, ledger, stored_protocol(ledger), "mos", "ko")
    page = Room(store, study, ledger, clock).rater("ann").get("").text
    assert read_page(page).sides == "a"
    assert '<html lang="ko">' in page
    assert labels("ko")["question"]["naturalness"] in page
    assert page.count('type="radio"') == 5


def test_every_language_has_the_same_words():
    shape = {name: type(text) for name, text in labels("en").items()}
    for language in LANGUAGES:
        words = labels(language)
        assert {name: type(text) for name, text in words.items()} == shape
        assert (len(words["comparison"]), len(words["opinion"]), len(words["intro"])) == (7, 5, 4)
        assert words["question"].keys() == labels("en")["question"].keys()
        assert words["item"].format(at=3, all=9).count("3") == 1


def test_the_page_has_roles_and_labels(room):
    page = room.rater("ann").get("").text
    for part in (
        'role="radiogroup" aria-labelledby="question"',
        'role="status" aria-live="polite"',
        "<progress ",
        '<html lang="en">',
        "<noscript>",
    ):
        assert part in page
