"""The real scorer over a tiny Whisper; where it matters, words are put in its mouth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from jobs.clips import SpokenClip
from jobs.metrics.base import MetricError, score_clip
from jobs.metrics.catalogue import ScorerUnavailable, build_scorers, metric_of
from jobs.metrics.models import find_model
from jobs.metrics.whisper import DEFAULT_MODEL, WHISPER_METRICS, Whisper, without_symbols
from jobs.spec.metric import MetricSpec
from tests.jobs.metrics.tiny_models import write_whisper

RATE = 16_000


def asked(model, language=None, name="whisper_word_error"):
    return MetricSpec(name=name, model=str(model), language=language)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_whisper(tmp_path_factory.mktemp("hub") / "whisper")


@pytest.fixture(scope="module")
def scorer(model):
    return Whisper(asked(model, "en"))


@pytest.fixture
def hears(scorer, monkeypatch):
    """Has the model write a text, whatever it is given; what it was given is returned."""
    given = []

    def put(text):
        ids = scorer._processor.tokenizer(text, add_special_tokens=False).input_ids

        def generate(**inputs):
            given.append(inputs)
            return torch.tensor([ids])

        monkeypatch.setattr(scorer._model, "generate", generate)
        return given

    return put


def sound(seconds, seed=0):
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (0.1 * noise).astype(np.float32)


def clip(text, seconds=1.0, language=None):
    return SpokenClip(sound(seconds), RATE, text, reached_end=True, language=language)


def test_counts_by_hand(scorer, hears):
    hears(" The colour of 22 cats")
    assert scorer.measure(clip("The color, of twenty-two dogs!")) == {
        "whisper_word_error": pytest.approx(1 / 6),  # the color of 2 2 dogs
        "whisper_word_edits": 1.0,
        "whisper_word_count": 6.0,
        "whisper_character_error": pytest.approx(3 / 16),  # c-a-t for d-o-g
        "whisper_character_edits": 3.0,
        "whisper_character_count": 16.0,
    }


def test_shares_are_capped_and_edits_are_not(scorer, hears):
    hears("all of this was never written")
    scores = scorer.measure(clip("no"))
    assert (scores["whisper_word_error"], scores["whisper_word_edits"]) == (1.0, 6.0)
    assert (scores["whisper_character_error"], scores["whisper_character_count"]) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("language", "text", "heard", "edits", "count"),
    [
        ("km", "សួស្តី\u200bពិភពលោក។", "សួស្តី ពិភពលោក", 0, 13),
        ("km", "សួស្តី", "សួស្តា", 1, 6),  # a vowel, which is a mark
        ("th", "สวัสดี", "สวัสดี", 0, 6),
        ("zh-Hant", "你好，世界。", "你号世界", 1, 4),
        ("ja", "ＡＢＣです", "abcです", 0, 5),
    ],
)
def test_characters_count_where_words_are_not_spaced(scorer, language, text, heard, edits, count):
    expected, written = ("".join(scorer.normalise(t, language).split()) for t in (text, heard))
    assert len(expected) == count
    assert sum(a != b for a, b in zip(expected, written, strict=True)) == edits


def ways_to_write(digits):
    """In English, each a text that a voice says alike."""
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    spoken = [words[int(digit)] for digit in digits]
    mixed = [(digits, spoken)[at % 2][at] for at in range(len(digits))]
    return [
        digits,
        *(joint.join(of) for of in (digits, spoken, mixed) for joint in (" ", ", ", "-", "; ")),
        ",".join(digits),
        f"{digits[0]}.{digits[1:]}",
        " ".join(spoken).title(),
    ]


def test_a_number_is_the_same_words_however_it_is_written(scorer):
    rng = np.random.default_rng(0)
    numbers = ["5071", "10", "01", "0001", "1001", "11111"]
    numbers += ["".join(map(str, rng.integers(0, 10, size))) for size in range(2, 9) for _ in "abc"]
    for number in numbers:
        for written in ways_to_write(number):
            said = scorer.normalise(f"Dial {written}, please.", "en-GB").split()
            assert said == ["dial", *number, "please"], written


@pytest.mark.parametrize(
    ("language", "text", "same", "words"),
    [
        ("en", "one hundred and five", "105", ["1", "0", "5"]),
        ("en", "He is one of 3.", "he is 1 of three", ["he", "is", "1", "of", "3"]),
        ("en", "three point one four", "3.14", ["3", "1", "4"]),
        ("en", "$5.50 on the twenty-second", "5.50 dollars on the 22nd", None),
        ("de", "Wähle 5071!", "wähle 5, 0, 7, 1", ["wähle", "5", "0", "7", "1"]),
        ("km", "៥០៧១", "5071", ["5", "0", "7", "1"]),
        ("ja", "５０７１です", "5071 です", None),
    ],
)
def test_digits_in_other_forms_and_languages(scorer, language, text, same, words):
    expected, written = (scorer.normalise(each, language).split() for each in (text, same))
    assert "".join(expected) == "".join(written)
    assert words is None or expected == written == words


def test_wrong_digits_are_wrong(scorer, hears):
    hears("five, zero, 1, 7")
    scores = scorer.measure(clip("5071"))
    assert (scores["whisper_word_edits"], scores["whisper_word_count"]) == (2.0, 4.0)


def test_the_version_says_whether_number_words_are_read(model):
    read = {tag: metric_of(asked(model, tag)).version for tag in ("en", "km", None)}
    assert "digits-by-character number-words-not-read" in read["km"]
    assert all("digits-by-character number-words-read-in-en" in read[tag] for tag in ("en", None))
    scorer = Whisper(asked(model))
    assert scorer.normalise("fünf null", "de") != scorer.normalise("50", "de")


def test_marks_stay_and_format_characters_go():
    assert without_symbols("a-b\u200bc\u200dd, ក្រុម") == "a b cd  ក្រុម"


@pytest.mark.parametrize("seconds", [0.5, 3.0, 45.0])
@pytest.mark.parametrize("language", ["en", "km"])
def test_a_transcript_is_what_transformers_gives(model, scorer, seconds, language):
    """Called as its documentation does, long clips among them."""
    processor = WhisperProcessor.from_pretrained(model)
    network = WhisperForConditionalGeneration.from_pretrained(model).eval()
    audio = sound(seconds, seed=3)
    long = {"truncation": False, "padding": "longest"} if seconds > 30 else {}
    features = processor(
        audio, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True, **long
    )
    with torch.no_grad():
        ids = network.generate(
            **features, language=language, task="transcribe", return_timestamps=bool(long)
        )
    (text,) = processor.batch_decode(ids, skip_special_tokens=True)
    assert text.strip()
    assert scorer.transcribe(audio, language) == text


def test_a_longer_clip_is_heard_to_its_end(scorer):
    start, rest = sound(30.0, seed=1), sound(25.0, seed=2)
    whole = scorer.transcribe(np.concatenate([start, rest]), "en")
    assert whole != scorer.transcribe(start, "en")


def test_the_prompts_language_wins(scorer, hears):
    given = hears("x")
    scorer.measure(clip("one"))
    scorer.measure(clip("one", language="km-KH"))
    assert [inputs["language"] for inputs in given] == ["en", "km"]
    assert {inputs["task"] for inputs in given} == {"transcribe"}


def test_a_language_is_told_and_known(model):
    with pytest.raises(ValueError, match=r"must know the language, got 'fr'.*knows en, km, zh"):
        Whisper(asked(model, "fr"))
    scorer = Whisper(asked(model))
    with pytest.raises(MetricError, match="neither the prompt nor the metric says the language"):
        scorer.measure(clip("one"))
    with pytest.raises(MetricError, match="must know the language, got 'fr'"):
        scorer.measure(clip("un", language="fr"))


def test_an_english_model_is_not_told(tmp_path):
    english = write_whisper(tmp_path / "english", multilingual=False)
    assert Whisper(asked(english, "en")).transcribe(sound(1.0), "en")
    with pytest.raises(ValueError, match="got 'km'; this model knows en"):
        Whisper(asked(english, "km"))


def test_a_text_without_words(scorer):
    with pytest.raises(MetricError, match=r"no words to compare with: '\.\.\.'"):
        scorer.measure(clip("..."))


def test_one_run_gives_every_metric_of_a_clip(model):
    names = ("whisper_character_error", "whisper_word_error", "whisper_word_count")
    scorers = build_scorers([asked(model, "en", name) for name in names])
    assert len(scorers) == 1
    scores = score_clip(scorers, clip("one two", 2.0), variant="v", prompt="p", seed=0)
    assert set(scores.values) == set(WHISPER_METRICS)
    for metric in scorers[0].metrics:
        assert metric.low <= scores.values[metric.name] <= metric.high
        assert metric == metric_of(asked(model, "en", metric.name))
        assert metric.direction == WHISPER_METRICS[metric.name]


def test_silence_is_heard_too(scorer):
    silence = replace(clip("one"), audio=np.zeros(RATE, dtype=np.float32))
    assert set(scorer.measure(silence)) == set(WHISPER_METRICS)


def test_torch_threads_are_given_back(scorer):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        scorer.measure(clip("one"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_the_version_follows_weights_and_language(model, tmp_path):
    other = write_whisper(tmp_path / "other", seed=1)
    versions = {
        metric_of(asked(where, language)).version
        for where in (model, other)
        for language in ("en", "km", None)
    }
    assert len(versions) == 6
    assert find_model(str(model), []).fingerprint().split()[0] in metric_of(asked(model)).version


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(
        ScorerUnavailable,
        match=r"whisper_word_error, .* cannot be: FileNotFoundError: .*run `hf download no/such ",
    ):
        metric_of(asked("no/such", "en"))


@pytest.mark.weights
def test_the_default_model_hears_what_is_said(clips):
    """The shipped voice says digits, which Whisper knows."""
    try:
        find_model(DEFAULT_MODEL, [])
    except FileNotFoundError as error:
        pytest.skip(str(error))
    scorer = Whisper(MetricSpec(name="whisper_word_error", language="en"))
    assert scorer.measure(clips[0])["whisper_word_error"] < 0.5
