"""The page stands alone, says what it should, and plays the right audio."""

import base64
import hashlib
import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jobs.spec.trial import BASE_VARIANT
from orchestrator.ledger import TrialHistory, TrialResult
from orchestrator.report.audio import mp3
from orchestrator.report.clip_selection import (
    FAILED,
    FAILED_OF_ONE,
    FRESH_PROMPTS,
    GRID_TRIALS,
    select_clips,
)
from orchestrator.report.page import render
from orchestrator.report.report_input import short
from orchestrator.report.scatter_figures import checkpoints, pareto_front, spearman_interval
from orchestrator.report.tables import loss_to_base, rule
from orchestrator.verdict.judge import judge
from orchestrator.verdict.outcome import (
    AxisMeans,
    ExcludedRater,
    FailedClip,
    ListeningReport,
    PanelResult,
    PreferenceCounts,
    RecipeVerdict,
    Replicate,
)
from orchestrator.verdict.protocol import MetricVersion, Omitted, Prompt
from orchestrator.verdict.stats import Interval
from orchestrator.verdict.table import ScoreTable

HOSTILE = '"><script src="https://evil.example/x.js">alert(1)</script>&{{ 7*7 }}'
PICTURES = ("loss", "rank-rate", "effects", "pareto", "learning", "scale")
SECTIONS = (
    *("verdict", "listen", "grid", "confirmed", "variants"),
    *PICTURES,
    *("data", "cost", "failures", "protocol"),
)
PREFIX = "data:audio/mpeg;base64,"
VOID = {"meta", "link", "br", "hr", "img", "input", "source"}


class Page(HTMLParser):
    """What is on a page: tags and attributes, text, sections in order, the svgs in each."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.sections, self.pictures, self.open = [], [], [], {}, []
        self.within, self.scripts = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "section":
            self.sections.append(attributes["id"])
        self.tags.append((tag, attributes))
        self.within.append(self.sections[-1] if self.sections else None)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "svg":
            self.pictures.setdefault(self.sections[-1], []).append(attributes)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.within.append(self.sections[-1] if self.sections else None)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] == "script" else self.text).append(data)

    def of(self, tag, section=None):
        return [
            attributes
            for (name, attributes), within in zip(self.tags, self.within, strict=True)
            if name == tag and section in (None, within)
        ]

    def says(self, words):
        return words in " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def html(report):
    return render(report)


@pytest.fixture(scope="module")
def page(html):
    page = Page(html)
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


def test_nothing_is_asked_of_any_server(page, html):
    loaded = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
    ]
    assert len(loaded) > 24
    assert all(value.startswith(("data:", "#")) for value in loaded)
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert {tag for tag, _ in page.tags}.isdisjoint({"link", "iframe", "object", "base"})


def test_the_one_script_is_the_shipped_one_and_the_only_one_allowed(page):
    (script,), (attributes,) = page.scripts, page.of("script")
    assert script == (Path(render.__code__.co_filename).parent / "page.js").read_text()
    assert attributes == {}
    (policy,) = [meta["content"] for meta in page.of("meta") if "http-equiv" in meta]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert not [name for _, given in page.tags for name in given if name.startswith("on")]


def test_the_verdict_comes_first_with_its_badge(page, report):
    assert page.says("Promote, pending listening")
    assert page.says(report.verdict.sentence)


def embedded(report, variant, prompt):
    return base64.b64encode(mp3(report.clips[variant][prompt])).decode()


def test_each_prompt_plays_in_base_winner_and_runner_up(page, report):
    columns = (BASE_VARIANT, report.verdict.variant, report.verdict.runner_up)
    expected = [
        PREFIX + embedded(report, name, prompt.id)
        for prompt in report.protocol.prompts
        for name in columns
    ]
    players = page.of("audio", "listen")
    assert [audio["src"] for audio in players] == expected
    assert all(audio["preload"] == "none" for audio in players)


def test_the_embedded_sound_is_the_clip_and_a_quarter_of_its_size(report):
    flac = report.clips[BASE_VARIANT]["p0"]
    heard, rate = soundfile.read(io.BytesIO(mp3(flac)))
    original, of_original = soundfile.read(io.BytesIO(flac))
    assert (len(heard), rate) == (len(original), of_original)
    assert np.corrcoef(heard, original)[0, 1] > 0.99
    rng = np.random.default_rng(0)
    noisy = io.BytesIO()
    soundfile.write(noisy, 0.1 * rng.standard_normal(16000), 16000, format="FLAC")
    assert len(mp3(noisy.getvalue())) < len(noisy.getvalue()) / 3


def test_the_grid_has_a_button_for_every_trial_and_scale(page, report):
    chosen = select_clips(report.verdict, report.table, report.protocol)
    buttons = page.of("button", "grid")
    assert len(buttons) == 1 + 6 * 3  # the base, six trials at three scales
    assert all(button["type"] == "button" for button in buttons)
    variants = [BASE_VARIANT, *(variant.id for row in chosen.grid for variant in row)]
    prompts = [prompt.id for prompt in chosen.grid_prompts]
    for button, variant in zip(buttons, variants, strict=True):
        assert button["data-clips"].split(" ") == [embedded(report, variant, p) for p in prompts]
        assert report.table.variants[variant].name in button["aria-label"]
    (winner,) = [button for button in buttons if button["class"] == "winner"]
    assert report.table.variants[report.verdict.variant].name in winner["aria-label"]


def test_the_grid_has_one_player_and_a_choice_of_prompts(page):
    (player,) = page.of("audio", "grid")
    assert player["aria-label"]
    assert "src" not in player
    radios = page.of("input", "grid")
    assert [radio["type"] for radio in radios] == ["radio"] * 3
    assert ["checked" in radio for radio in radios] == [True, False, False]
    assert {radio["name"] for radio in radios} == {"grid-prompt"}
    assert [p for p in page.of("p", "grid") if p.get("role") == "status"]


def test_a_clip_that_was_not_kept_leaves_a_note_and_its_place(report):
    """Of the base only its first prompt is kept."""
    kept = {name: dict(clips) for name, clips in report.clips.items()}
    gone = [prompt for prompt in list(kept[BASE_VARIANT])[1:] if prompt.startswith("p")]
    for prompt in gone:
        del kept[BASE_VARIANT][prompt]
    page = Page(render(replace(report, clips=kept)))
    assert len(page.of("audio", "listen")) == 24 - len(gone)
    assert page.says("no audio kept")
    of_base = page.of("button", "grid")[0]["data-clips"].split(" ")
    assert len(of_base) == 3
    assert of_base.count("-") >= 2


def test_a_page_without_audio_says_so(report):
    page = Page(render(replace(report, clips={})))
    assert page.of("button") == []
    assert not [audio for audio in page.of("audio") if "src" in audio]
    assert page.says("No clips were kept")


@pytest.mark.parametrize("hostile", [HOSTILE, "<script>alert(1)</script>"])
def test_hostile_text_stays_text(report, hostile):
    prompts = tuple(
        prompt.model_copy(update={"text": hostile}) for prompt in report.protocol.prompts
    )
    page = Page(
        render(
            replace(
                report,
                sweep=hostile,
                protocol=report.protocol.model_copy(
                    update={"prompts": prompts, "prompt_set": hostile}
                ),
                facts=[(hostile, hostile)],
                trials=[
                    TrialHistory(
                        replace(report.trials[0].record, id=hostile),
                        report.trials[0].epochs,
                        TrialResult("failed", 3, hostile),
                    )
                ],
            )
        )
    )
    assert len(page.of("script")) == len(page.scripts) == 1
    assert "alert(1)" not in page.scripts[0]
    assert page.says(hostile)
    assert f"Base: {hostile}" in {audio.get("aria-label") for audio in page.of("audio")}


def test_hostile_ids_of_prompts_stay_text(report):
    hostile = "<script>alert(1)</script>"
    of = {"p0": hostile}
    table = replace(
        report.table,
        prompts=tuple(of.get(prompt, prompt) for prompt in report.table.prompts),
        keys=tuple((of.get(prompt, prompt), seed) for prompt, seed in report.table.keys),
    )
    prompts = (
        Prompt(id=hostile, text=report.protocol.prompts[0].text),
        *report.protocol.prompts[1:],
    )
    protocol = report.protocol.model_copy(update={"prompts": prompts})
    clips = {
        name: {of.get(prompt, prompt): flac for prompt, flac in kept.items()}
        for name, kept in report.clips.items()
    }
    verdict = judge(table, None, protocol)
    page = Page(
        render(replace(report, table=table, protocol=protocol, clips=clips, verdict=verdict))
    )
    assert len(page.of("script")) == 1
    assert "alert(1)" not in page.scripts[0]
    assert page.of("audio", "listen")


def test_the_rule_names_what_was_left_out(report):
    omitted = Omitted(name="wavlm_similarity", reason="no <such> model")
    protocol = report.protocol.model_copy(update={"omitted": (omitted,)})
    assert ("left out: wavlm_similarity", "no <such> model") in rule(
        replace(report, protocol=protocol)
    )
    assert not [label for label, _ in rule(report) if label.startswith("left out")]


def test_every_variant_is_in_the_table_with_its_reasons(page, report):
    rows = [
        attributes["class"] for attributes in page.of("tr", "variants") if "class" in attributes
    ]
    assert len(rows) == len(report.verdict.rows)
    assert rows.count("winner") == 1
    assert {"base", "winner", "passed", "rejected"} == set(rows)
    for row in report.verdict.rows:
        assert all(page.says(reason) for reason in row.reasons)


def test_failures_protocol_and_facts_are_told(page, report):
    assert page.says("loss is not a number at step 212")
    assert page.says(report.protocol.digest())
    assert page.says("1.2 GB")
    assert page.of("details", "protocol") == [{}]


def test_failed_clips_play_with_their_reasons(report):
    failed = tuple(FailedClip(f"p{i}", 11, (f"{i}.5 s silence at the end",)) for i in range(5))
    rows = [
        replace(row, failed_clips=failed if row.id == report.verdict.runner_up else ())
        for row in report.verdict.rows
    ]
    verdict = replace(report.verdict, rows=tuple(rows))
    page = Page(render(replace(report, verdict=verdict)))
    assert [audio["src"] for audio in page.of("audio", "failures")] == [
        PREFIX + embedded(report, verdict.runner_up, clip.prompt) for clip in failed[:FAILED_OF_ONE]
    ]
    for clip in failed[:FAILED_OF_ONE]:
        assert page.says(f"✕ {clip.reasons[0]}")
    assert page.says("3 of 5. 2 more are not played here")


def test_a_sweep_plays_few_failed_clips_and_only_those_it_asks_for(report):
    failed = tuple(FailedClip(f"p{i}", 11, ("cut off",)) for i in range(5))
    rows = tuple(replace(row, failed_clips=failed) for row in report.verdict.rows)
    chosen = select_clips(replace(report.verdict, rows=rows), report.table, report.protocol)
    assert len(chosen.failed) == FAILED
    assert [take.variant for take in chosen.failed[::FAILED_OF_ONE]] == list(chosen.compared)
    wanted = chosen.clips()
    assert all(take.clip.prompt in wanted[take.variant] for take in chosen.failed)


def test_costs_add_up(page):
    assert page.says("21 of 24 epochs trained in 0:10:06")
    assert page.says("Stopping at rungs saved 2 epochs.")


def test_finalists_on_fresh_prompts_are_told(page, report):
    rows = (1 + len(report.verdict.confirmed), 1 + FRESH_PROMPTS)
    assert len(page.of("tr", "confirmed")) == sum(rows)
    assert rows[0] > 1
    assert page.says(f"n = {len(report.protocol.confirmation)} prompts")
    assert page.says("on these its level is flattering")


def test_finalists_play_what_they_said_of_set_b(page, report):
    heard = [BASE_VARIANT, *(each.row.id for each in report.verdict.confirmed)]
    (prompts,) = {tuple(p for p in report.clips[name] if p.startswith("c")) for name in heard}
    assert len(prompts) == FRESH_PROMPTS
    played = [tag["src"] for tag in page.of("audio", "confirmed")]
    assert sorted(played) == sorted(
        PREFIX + embedded(report, name, prompt) for name in heard for prompt in prompts
    )


@pytest.fixture(scope="module")
def rich(make_report, report):
    """A shortlist, two languages, counted words, a listening test."""
    protocol = report.protocol
    counted = [
        MetricVersion(name=name, version="1", unit="words", direction=way, low=0, high=99)
        for name, way in (("word_edits", "lower"), ("word_count", "neither"))
    ]
    spoken = protocol.model_copy(
        update={
            "shortlist_after": 4,
            "metrics": (*protocol.metrics, *counted),
            **{
                part: tuple(
                    prompt.model_copy(update={"language": ("en", "ko")[i % 2]})
                    for i, prompt in enumerate(getattr(protocol, part))
                )
                for part in ("prompts", "confirmation")
            },
        }
    )
    made = make_report(
        protocol=spoken,
        group_losses_of=lambda loss: {"language/en": loss - 0.5, "language/ko": 2 * loss},
    )
    without = {"r1": Interval(0.35, 0.0, 0.6, 140), "r2": Interval(0.4, 0.2, 0.6, 140)}
    result = PanelResult(
        difference=Interval(0.4, 0.2, 0.6, 160),
        without=without,
        preference=Interval(0.7, 0.6, 0.8, 160),
        axes=(AxisMeans("prosody", 0.4, 4.1, 3.7), AxisMeans("preference", 1.2, None, None)),
        mos=4.1,
        base_mos=3.7,
        pooled_p=0.003,
        alpha=0.31,
    )
    excluded = (ExcludedRater("r9", "traps", "missed 1 of 2 traps, 0 allowed"),)
    heard = ListeningReport(
        group=("language", "ko"),
        variant=made.verdict.rows[-1].id,
        verdict="PROMOTE-PENDING-LISTENING",
        confidence=0.95,
        raters=8,
        sentences=20,
        excluded=excluded,
        preferred=PreferenceCounts(90, 44, 26),
        turns_on=("r1",),
        result=result,
    )
    unheard = replace(heard, group=("language", "en"), raters=1, sentences=0, result=None)
    return replace(made, verdict=replace(made.verdict, listening=(heard, unheard)))


@pytest.fixture(scope="module")
def rich_page(rich):
    return Page(render(rich))


def test_shortlist_languages_errors_and_listeners_are_told(rich, rich_page):
    page = rich_page
    assert len(rich.verdict.shortlisted) > 3
    assert page.says("The shortlist on all 8 prompts of set A")
    assert page.says("Means over the first 4 prompts of set A")
    for group in rich.verdict.groups:
        own = short(rich.table.variants[group.own])
        assert page.says(f"language {group.name}: {group.verdict} 8 {own}, its own")
    assert page.says("word_error ko")
    assert page.says("8 over 20 sentences")
    assert page.says("0.31: raters hardly agree")
    assert page.says("4.10, the base 3.70, a difference of +0.40")
    assert page.says("+1.20 on the scale from −3 to +3")
    assert page.says("in 90 pairs, the base in 26, neither in 44: 70% (60% to 80%)")
    assert page.says("Listening test: language ko")
    assert page.says("r9 missed 1 of 2 traps, 0 allowed")
    assert page.says("[+0.00, +0.60]: the panel turns on them")
    assert page.says("1 over 0 sentences")
    assert page.says("the best third and the best of each rank, language and speaker go on")


def test_losses_are_told_by_language_for_the_finalists_and_the_lowest(rich, rich_page):
    page = rich_page
    first = rich.table.variants[rich.verdict.confirmed[0].row.id]
    for group in rich.verdict.groups:
        loss = group.loss
        assert loss is not None
        assert rich.table.variants[loss.lowest].lora_scale == 1.0
        own, lowest = (
            v.group_losses[f"language/{group.name}"]
            for v in (first, rich.table.variants[loss.lowest])
        )
        assert lowest == loss.lowest_loss <= own
        assert page.says(f"language {group.name} {own:.3f}")
        assert page.says(
            f"{lowest:.3f} {short(rich.table.variants[loss.lowest])} "
            f"{loss.lowest_rank} of {loss.variants}"
        )


def test_losses_are_told_as_differences_to_the_base(rich, rich_page):
    assert loss_to_base(rich) == []
    assert not rich_page.says("Loss against the base")
    figures = {
        "clip_mean": 2.0,
        "to_base": -0.25,
        "to_base_se": 0.0125,
        "to_base.language.ko": 0.5,
        "to_base_se.language.ko": 0.25,
    }
    trials = [
        replace(trial, epochs=[replace(e, validation_figures=figures) for e in trial.epochs])
        for trial in rich.trials
    ]
    paired = replace(rich, trials=trials)
    finalists = len(rich.verdict.confirmed)
    assert loss_to_base(paired) == [
        ("all", *["-0.2500 ± 0.0125"] * finalists),
        ("language ko", *["+0.5000 ± 0.2500"] * finalists),
    ]
    page = Page(render(paired))
    assert page.says("Loss against the base")
    assert page.says("language ko +0.5000 ± 0.2500")


def test_a_sweep_of_one_voice_has_no_losses_by_group(page):
    assert not page.says("over the validation clips of each alone")


def test_correlation_has_an_interval_around_it(report, page):
    low, high = spearman_interval(report)
    assert -1 <= low <= report.verdict.loss.spearman <= high <= 1
    assert low < high
    assert len(checkpoints(report)) == report.verdict.loss.checkpoints
    assert page.says(f"interval {low:+.2f} to {high:+.2f}")
    assert spearman_interval(report) == (low, high)


def test_correlation_of_what_is_strictly_monotone_is_certain(report):
    losses = {v.id: -report.verdict.row(v.id).means["dnsmos_p808"] for v in checkpoints(report)}
    variants = {
        name: replace(variant, validation_loss=losses.get(name))
        for name, variant in report.table.variants.items()
    }
    certain = replace(report, table=replace(report.table, variants=variants))
    assert spearman_interval(certain) == pytest.approx((-1.0, -1.0))


def test_the_pareto_front_is_what_nothing_dominates(report):
    rows = [
        replace(
            report.verdict.row(BASE_VARIANT), means={"word_error": error, "dnsmos_p808": quality}
        )
        for error, quality in [(0.0, 3.0), (0.1, 3.5), (0.1, 3.4), (0.2, 3.5), (0.3, 4.0)]
    ]
    assert pareto_front(rows, report, "word_error") == {(0.0, 3.0), (0.1, 3.5), (0.3, 4.0)}


def test_the_page_of_many_trials_and_learning_rates_stays_small(make_report):
    trials = {f"t{i}": (8 * 2 ** (i % 3), 1e-5 * 1.3**i, 0.01 * i) for i in range(15)}
    html = render(make_report(trials=trials))
    page = Page(html)
    assert len(page.of("button", "grid")) == 1 + GRID_TRIALS * 3
    assert page.says(f"The {GRID_TRIALS} best of 15 trials.")
    assert page.says("1e-5 to 2.2e-5")
    assert len(html) < 4_000_000


def test_the_same_report_gives_the_same_page(html, make_report):
    assert html == render(make_report())


def test_ids_are_used_once_and_references_resolve(page):
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
    assert len(page.of("audio", "listen")) == 16
    assert tuple(page.sections) == SECTIONS


def test_one_variant_without_trials_is_enough(make_report, base_table):
    report = make_report(trials={"solo": (8, 1e-4, 0.4)})
    table = base_table(report, "solo-e1-s1.0")
    alone = replace(report, table=table, verdict=judge(table, None, report.protocol), trials=[])
    page = Page(render(alone))
    assert page.says("No trial reported a loss.")
    assert set(page.pictures) == set(PICTURES) - {"learning", "scale"}


def test_no_verdict_still_makes_a_page(make_report, base_table):
    report = make_report()
    table = base_table(report)
    page = Page(render(replace(report, table=table, verdict=judge(table, None, report.protocol))))
    assert page.says("No verdict")
    assert tuple(page.sections) == SECTIONS


@pytest.fixture
def base_table():
    """The report's table cut down to the base and the variants named."""

    def cut(report, *names):
        kept = (BASE_VARIANT, *names)
        return ScoreTable(
            variants={name: report.table.variants[name] for name in kept},
            metrics=report.table.metrics,
            prompts=report.table.prompts,
            keys=report.table.keys,
            values={name: report.table.values[name] for name in kept},
            missing={name: report.table.missing[name] for name in kept},
        )

    return cut


def test_what_other_seeds_show_of_the_winners_hyperparameters(report):
    winner = report.verdict.variant
    trial = report.table.variants[winner].trial
    of = next(each for each in report.trials if each.record.id == trial)
    replicate = replace(
        of,
        record=replace(of.record, id="aa11bb", replicate_of=trial, order=0),
        epochs=of.epochs[:2],
    )
    gain = Interval(0.21, 0.04, 0.38, 16)
    recipe = RecipeVerdict(
        winner,
        "rank 8, learning rate 1e-4",
        "better",
        (),
        1,
        (Replicate("aa11bb-e02-s1.00", gain, 3),),
        0.9,
        gain,
        gain,
        0.034,
        (),
    )
    shown = replace(report, verdict=replace(report.verdict, recipe=recipe), replicates=[replicate])
    text = " ".join(" ".join(Page(render(shown)).text).split())
    assert "The hyperparameters with other seeds: better" in text
    assert "aa11bb 0 finished after epoch 2 0:00:50 +0.21 [+0.04, +0.38] 3" in text
    assert "between seeds the standard deviation is 0.034" in text
    assert "mean, 90%" in text
