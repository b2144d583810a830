"""The section on the training clips: what it tells, plays and leaves as text."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.diversity.clips import ClipFeatures, judge_clips, worst
from jobs.diversity.forecast import forecast
from jobs.diversity.summary import summarise
from orchestrator.report.audio import mp3
from orchestrator.report.page import render
from orchestrator.report.report_input import DataReport, Speaker, WorstClip
from orchestrator.report.training_data import (
    POINTS,
    SHOWN_SPEAKERS,
    VARIETY,
    associations,
    variety_rows,
)
from orchestrator.verdict.outcome import GroupVerdict
from orchestrator.verdict.stats import Interval
from tests.orchestrator.report.conftest import flac
from tests.orchestrator.report.test_page import HOSTILE, PREFIX, Page, base64


def made_up(speaker: str, count: int, seed: int, **changes) -> list[ClipFeatures]:
    """Clips as a clean, varied speaker's are, but for ``changes`` of the means."""
    rng = np.random.default_rng(seed)
    spread = {
        "level": (-22.0, 2.5),
        "dynamics": (24.0, 3.0),
        "dnsmos_ovrl": (3.3, 0.3),
        "dnsmos_p808": (3.7, 0.25),
        "wada_snr": (38.0, 8.0),
        "dnsmos_bak": (4.0, 0.1),
        "log2_f0": (7.6, 0.1),
        "f0_sd": (3.0, 0.5),
        "speaking_rate": (14.0, 2.5),
        "centroid_similarity": (0.9, 0.02),
        "duration": (6.0, 1.5),
    }
    spread |= changes
    return [
        ClipFeatures(
            speaker,
            f"Sentence {i} of {speaker}.",
            {name: float(rng.normal(*of)) for name, of in spread.items()},
        )
        for i in range(count)
    ]


def data_of(clips: list[ClipFeatures]) -> DataReport:
    judged = judge_clips(clips)
    return DataReport(
        speakers=[Speaker(s, forecast(s)) for s in summarise(judged, ["Turn left."], 0.117)],
        clips=judged,
        worst=[
            WorstClip(each, f"clip-{each.place}.flac", flac(200 + each.place, 500))
            for each in worst(judged)
        ],
    )


@pytest.fixture(scope="module")
def clips() -> list[ClipFeatures]:
    noisy = made_up("Bo", 60, 2, dnsmos_ovrl=(2.2, 0.4), dnsmos_bak=(3.2, 0.4), wada_snr=(14, 8))
    dull = made_up("Cy", 40, 3, level=(-20, 0.3), f0_sd=(1.0, 0.1), speaking_rate=(14, 0.4))
    silent = ClipFeatures("Cy", "Nothing.", {"duration": 2.0}, {"level": "silence", "f0_sd": "x"})
    return [*made_up("Ada", 150, 1), *noisy, *dull, silent]


@pytest.fixture(scope="module")
def report(make_report, clips):
    """With little but its training clips to show."""
    return replace(make_report(trials={"solo": (8, 1e-4, 0.4)}), clips={}, data=data_of(clips))


@pytest.fixture(scope="module")
def html(report):
    return render(report)


@pytest.fixture(scope="module")
def page(html):
    page = Page(html)
    assert not page.open, "every element is closed"
    return page


def test_each_speaker_has_a_forecast_and_its_lights(page, report):
    outcomes = {s.summary.speaker: s.forecast.outcome for s in report.data.speakers}
    assert outcomes == {"Ada": "clean and diverse", "Bo": "dirty", "Cy": "clean but narrow"}
    assert page.says("1. Ada: ● clean and diverse")
    assert page.says("2. Bo: ✕ dirty")
    assert page.says("3. Cy: ▲ clean but narrow")
    for speaker in report.data.speakers:
        assert page.says(speaker.forecast.sentence)
        for light in speaker.forecast.lights:
            assert page.says(light.measured)
    assert page.says("nothing was decided by it")
    assert page.says("not calibrated")


def test_a_light_is_a_symbol_and_a_word(page, report):
    lights = [light for s in report.data.speakers for light in s.forecast.lights]
    assert {light.colour for light in lights} == {"green", "amber", "red"}
    cells = [cell for cell in page.of("td", "data") if cell.get("class", "").startswith("light")]
    assert len(cells) == len(lights) == 3 * 8
    for symbol in ("● green", "▲ amber", "✕ red"):
        assert page.says(symbol)


def test_the_worst_clips_play_with_their_faults(page, report):
    players = [audio["src"] for audio in page.of("audio", "data")]
    encoded = [base64.b64encode(mp3(clip.flac)).decode() for clip in report.data.worst]
    assert players == [PREFIX + sound for sound in encoded]
    assert len(players) == 10
    for clip in report.data.worst:
        assert page.says(clip.name)
        assert all(page.says(f"✕ {fault}") for fault in clip.judged.faults)


def test_there_is_one_picture_of_all_clips(page):
    (svg,) = page.pictures["data"]
    assert svg["aria-label"].endswith("of 251 training clips")


def test_a_clip_that_has_gone_leaves_a_note(report):
    gone = [replace(clip, flac=None) for clip in report.data.worst]
    page = Page(render(replace(report, data=replace(report.data, worst=gone))))
    assert page.of("audio", "data") == []
    assert page.says("no audio kept")


def test_hostile_names_and_texts_stay_text(report):
    clips = [replace(clip, speaker=HOSTILE, text=HOSTILE) for clip in made_up("x", 12, 4)]
    clips[3] = replace(clips[3], failures={"level": HOSTILE})
    data = data_of(clips)
    named = replace(data, worst=[replace(clip, name=HOSTILE) for clip in data.worst])
    page = Page(render(replace(report, data=named)))
    assert len(page.of("script")) == 1
    assert page.says(f"{HOSTILE}: ")
    assert page.says(f"✕ not measured: {HOSTILE}")
    assert f"Lights of {HOSTILE}" in {tag.get("aria-label") for tag in page.of("div", "data")}


def test_without_a_measurement_the_reason_is_told(report):
    page = Page(render(replace(report, data="ScorerUnavailable: no <b>speechmos</b>")))
    assert page.says("is not known: ScorerUnavailable: no <b>speechmos</b>")
    assert page.of("audio", "data") == []


def test_many_clips_and_speakers_leave_the_page_small(report):
    clips = [clip for i in range(9) for clip in made_up(f"speaker {i}", 400, i)]
    data = data_of(clips)
    html, before = render(replace(report, data=data)), render(replace(report, data=""))
    page = Page(html)
    assert page.says("3 more speakers, with less speech")
    assert len([s for s in page.of("details", "data")]) == SHOWN_SPEAKERS
    (svg,) = page.pictures["data"]
    assert int(svg["aria-label"].split()[-3]) <= POINTS + 10
    assert len(html) - len(before) < 600_000


def test_one_clip_of_one_speaker_is_enough(report):
    page = Page(render(replace(report, data=data_of(made_up("solo", 1, 5)))))
    assert page.says("solo: ▲ clean but narrow")
    assert page.says("○ cannot be told")
    assert len(page.of("audio", "data")) == 1


def test_the_same_data_gives_the_same_page(report, html, clips):
    assert html == render(replace(report, data=data_of(clips)))


def with_gains(verdict, gains):
    """The verdict with a group for each speaker, whose gain is the one given."""
    groups = tuple(
        GroupVerdict(
            "speaker",
            name,
            None,
            "INCONCLUSIVE",
            None,
            gain and Interval(gain, gain, gain, 8),
            None,
            (),
        )
        for name, gain in gains.items()
    )
    return replace(verdict, groups=groups)


def test_a_speakers_variety_is_beside_its_gain(report):
    verdict = with_gains(report.verdict, {"Ada": 0.25, "Bo": -0.125, "Nobody": 0.5, "Cy": None})
    rows = variety_rows(report.data, verdict)
    assert [(row[0], row[-2], row[-1]) for row in rows] == [
        ("Ada", "+0.25", "+0.25 to +0.25"),
        ("Bo", "-0.125", "-0.125 to -0.125"),
    ]
    assert {len(row) for row in rows} == {len(VARIETY) + 3}
    assert {
        (each.rho, each.interval, each.speakers)
        for each in associations(report.data, verdict, 0.95)
    } == {(None, None, 2)}
    page = Page(render(replace(report, verdict=verdict)))
    assert page.says("Diversity and gain")
    assert page.says("clean minutes undefined (n = 2)")
    assert not Page(render(report)).says("Diversity and gain"), "there is one verdict alone"


def test_variety_and_gain_are_correlated_over_speakers(report):
    """By hand: minutes and gains in the orders 1 2 3 4 5 and 2 1 3 4 5 have rho 0.9."""
    clips = [clip for n in range(5) for clip in made_up(f"s{n}", 20 * (n + 1), n)]
    data, gains = data_of(clips), dict(zip("01234", (0.2, 0.1, 0.3, 0.4, 0.5), strict=True))
    verdict = with_gains(report.verdict, {f"s{n}": gain for n, gain in gains.items()})
    first = associations(data, verdict, 0.95)[0]
    assert (first.measure, first.speakers, first.rho) == ("clean minutes", 5, pytest.approx(0.9))
    reach = 1.959964 * ((1 + 0.9**2 / 2) / 2) ** 0.5
    wanted = np.tanh(np.arctanh(0.9) + reach * np.array([-1, 1]))
    assert first.interval == pytest.approx(tuple(wanted), abs=1e-5)
    ordered = with_gains(report.verdict, {f"s{n}": n / 10 + 0.1 for n in range(5)})
    assert associations(data, ordered, 0.95)[0].rho == pytest.approx(1.0)
    assert associations(data, ordered, 0.95)[0].interval is None
