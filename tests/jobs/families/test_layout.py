"""One stream of tokens for every base: what is written is what is read back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from jobs.embedded import BASE_DIR
from jobs.families.layout import (
    IGNORED_LABEL,
    LAYOUT_FILE,
    Layout,
    Length,
    ReferenceClip,
    TokenStream,
)

NEUTTS = Layout(
    front_end="plain",
    prompt=(
        "user: Convert the text to speech:<|TEXT_PROMPT_START|>{text}<|TEXT_PROMPT_END|>\n"
        "assistant:"
    ),
    start="<|SPEECH_GENERATION_START|>",
    end="<|SPEECH_GENERATION_END|>",
    code="<|speech_{code}|>",
    codebook_size=50,
    length=Length(fixed=50, per_word=50),
)


@pytest.fixture(scope="module")
def embedded() -> TokenStream:
    return TokenStream(Layout.read(BASE_DIR), AutoTokenizer.from_pretrained(BASE_DIR))


@pytest.fixture
def toy_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes and nothing else, without a padding token: a tokenizer nobody prepared for speech."""
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_a_reference_stands_where_neutts_puts_it():
    """``NeuTTS._infer_ggml`` of neutts 1.4.1: both texts, then START, then the codes."""
    assert NEUTTS.prompt_text("wˈɜːld.", reference=ReferenceClip("həlˈoʊ,", [49, 0])) == (
        "user: Convert the text to speech:<|TEXT_PROMPT_START|>həlˈoʊ, wˈɜːld.<|TEXT_PROMPT_END|>\n"
        "assistant:<|SPEECH_GENERATION_START|><|speech_49|><|speech_0|>"
    )


def test_codes_survive_the_embedded_stream(embedded: TokenStream):
    codes = [5, 1023, 0, 5, 5, 7]
    example = embedded.example("three three nine", codes, word_starts=[0, 2, 2])
    assert embedded.codes(example.input_ids).tolist() == codes


def test_codes_survive_the_neutts_stream(toy_tokenizer: PreTrainedTokenizerFast):
    toy_tokenizer.add_tokens(NEUTTS.added_tokens())
    stream = TokenStream(NEUTTS, toy_tokenizer)
    example = stream.example("həlˈoʊ wˈɜːld.", [49, 0, 7])
    assert stream.codes(example.input_ids).tolist() == [49, 0, 7]
    assert toy_tokenizer.decode(example.input_ids) == (
        "user: Convert the text to speech:<|TEXT_PROMPT_START|>həlˈoʊ wˈɜːld.<|TEXT_PROMPT_END|>\n"
        "assistant:<|SPEECH_GENERATION_START|>"
        "<|speech_49|><|speech_0|><|speech_7|><|SPEECH_GENERATION_END|>"
    )


def test_markers_stand_where_words_start(embedded: TokenStream):
    written = embedded.layout.speech_text([1, 2, 3], "4 2", word_starts=[0, 2])
    assert written == (
        "<|word_1|> four<|speech_1|><|speech_2|><|word_2|> two<|speech_3|><|SPEECH_GENERATION_END|>"
    )


def test_words_and_ordinals_are_single_tokens(embedded: TokenStream):
    # start, voice, (ordinal, word) x 2, end of text, start of speech
    assert len(embedded.prompt_ids("four two")) == 8


def test_prompt_is_masked_and_everything_after_start_is_a_target(embedded: TokenStream):
    prompt = embedded.prompt_ids("four two", "rms")
    example = embedded.example("four two", [1, 2, 3], [0, 2], "rms")
    assert example.input_ids[: len(prompt)] == prompt
    assert example.labels[: len(prompt)] == [IGNORED_LABEL] * len(prompt)
    assert example.labels[len(prompt) :] == example.input_ids[len(prompt) :]
    assert example.labels[-1] == embedded.end_id


def test_reading_stops_at_end_and_drops_what_is_no_code(embedded: TokenStream):
    first, second = embedded.code_ids[[3, 4]].tolist()
    marker = embedded.prompt_ids("four")[2]
    read = embedded.codes([marker, first, 10**6, second, embedded.end_id, first])
    assert read.tolist() == [3, 4]
    assert embedded.codes([]).dtype == np.int64


def test_digits_and_words_are_the_same_text(embedded: TokenStream):
    assert embedded.prompt_ids("350") == embedded.prompt_ids("Three five zero")


def test_voice_changes_one_token_and_defaults(embedded: TokenStream):
    default, rms = embedded.prompt_ids("one", "awb"), embedded.prompt_ids("one", "rms")
    assert embedded.prompt_ids("one") == default
    assert sum(a != b for a, b in zip(default, rms, strict=True)) == 1


def test_a_language_tag_stands_before_the_words_and_is_none(embedded: TokenStream):
    written = embedded.layout.prompt_text("4 2", language="km")
    assert "[km] <|word_1|> four<|word_2|> two<|TEXT_PROMPT_END|>" in written
    example = embedded.example("4 2", [1, 2], [0, 1], language="km")
    plain = embedded.example("4 2", [1, 2], [0, 1])
    assert len(example.input_ids) > len(plain.input_ids)
    assert [x for x in example.labels if x != IGNORED_LABEL] == [
        x for x in plain.labels if x != IGNORED_LABEL
    ]


def test_max_new_tokens_has_room_for_the_longest_reading(embedded: TokenStream):
    codes = [0] * embedded.layout.max_codes("1 2 3")
    speech = embedded.example("1 2 3", codes, [0, 1, 2]).input_ids
    new = len(speech) - len(embedded.prompt_ids("1 2 3"))
    assert embedded.max_new_tokens("1 2 3") >= new


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one word"),
        ("1234567", "at most 6 words, got 7"),
        ("one fish", "got fish in 'one fish'"),
        ("<|speech_1|>", "must not contain"),
    ],
)
def test_unspeakable_text_is_refused(embedded: TokenStream, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        embedded.layout.words(text)


def test_unknown_voice_is_refused_with_the_known_ones(embedded: TokenStream):
    with pytest.raises(ValueError, match=r"one of \['kal16'.*got 'slt'"):
        embedded.prompt_ids("one", "slt")


@pytest.mark.parametrize("starts", [None, [0], [1, 2], [0, 4], [0, -1]])
def test_word_starts_that_do_not_fit_are_refused(embedded: TokenStream, starts: list[int] | None):
    with pytest.raises(ValueError, match="word_starts must"):
        embedded.example("four two", [1, 2, 3], starts)


def test_word_starts_without_markers_are_refused():
    with pytest.raises(ValueError, match="no word markers"):
        NEUTTS.speech_text([1], "hello", word_starts=[0])


def test_tokenizer_without_the_tokens_is_refused(toy_tokenizer: PreTrainedTokenizerFast):
    with pytest.raises(ValueError, match="54 are missing"):
        TokenStream(NEUTTS, toy_tokenizer)


def test_padding_falls_back_on_the_end_token(toy_tokenizer: PreTrainedTokenizerFast):
    toy_tokenizer.add_tokens(NEUTTS.added_tokens())
    stream = TokenStream(NEUTTS, toy_tokenizer)
    assert stream.pad_id == stream.end_id


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "no field"},
        {"code": "<|speech|>"},
        {"codebook_size": "50"},
        {"codebok_size": 50},
        {"front_end": "phonemes", "markers": {"ordinal": "<|{ordinal}|>", "max_words": 2}},
        {"voices": ["awb"], "voice": "<|{voice}|>"},
    ],
)
def test_layout_file_is_strict(tmp_path: Path, change: dict[str, Any]):
    written = json.loads(NEUTTS.model_dump_json()) | change
    (tmp_path / LAYOUT_FILE).write_text(json.dumps(written))
    with pytest.raises(ValueError, match=LAYOUT_FILE):
        Layout.read(tmp_path)


def test_layout_file_round_trips(tmp_path: Path):
    (tmp_path / LAYOUT_FILE).write_text(NEUTTS.model_dump_json())
    assert Layout.read(tmp_path) == NEUTTS
