"""Who is not let in is told nothing; who is let in can do nothing else."""

import json
from dataclasses import replace

import pytest

from orchestrator.listening_room.app import LARGEST_BODY
from orchestrator.listening_room.entrance import RATER_COOKIE
from orchestrator.listening_room.plans import ClipName
from tests.orchestrator.listening_room.conftest import Room
from tests.simulated_raters import SimulatedRater, prefers, read_page

JSON = {"content-type": "application/json"}
PATHS = ("", "clip/0/a", "organiser")


def refused(reply, room):
    """403, the same page whatever was tried, and nothing of the test in it."""
    assert reply.status == 403
    for word in (room.study.sweep, room.variant, room.study.id, *room.texts.values()):
        assert word not in reply.text
    return reply.text


def test_without_a_token_every_door_is_shut_and_says_the_same(room):
    pages = {refused(room.browser().get(path), room) for path in PATHS}
    assert len(pages) == 1


@pytest.mark.parametrize("token", ["x", "x" * 43, "é" * 8, "a" * 5000, "%00", "'; drop table x;--"])
def test_a_forged_token_is_refused(room, token):
    browser = room.browser()
    refused(browser.ask("GET", "", raw=f"/join/{token}"), room)
    assert not browser.cookies
    browser.cookies[RATER_COOKIE] = token.encode("ascii", "replace").decode()
    for path in PATHS:
        refused(browser.get(path), room)


def test_an_expired_token_is_refused_as_a_forged_one_is(room):
    browser = room.rater("ann")
    room.clock.wait(31 * 86400)
    assert refused(browser.get(""), room) == refused(room.browser().get("join/forged"), room)


def test_a_token_of_another_study_is_refused(room):
    other = replace(room.study, id="other")
    room.store.add(other, "elsewhere", {ClipName("base", "c0"): (b"", 1.0)})
    token = room.store.invite(other, "ann")
    refused(room.browser().get(f"join/{token}"), room)
    browser = room.browser()
    browser.cookies[RATER_COOKIE] = token
    refused(browser.get(""), room)
    refused(browser.get("clip/0/a"), room)


def test_a_rater_is_no_organiser_and_an_organiser_no_rater(room):
    refused(room.rater("ann").get("organiser"), room)
    organiser = room.browser()
    organiser.get(f"join/{room.organiser}")
    refused(organiser.get(""), room)


def test_a_raters_token_is_not_taken_from_an_address(room):
    token = room.store.invite(room.study, "ann")
    refused(room.browser().get(f"?{RATER_COOKIE}={token}"), room)
    refused(room.browser().get(f"?token={token}"), room)


@pytest.mark.parametrize(
    "path",
    [
        "/file/../app.py",
        "/file/..%2fapp.py",
        "/file/%2e%2e/app.py",
        "/file//etc/passwd",
        "/file/room.html",
        "/clip/0/../../organiser",
        "/clip/-1/a",
        "/clip/0/base",
        "/clip/99999/a",
        "/docs",
        "/openapi.json",
        "/redoc",
        "/../listening.db",
    ],
)
def test_a_path_leads_nowhere_else(room, path):
    reply = room.rater("ann").ask("GET", "", raw=path)
    assert reply.status in (403, 404, 422)
    assert b"import" not in reply.body
    assert b"root:" not in reply.body


def answer_to(shown, **changes):
    return json.dumps(
        {
            "item": shown.item,
            "version": 0,
            "answer": 1,
            "submission": "a" * 32,
            "seconds": 2.0,
            "plays": 2,
            **changes,
        }
    ).encode()


def test_another_sites_page_cannot_answer(room):
    browser = room.rater("ann")
    shown = read_page(browser.get("").text)
    room.clock.wait(60)
    body = answer_to(shown)
    for headers in (
        JSON,  # no token of the page
        {**JSON, "x-csrf-token": "0" * 64},
        {"content-type": "text/plain", "x-csrf-token": shown.csrf},
        {"content-type": "application/x-www-form-urlencoded"},
    ):
        assert browser.post("answers", body, headers).status in (403, 422)
    other = read_page(room.rater("ben").get("").text)
    refused(browser.post("answers", body, {**JSON, "x-csrf-token": other.csrf}), room)
    (ann, _) = room.store.raters(room.study.id)
    assert not room.store.log(ann.id)
    assert browser.post("answers", body, {**JSON, "x-csrf-token": shown.csrf}).status == 200


def test_another_sites_page_cannot_enrol(room):
    organiser = room.browser()
    organiser.get(f"join/{room.organiser}")
    body = json.dumps({"name": "mallory"}).encode()
    refused(organiser.post("organiser/raters", body, JSON), room)
    assert not room.store.raters(room.study.id)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_not_read(room, declared):
    browser = room.rater("ann")
    shown = read_page(browser.get("").text)
    body = b"{" + b" " * (4 * LARGEST_BODY)
    headers = {**JSON, "x-csrf-token": shown.csrf}
    if declared:
        headers["content-length"] = str(len(body))
    assert browser.post("answers", body, headers).status == 413


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": 4},
        {"answer": "1"},
        {"answer": True},
        {"item": -1},
        {"item": 9999},
        {"version": -1},
        {"submission": "short"},
        {"submission": "x" * 65},
        {"submission": "<script>alert(1)</script>"},
        {"seconds": -1},
        {"plays": 10**9},
        {"system": "base"},
    ],
)
def test_what_no_page_sends_is_refused(room, changes):
    browser = room.rater("ann")
    shown = read_page(browser.get("").text)
    room.clock.wait(60)
    headers = {**JSON, "x-csrf-token": shown.csrf}
    assert browser.post("answers", answer_to(shown, **changes), headers).status == 422
    for body in (b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"item": NaN}'):
        assert browser.post("answers", body, headers).status == 422


def test_script_in_a_sentence_or_a_name_stays_text(room):
    script = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    hostile = Room(room.store, room.study, room.ledger, room.clock)
    hostile.texts.update(dict.fromkeys(hostile.texts, script))
    name = "<script>alert(2)</script>"
    page = hostile.rater(name).get("").text
    organiser = hostile.browser().get(f"join/{hostile.organiser}").text
    for text in (page, organiser):
        assert "<script>alert" not in text
        assert "<img src=x" not in text
    assert "&lt;script&gt;alert(&#34;x&#34;)" in page
    assert "&lt;script&gt;alert(2)" in organiser


def test_pages_forbid_what_they_do_not_need_and_send_no_referrer(room):
    token = room.store.invite(room.study, "ann")
    browser = room.browser()
    join = browser.ask("GET", f"join/{token}")
    assert join.status == 303
    assert token not in join.headers["location"]
    cookie = join.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    page = browser.get("")
    for reply in (join, page, browser.get("clip/0/a"), room.browser().get("")):
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["x-content-type-options"] == "nosniff"
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert "server" not in reply.headers
    assert token not in page.text


def test_a_cookie_that_was_planted_is_replaced_and_lets_nobody_in(room):
    browser = room.browser()
    browser.cookies[RATER_COOKIE] = "planted" * 6
    refused(browser.get(""), room)
    browser.get(f"join/{room.store.invite(room.study, 'ann')}")
    assert browser.cookies[RATER_COOKIE] != "planted" * 6
    SimulatedRater(browser, prefers(1), wait=room.clock.wait).run(1)
    stranger = room.browser()
    stranger.cookies[RATER_COOKIE] = "planted" * 6
    refused(stranger.get(""), room)
