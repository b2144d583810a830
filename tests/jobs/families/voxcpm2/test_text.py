"""Texts become the ids of the package's own tokenizer, with and without the loaded base."""

import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from jobs.families.base import AdapterExtras
from jobs.families.registry import open_text, sample_rate, speech_rate
from jobs.families.voxcpm2.text import TextIds
from jobs.spec.trial import PromptSpec
from tests.embedded_voice import EMBEDDED_HOST

TEXTS = (
    "one",
    "Two  nines, and 350!",
    "[km] សួស្តី ពិភពលោក",
    "[ko] 안녕 세계",
    "世界 你好",
    " three\tzero ",
)


@pytest.fixture(scope="module")
def host(tiny_voxcpm2_source: Path) -> Any:
    return EMBEDDED_HOST.model_copy(
        update={"family": "voxcpm2", "source": str(tiny_voxcpm2_source)}
    )


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_the_packages(tiny: Any, package: Any, tiny_voxcpm2_source: Path, text: str):
    collapsed = re.sub(r"\s+", " ", text)
    assert tiny._ids(text) == package.text_tokenizer(collapsed)
    if "世" not in text:
        fast = PreTrainedTokenizerFast(tokenizer_file=str(tiny_voxcpm2_source / "tokenizer.json"))
        assert tiny._ids(text) == fast.encode(collapsed, add_special_tokens=False)


def test_a_word_of_chinese_is_read_character_by_character(tiny: Any):
    assert len(tiny._ids("世界")) == len(tiny._ids("世")) + 1
    assert "世界" in tiny._ids._split


def test_a_character_without_a_token_is_named_where_none_stands_for_it():
    tokenizer = Tokenizer(models.WordLevel({"one": 0, "<unk>": 1}, unk_token="<unk>"))
    assert TextIds(tokenizer, "<unk>")("two") == [1]
    with pytest.raises(ValueError, match="no token for '世'"):
        TextIds(Tokenizer(models.WordLevel({"世界": 0}, unk_token="世界")), None)("世界")


def test_counts_and_rates_are_those_of_the_loaded_base(host: Any, tiny: Any):
    reader = open_text(host)
    assert reader is not None
    for text in TEXTS:
        assert reader(text, None) == len(tiny._ids(text))
    tagging = open_text(host.model_copy(update={"language_tag": True}))
    assert tagging is not None
    assert tagging("one", "km") == len(tiny._ids("[km] one"))
    assert reader("one", "km") == reader("one", None)
    with pytest.raises(ValueError, match="must have words"):
        reader(" ", None)
    assert (sample_rate(host), speech_rate(host)) == (tiny.sample_rate, tiny.speech_rate)
    elsewhere = host.model_copy(update={"source": "hub:openbmb/VoxCPM2"})
    assert open_text(elsewhere) is None
    assert sample_rate(elsewhere) == 16_000
    with pytest.raises(FileNotFoundError, match="there is no /no/such"):
        open_text(host.model_copy(update={"source": "/no/such"}))


def test_an_adapter_says_how_its_texts_were_read(tiny: Any):
    extras = tiny.adapter_extras()
    tiny.load_extras(extras)
    other = AdapterExtras({}, {**extras.facts, "text_ids": "another"})
    with pytest.raises(ValueError, match=r"fingerprint another, got .*; use the tokenizer.json"):
        tiny.load_extras(other)


def test_a_tag_stands_before_the_text_in_training_and_in_speech(tiny: Any):
    tagging = type(tiny).__new__(type(tiny))
    tagging.__dict__ |= tiny.__dict__ | {"_language_tag": True}
    prompt = PromptSpec(id="p", text="one", language="km")
    assert tagging._text_ids(prompt) == tiny._ids("[km] one")
    with pytest.raises(ValueError, match="needs a language, but p has none"):
        tagging._text_ids(prompt.model_copy(update={"language": None}))
