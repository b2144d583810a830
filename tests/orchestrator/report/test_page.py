"""The page stands alone, says what it should, and plays the right audio."""

import base64
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from orchestrator.report.material import Failure
from orchestrator.report.page import render
from orchestrator.verdict.judge import judge
from orchestrator.verdict.protocol import Prompt
from orchestrator.verdict.table import BASE, ScoreTable

HOSTILE = '"><script src="https://evil.example/x.js">alert(1)</script>&{{ 7*7 }}'
PICTURES = ("loss", "rank-rate", "effects", "learning", "scale")
SECTIONS = ("verdict", "listen", "variants", *PICTURES, "failures", "protocol")
VOID = {"meta", "link", "br", "hr", "img", "input", "source"}


class Page(HTMLParser):
    """What is on a page: tags and attributes, text, sections in order, the svgs in each."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.sections, self.pictures, self.open = [], [], [], {}, []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.sections.append(attributes["id"])
        if tag == "svg":
            self.pictures.setdefault(self.sections[-1], []).append(attributes)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def says(self, words):
        return words in " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def report(make_report):
    return make_report()


@pytest.fixture(scope="module")
def page(report):
    page = Page(render(report))
    assert not page.open, "every element is closed"
    return page


def test_the_sections_come_in_order_with_one_picture_each(page):
    assert tuple(page.sections) == SECTIONS
    assert {section: len(found) for section, found in page.pictures.items()} == dict.fromkeys(
        PICTURES, 1
    )


def test_every_picture_says_what_it_shows(page):
    for found in page.pictures.values():
        assert found[0]["role"] == "img"
        assert found[0]["aria-label"]


def test_nothing_is_asked_of_any_server(page, report):
    loaded = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
    ]
    assert len(loaded) > 24
    assert all(value.startswith(("data:", "#")) for value in loaded)
    html = render(report)
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})


def test_the_verdict_comes_first_with_its_badge(page, report):
    assert page.says("Promote, pending listening")
    assert page.says(report.verdict.sentence)


def test_each_prompt_plays_in_base_winner_and_runner_up(page, report):
    columns = (BASE, report.verdict.variant, report.verdict.runner_up)
    expected = [
        "data:audio/flac;base64," + base64.b64encode(report.clips[name][prompt.id]).decode()
        for prompt in report.protocol.prompts
        for name in columns
    ]
    assert [audio["src"] for audio in page.of("audio")] == expected
    assert all(audio["preload"] == "none" for audio in page.of("audio"))


def test_a_clip_that_was_not_kept_leaves_a_note(report):
    kept = {name: dict(clips) for name, clips in report.clips.items()}
    del kept[BASE]["p0"]
    page = Page(render(replace(report, clips=kept)))
    assert len(page.of("audio")) == 23
    assert page.says("no audio kept")


def test_a_page_without_audio_says_so(report):
    page = Page(render(replace(report, clips={})))
    assert page.of("audio") == []
    assert page.says("No clips were kept")


def test_hostile_text_stays_text(report):
    prompts = (Prompt(id="p0", text=HOSTILE), *report.protocol.prompts[1:])
    hostile = replace(
        report,
        sweep=HOSTILE,
        protocol=report.protocol.model_copy(update={"prompts": prompts}),
        failures=[Failure(HOSTILE, HOSTILE)],
        facts=[(HOSTILE, HOSTILE)],
        curves=[replace(report.curves[0], status="failed", reason=HOSTILE)],
    )
    html = render(hostile)
    assert "<script" not in html
    page = Page(html)
    assert page.says(HOSTILE)
    assert page.of("script") == []
    assert {HOSTILE, f"Base: {HOSTILE}"} & {a.get("aria-label") for a in page.of("audio")}


def test_every_variant_is_in_the_table_with_its_reasons(page, report):
    rows = [attributes["class"] for attributes in page.of("tr") if "class" in attributes]
    assert len(rows) == len(report.verdict.rows)
    assert rows.count("winner") == 1
    assert {"base", "winner", "passed", "rejected"} == set(rows)
    for row in report.verdict.rows:
        assert all(page.says(reason) for reason in row.reasons)


def test_failures_protocol_and_facts_are_told(page, report):
    assert page.says("loss is not a number at step 212")
    assert page.says(report.protocol.digest())
    assert page.says("1.2 GB")


def test_the_same_report_gives_the_same_page(report, make_report):
    assert render(report) == render(report) == render(make_report())


def test_ids_are_used_once_and_references_resolve(report):
    page = Page(render(report))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        reference = attributes.get("xlink:href", "#" + ids[0])
        assert reference.removeprefix("#") in ids


def test_without_a_winner_the_base_meets_the_best_of_the_trials(make_report):
    report = make_report(trials={"52c9f4": (64, 4e-4, -0.3)})
    page = Page(render(report))
    assert report.verdict.verdict == "DO-NOT-FINE-TUNE"
    assert page.says("Do not fine-tune")
    assert page.says("Best of the trials")
    assert len(page.of("audio")) == 16
    assert tuple(page.sections) == SECTIONS


def test_many_learning_rates_share_columns(make_report):
    trials = {f"t{i}": (8 * 2 ** (i % 3), 1e-5 * 1.6**i, 0.02 * i) for i in range(9)}
    page = Page(render(make_report(trials=trials)))
    assert page.says("to 1.9e-5")


def test_one_trial_of_one_variant_is_enough(make_report, base_table):
    report = make_report(trials={"solo": (8, 1e-4, 0.4)})
    table = base_table(report, "solo-e1-s1.0")
    alone = replace(report, table=table, verdict=judge(table, report.protocol), curves=[])
    page = Page(render(alone))
    assert page.says("No trial reported a loss.")
    assert set(page.pictures) == set(PICTURES) - {"learning"}


def test_no_verdict_still_makes_a_page(make_report, base_table):
    report = make_report()
    table = base_table(report)
    page = Page(render(replace(report, table=table, verdict=judge(table, report.protocol))))
    assert page.says("No verdict")
    assert tuple(page.sections) == SECTIONS


@pytest.fixture
def base_table():
    """The report's table cut down to the base and the variants named."""

    def cut(report, *names):
        kept = (BASE, *names)
        return ScoreTable(
            variants={name: report.table.variants[name] for name in kept},
            metrics=report.table.metrics,
            prompts=report.table.prompts,
            keys=report.table.keys,
            values={name: report.table.values[name] for name in kept},
            missing={name: report.table.missing[name] for name in kept},
        )

    return cut
