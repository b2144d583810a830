"""The shipped base is an ordinary Qwen2 directory, and it speaks."""

import json
import warnings

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, Qwen2ForCausalLM

from jobs.codecs.recogniser import WordRecogniser
from jobs.embedded import BASE_DIR, CODEC_DIR, PROMPTS_DIR, RECOGNISER_DIR
from jobs.families import codec_lm
from jobs.families.codec_lm import CodecLM
from jobs.families.layout import DIGIT_WORDS
from jobs.metrics.words import word_edits
from jobs.spec.trial import DecodingSpec, PromptSpec

PROMPTS = 20


@pytest.fixture(scope="module")
def base() -> CodecLM:
    return codec_lm.load(BASE_DIR, CODEC_DIR, None, "fp32")


@pytest.fixture(scope="module")
def prompts() -> list[PromptSpec]:
    lines = (PROMPTS_DIR / "b.jsonl").read_text().splitlines()
    return [PromptSpec(**json.loads(line)) for line in lines[:PROMPTS]]


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


def test_codes_of_the_codec_are_those_of_the_layout(base: CodecLM):
    assert base.stream.layout.codebook_size == base.codec.codebook_size


def test_base_says_the_words_it_is_asked_for(base: CodecLM, prompts: list[PromptSpec]):
    spoken = base.speak(base.model, prompts, DecodingSpec(temperature=0))
    recogniser = WordRecogniser.load(RECOGNISER_DIR)
    heard = recogniser.transcribe_batch([clip.audio for clip in spoken], base.sample_rate)
    texts = [prompt.text.split() for prompt in prompts]
    edits = sum(word_edits(h, text) for h, text in zip(heard, texts, strict=True))
    assert edits / sum(map(len, texts)) < 0.25
    assert all(clip.reached_end for clip in spoken)


def test_no_embedding_of_a_code_is_left_untrained(base: CodecLM):
    table = base.model.get_input_embeddings().weight
    codes = table[torch.from_numpy(base.stream.code_ids)]
    assert torch.isfinite(codes).all()
    assert codes.norm(dim=1).min() > 0.1 * codes.norm(dim=1).mean()
