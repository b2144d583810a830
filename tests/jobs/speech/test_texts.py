"""A long text is cut where a reader would breathe, and what cannot be read is told."""

from pathlib import Path

import pytest

from jobs.problems import InputError
from jobs.speech.texts import TOKENS_PER_SECOND, chunks
from tests.embedded_voice import EMBEDDED_HOST
from tests.jobs.speech.test_voice_files import FACTS


def embedded(text: str) -> list[str]:
    return chunks(text, FACTS, None)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("one two", ["one two"]),
        (" one \n two ", ["one two"]),
        ("one two three. four five. six", ["one two three", "four five", "six"]),
        ("one two three, four five six seven.", ["one two three", "four five six seven"]),
        ("one two three four five six seven eight", ["one two three four five six", "seven eight"]),
        (
            "one. two three four five six seven eight nine",
            ["one", "two three four five six seven", "eight nine"],
        ),
        ("1234567890", ["123456", "7890"]),
        ("one。two。", ["one", "two"]),
        ('one two." three', None),
    ],
)
def test_six_words_are_a_chunk_of_the_embedded_base(text: str, cut: list[str] | None):
    if cut is None:
        with pytest.raises(InputError, match="text must be digits"):
            embedded(text)
    else:
        assert embedded(text) == cut


@pytest.mark.parametrize("text", ["", "  ", "...", "hello", "one <|end|>"])
def test_what_cannot_be_read_is_told(text: str):
    with pytest.raises(InputError):
        embedded(text)


def test_every_word_that_cannot_be_read_is_told_at_once():
    with pytest.raises(InputError) as caught:
        embedded("one hello two three four. world five six seven eight nine")
    told = [problem.what for problem in caught.value.problems]
    assert [word in what for word, what in zip(("hello", "world"), told, strict=True)] == [True] * 2


LONG = (
    "The first sentence is short. The second one, which is longer, has clauses; it goes on: and "
    "on, until nobody can remember how it began. A third."
)


@pytest.mark.parametrize("most", [4, 9, 14, 30, 200])
def test_qwen3_tts_takes_what_its_tokenizer_counts(tiny_qwen3_tts_source: Path, most: int):
    from jobs.families.registry import open_text

    host = EMBEDDED_HOST.model_copy(
        update={"family": "qwen3_tts", "source": str(tiny_qwen3_tts_source)}
    )
    facts = FACTS.model_copy(update={"host": host, "max_text_tokens": most, "longest": 1000.0})
    found = chunks(LONG, facts, "en")
    reader = open_text(host)
    assert reader is not None
    assert all(reader(chunk, None) <= most for chunk in found)
    assert "".join(found).replace(" ", "") == LONG.replace(" ", "")
    if most == 200:
        assert found == [LONG]


def test_a_chunk_is_no_longer_than_what_was_learned(tiny_qwen3_tts_source: Path):
    host = EMBEDDED_HOST.model_copy(
        update={"family": "qwen3_tts", "source": str(tiny_qwen3_tts_source)}
    )
    facts = FACTS.model_copy(update={"host": host, "longest": 14 / TOKENS_PER_SECOND})
    capped = facts.model_copy(update={"max_text_tokens": 14, "longest": 1000.0})
    assert chunks(LONG, facts, None) == chunks(LONG, capped, None)
