"""The shipped base is an ordinary Qwen2 directory, and it speaks."""

import json
import warnings

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, Qwen2ForCausalLM

from jobs.codecs.world import WorldCodec
from jobs.embedded import BASE_DIR, CODEC_DIR, PROMPTS_DIR, RECOGNISER_DIR
from jobs.embedded.rebuild.speech import Speaker, word_error_rate
from jobs.embedded.recogniser import WordRecogniser
from jobs.families.layout import DIGIT_WORDS, Layout

PROMPTS = 20


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker.load(BASE_DIR, WorldCodec.load(CODEC_DIR))


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    lines = (PROMPTS_DIR / "b.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines[:PROMPTS]]


def test_loads_without_a_warning(caplog: pytest.LogCaptureFixture):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer = AutoTokenizer.from_pretrained(BASE_DIR)
        model, report = Qwen2ForCausalLM.from_pretrained(BASE_DIR, output_loading_info=True)
    assert not any(report.values())
    assert caplog.records == []
    assert model.config.vocab_size == len(tokenizer)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_is_of_the_size_that_the_sweep_plans_with():
    config = AutoConfig.from_pretrained(BASE_DIR)
    assert (config.model_type, config.hidden_size, config.num_hidden_layers) == ("qwen2", 192, 4)


def test_words_and_bytes_are_tokens_as_in_qwen2():
    tokenizer = AutoTokenizer.from_pretrained(BASE_DIR)
    for word in DIGIT_WORDS:
        assert len(tokenizer.encode(f" {word}")) == 1
    text = "Grüße, 字 don't 42\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_codes_of_the_codec_are_those_of_the_layout(speaker: Speaker):
    assert Layout.read(BASE_DIR).codebook_size == speaker.codec.codebook_size


def test_base_says_the_words_it_is_asked_for(speaker: Speaker, prompts: list[str]):
    recogniser = WordRecogniser.load(RECOGNISER_DIR)
    error = word_error_rate(recogniser, speaker.speak(prompts), prompts, speaker.codec.sample_rate)
    assert error < 0.25


def test_no_embedding_of_a_code_is_left_untrained(speaker: Speaker):
    table = speaker.model.get_input_embeddings().weight
    codes = table[torch.from_numpy(speaker.stream.code_ids)]
    assert torch.isfinite(codes).all()
    assert codes.norm(dim=1).min() > 0.1 * codes.norm(dim=1).mean()
