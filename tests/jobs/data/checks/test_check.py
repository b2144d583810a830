"""Every problem of a corpus is found, at its line, and nothing else is."""

import copy
import shutil
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jobs.data.checks import check as module
from jobs.data.checks.check import Checked, check
from jobs.data.checks.recording import RecordingFacts
from jobs.data.checks.sound import SoundFacts
from jobs.data.checks.target import target_rows
from jobs.data.clips import ManifestRow
from jobs.data.findings import Finding
from jobs.families.description import QWEN3_TTS_RULES, DataRules
from jobs.problems import Problem
from jobs.spec.data import DataSpec
from tests.jobs.data.hostile_clips import (
    ERRORS,
    GOOD,
    INNOCENT,
    RATE,
    WARNINGS,
    Corpus,
    babble,
    good,
    upsampled,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Corpus:
    """Good clips, written once."""
    return good(tmp_path_factory.mktemp("good"))


@pytest.fixture
def corpus(prepared, tmp_path) -> Corpus:
    """Good clips, free to be spoilt."""
    shutil.copytree(prepared.folder, tmp_path, dirs_exist_ok=True)
    return Corpus(tmp_path, copy.deepcopy(prepared.rows))


def checked(corpus: Corpus, rate: int = RATE, workers: int = 1, **data) -> Checked:
    spec = DataSpec.model_validate({"manifest": str(corpus.save()), **data})
    return check(target_rows(spec).items, spec, DataRules(), None, rate, workers)


def found(of: Checked) -> list[tuple[str, str, str]]:
    return [(each.rule, each.severity, each.problem.where) for each in of.findings]


def test_good_clips_have_no_findings(corpus):
    of = checked(corpus)
    assert of.findings == []
    assert [clip.row.where for clip in of.clips] == [corpus.line(n) for n in range(GOOD)]
    assert {clip.rate for clip in of.clips} == {RATE}
    assert of.clips[0].seconds == pytest.approx(1.2)


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_found_at_its_line_and_drops_one_clip(corpus, case):
    spoil, rule = ERRORS[case]
    spoil(corpus)
    of = checked(corpus)
    assert found(of) == [(rule, "error", corpus.line(-1))]
    assert of.errors[0].problem.next_step
    if rule == "split-missing":
        return
    assert len(of.clips) == GOOD
    dropped = checked(corpus, bad_clips="drop")
    assert found(dropped) == [(rule, "warning", corpus.line(-1))]
    assert dropped.findings[0].problem.next_step == "The clip is left out."
    assert (dropped.errors, dropped.dropped) == ([], 1)
    assert dropped.clips == of.clips


@pytest.mark.parametrize("case", WARNINGS)
def test_a_warning_is_found_at_its_line_and_keeps_the_clip(corpus, case):
    spoil, rule = WARNINGS[case]
    spoil(corpus)
    of = checked(corpus)
    assert found(of) == [(rule, "warning", corpus.line(-1))]
    assert (len(of.clips), of.dropped) == (GOOD + 1, 0)


@pytest.mark.parametrize("case", INNOCENT)
def test_the_innocent_are_left_alone(corpus, case):
    INNOCENT[case](corpus)
    assert found(checked(corpus)) == []


def test_all_problems_at_once_in_the_order_of_the_lines(corpus):
    spoilt = [name for name, (_, rule) in ERRORS.items() if rule.startswith(("text", "audio-m"))]
    for number, name in enumerate(spoilt):
        ERRORS[name][0](corpus)
        for path in corpus.folder.glob("bad.*"):  # each case writes the same name
            kept = path.rename(corpus.folder / f"bad{number}{path.suffix}")
            corpus.rows[-1]["audio"] = kept.name
    of = checked(corpus)
    assert list(dict.fromkeys(where for _, _, where in found(of))) == [
        corpus.line(number) for number in range(GOOD, GOOD + len(spoilt))
    ]
    assert len(of.clips) == GOOD


def test_a_clip_may_have_several_problems(corpus):
    corpus.write("bad.wav", babble(99, 0.2), 8000, text="[x] y", duration=4.0)
    assert Counter(rule for rule, _, _ in found(checked(corpus))) == Counter(
        ["duration-short", "duration-claimed", "rate-low", "text-tag"]
    )


def test_a_line_that_is_no_row_stays_an_error(corpus):
    corpus.row("good0.wav", text=None)
    of = checked(corpus, bad_clips="drop")
    ((_, severity, where),) = found(of)
    assert (severity, where) == ("error", corpus.line(-1))


def test_bad_clips_are_compared_too(corpus):
    """Who corrects the text must not find a leak afterwards."""
    held_out = corpus.folder / f"good{GOOD - 1}.wav"
    shutil.copy(held_out, corpus.folder / "bad.wav")
    corpus.row("bad.wav", text="<laugh> other words")
    assert [rule for rule, _, _ in found(checked(corpus))] == ["text-tag", "leak-audio"]
    dropped = checked(corpus, bad_clips="drop")
    assert [rule for rule, _, _ in found(dropped)] == ["text-tag"]


def test_two_silences_are_not_one_sound_twice(corpus):
    for name in ("a.wav", "b.wav"):
        corpus.write(name, np.zeros(RATE))
    assert [rule for rule, _, _ in found(checked(corpus))] == ["audio-silent"] * 2


def test_empty_texts_are_not_one_text_twice(corpus):
    for seed in (98, 99):
        corpus.write(f"{seed}.wav", babble(seed), text="...")
    assert [rule for rule, _, _ in found(checked(corpus))] == ["empty-text"] * 2


def test_where_every_clip_is_bad_no_split_is_missed(corpus):
    for row in corpus.rows:
        row["text"] = f"<x> {row['text']}"
    assert {rule for rule, _, _ in found(checked(corpus))} == {"text-tag"}
    of = checked(corpus, bad_clips="drop")
    assert [each.rule for each in of.errors] == ["split-empty", "split-empty"]


def test_annotations_are_taken_out_when_asked(corpus):
    written = "Well <laugh>, [coughs] I *really* do."
    corpus.write("bad.wav", babble(99), text=written)
    of = checked(corpus, tags="strip")
    assert found(of) == [("text-tag", "warning", corpus.line(-1))]
    row = of.clips[-1].row
    assert (row.text, row.written) == ("Well, I really do.", written)
    assert f"{written!r} is learned as {row.text!r}" in of.findings[0].problem.what
    assert of.changes == {"annotations taken out": 2, "emphasis and brackets taken off": 1}


def test_a_bracket_that_may_be_speech_is_asked_about_and_answered(corpus):
    corpus.write("bad.wav", babble(99), text="Now press [Enter], it (in complete silence) ends.")
    rules = [("text-bracket", "error"), ("text-bracket", "warning")]
    assert [(rule, severity) for rule, severity, _ in found(checked(corpus, tags="strip"))] == rules
    spoken = checked(corpus, tags="strip", spoken=["enter"])
    assert spoken.errors == []
    assert spoken.clips[-1].row.text == "Now press Enter, it (in complete silence) ends."
    silent = checked(corpus, tags="strip", annotations=["Enter"])
    assert silent.clips[-1].row.text == "Now press, it (in complete silence) ends."


def test_pinyin_beside_the_characters_is_an_error(corpus):
    corpus.write("bad.wav", babble(99), text="广 guang3 州 zhou1")
    (finding,) = checked(corpus).findings
    assert finding.rule == "text-pinyin"
    assert finding.problem.what.endswith("beside them: guang3, zhou1")


def test_words_that_are_missing_are_an_error_also_when_stripped(corpus):
    corpus.write("bad.wav", babble(99), text="Well [inaudible] yes then.")
    for tags in ("strip", "reject"):
        assert found(checked(corpus, tags=tags)) == [("text-lost", "error", corpus.line(-1))]


def test_characters_are_told_and_repaired_when_asked(corpus):
    corpus.write("a.wav", babble(98), text="\ufeffI don\u00e2\u20ac\u2122t know.")
    corpus.write("b.wav", babble(99), text="So\u00adme time &amp; place")
    of = checked(corpus)
    assert found(of) == [("bad-characters", "error", corpus.line(n)) for n in (-2, -1)]
    assert "(UTF-8 read as Windows-1252) at 7" in of.findings[0].problem.what
    assert of.findings[0].problem.next_step.endswith("or set data.clean: true.")
    corpus.rows[-1]["text"] = "So\u00adme time and place"
    assert ("text-invisible", "warning", corpus.line(-1)) in found(checked(corpus))
    cleaned = checked(corpus, clean=True)
    assert found(cleaned) == [("text-cleaned", "warning", corpus.line(n)) for n in (-2, -1)]
    assert [clip.row.text for clip in cleaned.clips[-2:]] == [
        "I don\u2019t know.",
        "Some time and place",
    ]
    assert sum(cleaned.changes.values()) == 3


def test_what_cannot_be_repaired_stays_an_error(corpus):
    corpus.write("bad.wav", babble(99), text="caf\ufffd au lait")
    of = checked(corpus, clean=True)
    assert found(of) == [("bad-characters", "error", corpus.line(-1))]
    assert "data.clean" not in of.findings[0].problem.next_step


def test_a_text_of_annotations_alone_is_empty(corpus):
    corpus.write("bad.wav", babble(99), text="<laugh>")
    rules = [(rule, severity) for rule, severity, _ in found(checked(corpus, tags="strip"))]
    assert rules == [("text-tag", "warning"), ("empty-text", "error")]


def test_bounds_may_be_set_and_say_who_set_them(corpus):
    of = checked(corpus, min_seconds=1.25, max_seconds=1.6)
    assert Counter(rule for rule, _, _ in found(of)) == {"duration-short": 3, "duration-long": 3}
    assert "(data.min_seconds)" in of.findings[0].problem.what
    corpus.write("bad.wav", babble(99, 0.1))
    assert "(the family's bound)" in checked(corpus).findings[0].problem.what


def test_a_language_is_needed_for_its_tag(corpus):
    for row in corpus.rows[1:]:
        row["language"] = "km"
    assert found(checked(corpus)) == []
    of = checked(corpus, language_tag=True)
    assert found(of) == [("language-missing", "error", corpus.line(0))]


def test_a_language_that_the_family_has_no_token_for_is_told_once(corpus):
    for row in corpus.rows:
        row["language"] = "Khmer"
    spec = DataSpec(manifest=(str(corpus.save()),))
    of = check(target_rows(spec).items, spec, QWEN3_TTS_RULES, None, RATE)
    ((rule, severity, _),) = found(of)
    assert (rule, severity) == ("language-without-token", "warning")
    assert f"km (Khmer), of {GOOD} clips" in of.findings[0].problem.what
    assert {clip.row.language for clip in of.clips} == {"km"}


def count_words(text, language):
    """As a base that reads words of letters, one token each."""
    if any(c.isdecimal() for c in text):
        raise ValueError(f"digits must be words, got {text!r}")
    return len(text.split()) + (language is not None)


def test_texts_are_counted_as_the_base_reads_them(corpus):
    for row in corpus.rows:
        row["language"] = "km"
    corpus.write("a.wav", babble(97), text="aa bb cc dd ee ff", language="km")
    corpus.write("b.wav", babble(98), text="route 66 it is then", language="km")
    spec = DataSpec(manifest=(str(corpus.save()),), max_text_tokens=6, language_tag=True)
    of = check(target_rows(spec).items, spec, DataRules(), count_words, RATE)
    assert found(of) == [
        ("text-long", "error", corpus.line(-2)),
        ("text-unreadable", "error", corpus.line(-1)),
    ]
    assert "at most 6 tokens (data.max_text_tokens), got 7" in of.findings[0].problem.what
    assert "digits must be words, got 'route 66 it is then'" in of.findings[1].problem.what


def test_a_silent_reference_is_found_for_every_clip_that_has_it(corpus):
    corpus.write("quiet.wav", np.zeros(RATE))
    corpus.rows.pop()
    for row in corpus.rows[:2]:
        row["ref_audio"] = "quiet.wav"
    corpus.rows[2]["ref_audio"] = "good5.wav"
    assert found(checked(corpus)) == [("audio-silent", "error", corpus.line(n)) for n in (0, 1)]


def test_where_nobody_has_a_split_it_is_made(corpus):
    for row in corpus.rows:
        row.pop("split")
    corpus.write("bad.wav", np.zeros(RATE), split=None)
    of = checked(corpus, bad_clips="drop", split={"validation": 0.25})
    assert Counter(clip.row.split for clip in of.clips) == {"train": 18, "validation": 6}


def test_a_clip_that_stands_twice_cannot_leak_once_it_is_dropped(corpus):
    """However the rest is split."""
    for row in corpus.rows:
        row.pop("split")
    for number in range(GOOD):
        shutil.copy(corpus.folder / f"good{number}.wav", corpus.folder / f"again{number}.wav")
        corpus.rows.append({**corpus.rows[number], "audio": f"again{number}.wav"})
    of = checked(corpus, bad_clips="drop", split={"validation": 0.5})
    assert found(of) == [
        ("duplicate-clip", "warning", corpus.line(GOOD + number)) for number in range(GOOD)
    ]
    assert len(of.clips) == GOOD


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_without_clips_is_an_error(corpus, split):
    for row in corpus.rows:
        row["split"] = split
    of = checked(corpus)
    assert [(rule, severity) for rule, severity, _ in found(of)] == [("split-empty", "error")]


def test_a_property_of_all_clips_is_told_once(corpus):
    of = checked(corpus, rate=44_100)
    assert found(of) == [("rate-low", "warning", corpus.line(0))]
    assert of.findings[0].problem.what.startswith(f"all {GOOD} clips: audio should be recorded at")
    corpus.write("odd.wav", babble(99, rate=48_000), rate=48_000)
    assert len(found(checked(corpus, rate=44_100))) == GOOD


def test_a_format_that_nothing_here_reads_is_one_error(corpus, monkeypatch):
    monkeypatch.setattr("jobs.audio.files.has_ffmpeg", lambda: False)
    for number in range(GOOD):
        (corpus.folder / f"good{number}.wav").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(99))
    of = checked(corpus)
    assert found(of) == [("audio-unreadable", "error", corpus.line(0))]
    assert str(of.findings[0].problem).endswith(
        f"all {GOOD} clips: audio must be readable here: MP4 (m4a, AAC) is read through ffmpeg, "
        "which is not installed. Install it, or convert the files to WAV or FLAC elsewhere."
    )


def test_silence_after_every_clip_is_told_once_for_the_manifest(corpus):
    for number in range(GOOD):
        sound = np.concatenate([babble(number), np.zeros(2 * RATE)])
        soundfile.write(corpus.folder / f"good{number}.wav", sound, RATE)
    assert found(checked(corpus)) == [("silence-trailing", "warning", str(corpus.manifest))]


@pytest.mark.parametrize(("step", "beside"), [(1, "before"), (-1, "after")])
def test_texts_that_are_shifted_by_a_row_are_told_without_listening(corpus, step, beside):
    for number, row in enumerate(corpus.rows):
        length = 3 + number * 7 % GOOD
        row["text"] = f"{number} {'ab' * length}"
        soundfile.write(
            corpus.folder / f"good{number}.wav", babble(number, 0.1 * length + 0.5), RATE
        )
    assert found(checked(corpus)) == []
    texts = [row["text"] for row in corpus.rows]
    for row, text in zip(corpus.rows, texts[-step:] + texts[:-step], strict=True):
        row["text"] = text
    assert ("text-shifted", "warning", str(corpus.manifest)) in found(checked(corpus))
    shifted = [each for each in checked(corpus).findings if each.rule == "text-shifted"]
    assert f"fit those of the rows {beside}" in shifted[0].problem.what


def test_an_edge_counts_by_what_the_base_can_hear(corpus):
    corpus.write("bad.wav", upsampled(99, RATE, 48_000), 48_000)
    assert found(checked(corpus, rate=16_000)) == []
    fake = ("audio-upsampled", "warning", corpus.line(-1))
    assert fake in found(checked(corpus, rate=24_000))
    assert fake in found(checked(corpus, rate=48_000))


def test_processes_find_the_same(corpus):
    for name in ("a constant", "8 kHz as 16 kHz"):
        spoil, _ = {**ERRORS, **WARNINGS}[name]
        spoil(corpus)
        for path in corpus.folder.glob("bad.wav"):
            corpus.rows[-1]["audio"] = path.rename(corpus.folder / f"{name}.wav").name
    alone = checked(corpus)
    assert len(alone.findings) == 2
    assert checked(corpus, workers=2) == alone


def test_progress_ends_with_all_rows(corpus):
    told = []
    spec = DataSpec(manifest=(str(corpus.save()),))
    rows = target_rows(spec).items
    check(rows, spec, DataRules(), None, RATE, progress=lambda *counts: told.append(counts))
    assert told == sorted(set(told))
    assert told[-1] == (GOOD, GOOD)


def test_memory_for_a_row_is_small(monkeypatch):
    """What a check holds at its peak over the rows themselves, with facts that are made up."""
    monkeypatch.setattr(module, "measure_recording", fake_measure)
    rows = [fake_row(number) for number in range(1500)]
    spec, rules = DataSpec(), DataRules()
    check(rows[:50], spec, rules, None, RATE)  # what is loaded once is not a row's
    tracemalloc.start()
    try:
        of = check(rows, spec, rules, None, RATE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(of.clips) == len(rows)
    assert peak / len(rows) < 1500


def fake_row(number: int) -> ManifestRow:
    return ManifestRow(
        where=f"m:{number}",
        audio=f"/clips/{number:06d}.wav",
        text=f"this is what clip {number:06d} says",
        speaker=f"s{number % 100}",
    )


def fake_measure(location: str) -> RecordingFacts:
    number = int(Path(location).stem)
    sound = SoundFacts(leading=0.1, trailing=0.1, offset=0.0, contrast=40.0)
    return RecordingFacts(f"{number:064x}", RATE, 2.0 + number % 7 / 10, -25.0, 0.0, None, sound)


def test_findings_of_reading_are_passed_on(monkeypatch):
    monkeypatch.setattr(module, "measure_recording", fake_measure)
    unread = Finding("line-malformed", "error", Problem("m:2", "no JSON", "Correct it."))
    rows = [fake_row(1), unread, *(fake_row(number) for number in range(2, 30))]
    spec = DataSpec()
    of = check(rows, spec, DataRules(), None, RATE)
    assert of.findings == [unread]
    assert [replace(clip.row, split=None) for clip in of.clips] == [rows[0], *rows[2:]]


def test_there_are_enough_cases():
    assert len(ERRORS) >= 20
    assert len(WARNINGS) >= 8
    assert len(INNOCENT) >= 8
