from dataclasses import dataclass, field, replace

import pytest

from jobs import embedded
from jobs.metrics.base import MetricError
from jobs.metrics.words import WordError, plain_words, word_edits


@dataclass
class Hears:
    """A recogniser that always hears the same words, and remembers the rates it was given."""

    words: list[str]
    digest: str = "0" * 64
    rates: list[int] = field(default_factory=list)

    def transcribe(self, audio, rate):
        self.rates.append(rate)
        return self.words


@pytest.mark.parametrize(
    ("heard", "expected", "edits"),
    [
        ("", "", 0),
        ("a b c", "a b c", 0),
        ("a x c", "a b c", 1),
        ("a c", "a b c", 1),
        ("a b b c", "a b c", 1),
        ("", "a b c", 3),
        ("b c a", "a b c", 2),
        ("x y z w", "a", 4),
    ],
)
def test_word_edits(heard, expected, edits):
    assert word_edits(heard.split(), expected.split()) == edits


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don’t stop, Élise!", ["don't", "stop", "élise"]),
        ("well-known — “quoted”…", ["well", "known", "quoted"]),
        ("សួស្តី ពិភពលោក។", ["សួស្តី", "ពិភពលោក"]),
        ("?!", []),
    ],
)
def test_plain_words(text, words):
    assert plain_words(text) == words


def test_counts_allow_a_corpus_error(clips):
    scorer = WordError(Hears(["one", "two"]), plain_words)
    assert scorer.measure(replace(clips[0], text="One, two, three four")) == {
        "word_error": 0.5,
        "word_edits": 2.0,
        "word_count": 4.0,
    }


def test_word_error_is_capped_and_the_edits_are_not(clips):
    scorer = WordError(Hears(["all", "of", "this", "was", "never", "written"]), plain_words)
    scores = scorer.measure(replace(clips[0], text="short"))
    assert (scores["word_error"], scores["word_edits"]) == (1.0, 6.0)


def test_the_front_end_spells_the_text(clips):
    digits = {"3": "three", "5": "five"}
    scorer = WordError(Hears(["three", "five"]), lambda text: [digits[d] for d in text])
    assert scorer.measure(replace(clips[0], text="35"))["word_error"] == 0.0


def test_the_recogniser_hears_16_khz(clips):
    recogniser = Hears([])
    WordError(recogniser, plain_words).measure(replace(clips[0], rate=24_000))
    assert recogniser.rates == [16_000]


def test_a_text_without_words(clips):
    with pytest.raises(MetricError, match="no words"):
        WordError(Hears([]), plain_words).measure(replace(clips[0], text="..."))


def test_the_shipped_recogniser_hears_the_shipped_voice(recordings):
    from jobs.codecs.recogniser import WordRecogniser

    scorer = WordError(WordRecogniser.load(embedded.RECOGNISER_DIR), plain_words)
    scores = [scorer.measure(clip) for clip in recordings[:20]]
    assert sum(s["word_edits"] for s in scores) / sum(s["word_count"] for s in scores) < 0.05
    wrong = replace(recordings[0], text=recordings[1].text)
    assert scorer.measure(wrong)["word_error"] > 0.3
