"""The pages in a real browser: Debian's Chromium, headless."""

import shutil

import pytest

from tests.orchestrator.listening_room.conftest import Served
from tests.simulated_raters import BEEP, PITCH, count_beeps, heard_pitch

CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.browser, pytest.mark.full]


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs Debian's Chromium: apt-get install chromium")
    options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def served(room):
    served = Served(room)
    # Clips play as long as they play; the server's clock says that they have been heard.
    room.clock.time += 1e6
    room.store.now = lambda: room.clock.time
    yield served
    served.stop()


def hear(page, room, name):
    """Play an item with the space bar, and say what is right by ear."""
    form = page.locator("#room")
    item, sides = form.get_attribute("data-item"), form.get_attribute("data-sides")
    for side in sides:
        page.wait_for_selector(f"[data-side={side}]:enabled")
    for side in sides:
        page.keyboard.press("Space")
        page.wait_for_selector(f"[data-side={side}].heard")
    room.clock.time += 60
    rater = next(each for each in room.store.raters(room.study.id) if each.name == name)
    planned = room.store.states(rater.id)[int(item)].item
    wavs = [room.store.clip(room.study.id, clip) for clip in planned.clips]
    pitches = [heard_pitch(wav) for wav in wavs]
    if abs(pitches[0] - BEEP) < 20:
        return count_beeps(wavs[0])
    return 6 if abs(pitches[-1] - PITCH["variant"]) < 20 else 2


def answer(page, key):
    item = at(page)
    page.keyboard.press(str(key))
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#room[data-item='{item}']", state="detached")


def at(page):
    return int(page.locator("#room").get_attribute("data-item"))


def test_a_whole_plan_by_keyboard_with_a_reload_and_a_new_browser_in_the_middle(
    chromium, served, tmp_path
):
    room, context = served.room, chromium.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(served.link("ann"))
    assert "join" not in page.url
    for step in range(17):
        assert at(page) == step
        if step == 4:
            page.reload()
            assert at(page) == 4
        if step == 7:
            kept = context.storage_state()
            context.close()
            context = chromium.new_context(storage_state=kept)
            page = context.new_page()
            page.goto(served.door.address)
            assert at(page) == 7
        answer(page, hear(page, room, "ann"))
    assert page.get_by_role("status").inner_text().startswith("Done.")
    (rater,) = room.store.raters(room.study.id)
    states = room.store.states(rater.id)
    assert all(state.version == 1 for state in states)
    assert {s.item.score(s.answer) for s in states if s.item.kind == "rating"} == {2}
    assert all(s.answer == s.item.expected for s in states if s.item.kind == "trap")
    context.close()


def test_nothing_is_answered_before_it_was_heard_and_two_windows_count_once(chromium, served):
    room, context = served.room, chromium.new_context()
    first, second = context.new_page(), context.new_page()
    first.goto(served.link("ann"))
    second.goto(served.door.address)
    first.wait_for_selector("[data-side=a]:enabled")
    first.keyboard.press("6")
    first.keyboard.press("Enter")
    assert first.locator(".status").inner_text() == "Hear every clip to its end first."
    assert first.get_by_role("radio").first.is_disabled()
    for page in (first, second):
        page.bring_to_front()
        hear(page, room, "ann")
    answer(first, 6)
    second.keyboard.press("2")
    second.keyboard.press("Enter")
    second.wait_for_selector("#room[data-item='1']")
    (rater,) = room.store.raters(room.study.id)
    assert [(row.at, row.answer) for row in room.store.log(rater.id)] == [(0, 2)]
    context.close()


def test_a_lost_connection_is_told_and_the_answer_sent_again(chromium, served):
    room, context = served.room, chromium.new_context()
    page = context.new_page()
    page.goto(served.link("ann"))
    hear(page, room, "ann")
    port = served.port
    served.stop()
    page.keyboard.press("5")
    page.keyboard.press("Enter")
    page.get_by_text("No connection.").wait_for()
    served.start(port)
    page.wait_for_selector("#room[data-item='1']")
    (rater,) = room.store.raters(room.study.id)
    assert len(room.store.log(rater.id)) == 1
    context.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_pages_fit_their_width_and_names_are_told_to_a_screen_reader(
    chromium, served, tmp_path, width
):
    context = chromium.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(served.link("ann"))
    page.wait_for_selector("[data-side=b]:enabled")
    page.screenshot(path=tmp_path / f"practice-{width}.png", full_page=True)
    names = [page.get_by_role("button", name=name).count() for name in ("Play A", "Play B", "Next")]
    assert names == [1, 1, 1]
    group = page.get_by_role("radiogroup", name="Which of the two sounds better?")
    assert group.get_by_role("radio").count() == 7
    hear(page, served.room, "ann")
    page.keyboard.press("6")
    page.screenshot(path=tmp_path / f"answered-{width}.png", full_page=True)
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(fits)
    page.goto(f"{served.door.address}join/{served.room.organiser}")
    page.get_by_label("Name").fill("ben")
    page.get_by_role("button", name="Make a link").click()
    page.wait_for_selector(".status code")
    assert "/join/" in page.locator(".status code").inner_text()
    page.screenshot(path=tmp_path / f"organiser-{width}.png", full_page=True)
    assert page.evaluate(fits)
    context.close()
