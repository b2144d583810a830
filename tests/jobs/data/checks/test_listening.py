"""What is heard of the shipped voice, as it is and damaged in each way that must be told."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from jobs.audio.files import read_audio, resample
from jobs.codecs.recogniser import WordRecogniser
from jobs.data.checks import listening
from jobs.data.checks.listening import (
    DigitTranscriber,
    choose_sample,
    listen_to,
    open_transcriber,
)
from jobs.data.clips import ManifestRow, TargetClip
from jobs.embedded import RECOGNISER_DIR, VOICE_DIR
from jobs.problems import InputError

RATE = 16_000


def clip(line, text, audio="a.wav", seconds=1.0, **row):
    return TargetClip(
        ManifestRow(where=f"m:{line}", audio=str(audio), text=text, manifest="m", **row),
        "",
        RATE,
        seconds,
    )


@pytest.fixture(scope="module")
def voice():
    lines = [json.loads(line) for line in (VOICE_DIR / "manifest.jsonl").read_text().splitlines()]
    return [
        clip(number, each["text"], VOICE_DIR / each["audio"], each["duration"])
        for number, each in enumerate(lines, start=1)
    ]


@pytest.fixture(scope="module")
def transcriber():
    return DigitTranscriber()


@pytest.fixture(scope="module")
def words(transcriber):
    """Where the words of a recording begin, in seconds."""
    recogniser = WordRecogniser.load(RECOGNISER_DIR)
    return lambda audio, rate, text: recogniser.align(
        resample(audio, rate, RATE), RATE, text.split()
    )


def told(heard):
    return [(each.rule, each.severity, each.problem.where) for each in heard.findings]


def respoken(clips, folder, spoil):
    """The clips with their sound changed by ``spoil``, which is given samples, rate and text."""
    for each in clips:
        audio, rate = read_audio(each.row.audio)
        path = folder / f"{each.row.where[2:]}.flac"
        soundfile.write(path, np.clip(spoil(audio, rate, each.row.text), -1, 1), rate)
        yield replace(each, row=replace(each.row, audio=str(path)))


def test_the_shipped_voice_says_its_texts(voice, transcriber):
    heard = listen_to(voice, transcriber, "m")
    assert told(heard) == []
    assert (heard.sample, heard.usable, heard.others) == (60, 470, 0)
    assert heard.interval == (0.0, pytest.approx(0.0602, abs=1e-4))
    assert str(heard).startswith("listened to 60 of 470 clips with the embedded recogniser: 0 say")


@pytest.mark.parametrize(("step", "word"), [(1, "next"), (-1, "previous")])
def test_transcripts_that_are_shifted_by_a_row_are_told_as_such(voice, transcriber, step, word):
    texts = np.roll([each.row.text for each in voice], step)
    shifted = [
        replace(each, row=replace(each.row, text=str(text)))
        for each, text in zip(voice, texts, strict=True)
    ]
    heard = listen_to(shifted, transcriber, "m")
    assert told(heard) == [("text-other", "error", "m")]
    assert heard.others >= 50
    (finding,) = heard.findings
    assert "of the 60 clips that were listened to" in finding.problem.what
    assert finding.problem.what.count("heard") == 10
    assert finding.problem.next_step.startswith(f"The transcripts are shifted: the {word} row's")


def test_last_words_that_are_cut_from_the_sound_are_told(voice, transcriber, words, tmp_path):
    some = voice[::3]
    cut = respoken(some, tmp_path, lambda a, r, text: a[: int(words(a, r, text)[-1] * r)])
    heard = listen_to([*cut], transcriber, "m")
    # Of two words, the one that is left may be heard as another.
    assert heard.others <= 2
    (finding,) = (each for each in heard.findings if each.rule == "text-end")
    assert finding.severity == "error"
    assert "unheard: " in finding.problem.what


def test_last_words_that_are_cut_from_the_texts_are_told(voice, transcriber):
    cut = [
        replace(each, row=replace(each.row, text=each.row.text.rpartition(" ")[0]))
        for each in voice
    ]
    heard = listen_to(cut, transcriber, "m")
    # A text that keeps one word of two may be taken for another.
    assert heard.others <= 2
    (finding,) = (each for each in heard.findings if each.rule == "text-end")
    assert finding.severity == "error"
    assert "unwritten: " in finding.problem.what


@pytest.mark.parametrize("spoilt", ["silence", "noise", "offset"])
def test_sound_that_is_only_worse_still_says_its_text(voice, transcriber, tmp_path, spoilt):
    noise = np.random.default_rng(0)
    ways = {
        "silence": lambda a, r, text: np.concatenate([a, np.zeros(5 * r)]),
        "noise": lambda a, r, text: a + np.sqrt(np.mean(a**2) / 10) * noise.normal(size=len(a)),
        "offset": lambda a, r, text: a + 0.02,
    }
    heard = listen_to([*respoken(voice[::5], tmp_path, ways[spoilt])], transcriber, "m")
    assert told(heard) == []


def test_a_few_texts_of_other_clips_are_a_warning_with_their_lines(voice, transcriber):
    mixed = [*voice[:60]]
    for at in (7, 31):
        mixed[at] = replace(mixed[at], row=replace(mixed[at].row, text=voice[at + 80].row.text))
    heard = listen_to(mixed, transcriber, "m")
    assert told(heard) == [("text-other", "warning", "m")]
    assert heard.others == 2
    assert "2 of the 60 clips that were listened to (3.3%, 95 % interval 0.9% to 11.4%)" in str(
        heard.findings[0].problem.what
    )
    assert all(f"line {line} (" in heard.findings[0].problem.what for line in (8, 32))


class _Deaf:
    """Understands a third of a language."""

    name = "a deaf recogniser"

    def units(self, text, language):
        return text.split()

    def hear(self, audio, language):
        said = self.said.pop(0)
        return [word if at % 3 == 0 else f"x{at}" for at, word in enumerate(said.split())]


def test_a_recogniser_that_hears_little_blames_no_text(voice, monkeypatch):
    words = np.random.default_rng(0).integers(0, 300, (40, 10))
    clips = [clip(at, " ".join(map(str, row))) for at, row in enumerate(words)]
    deaf = _Deaf()
    deaf.said = [each.row.text for each in clips]
    monkeypatch.setattr(listening, "_speech", lambda location: np.zeros(9))
    assert told(listen_to(clips, deaf, "m")) == []


def test_clips_whose_transcripts_no_text_has_anything_of_are_not_judged(voice, monkeypatch):
    clips = [clip(at, f"w{at} x{at}") for at in range(40)]
    deaf = _Deaf()
    deaf.said = ["\u0431\u0430\u0431\u0430"] * 40
    monkeypatch.setattr(listening, "_speech", lambda location: np.zeros(9))
    heard = listen_to(clips, deaf, "m")
    assert (told(heard), heard.sample, heard.unjudged) == ([], 0, 40)
    assert str(heard).endswith("(0.0%, 95 % interval 0.0% to 100.0%); 40 more could not be judged")


def test_a_sample_has_its_share_of_every_speaker_language_and_length():
    clips = [
        clip(at, "one", speaker=f"s{at % 4}", language="en" if at % 2 else "km", seconds=at % 50)
        for at in range(1000)
    ]
    sample = choose_sample(clips, 60)
    assert sample == choose_sample(clips, 60)
    assert len(set(sample)) == 60
    for group in range(4):
        of_group = [clips[at].seconds for at in sample if at % 4 == group]
        assert len(of_group) == 15
        assert np.median(of_group) == pytest.approx(24, abs=4)
    assert choose_sample(clips[:7], 60) == [*range(7)]


def test_texts_decide_the_recogniser(voice):
    assert isinstance(open_transcriber([clip(1, "3 1 four")]), DigitTranscriber)
    with pytest.raises(InputError, match="knows digits alone, not 'hello'"):
        open_transcriber([clip(1, "hello")], "embedded")
    with pytest.raises(InputError, match=r"with a recogniser for their language: .*'no/where'"):
        open_transcriber([clip(1, "hello", language="en")], "no/where")


def test_a_whisper_needs_a_language_and_spells_by_characters_where_words_have_no_spaces(
    tmp_path, monkeypatch
):
    from tests.jobs.metrics.tiny_models import write_whisper

    model = str(write_whisper(tmp_path / "whisper"))
    with pytest.raises(InputError, match="must know the language of the clips"):
        open_transcriber([clip(1, "hello")], model)
    whisper = open_transcriber([clip(1, "hello")], model, "en")
    assert whisper.units("Hello, World!", None) == ["hello", "world"]
    assert whisper.units("ab cd", "zh-Hant") == ["a", "b", "c", "d"]
    monkeypatch.setattr(whisper._whisper, "transcribe", lambda audio, language: " So it is.")
    assert whisper.hear(np.zeros(RATE, dtype=np.float32), "en") == ["so", "it", "is"]
