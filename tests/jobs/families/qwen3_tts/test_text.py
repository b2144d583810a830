"""Texts are counted without the base as the loaded base reads them."""

import pytest

from jobs.families.registry import open_text, sample_rate
from tests.embedded_voice import EMBEDDED_HOST

TEXTS = ("one", "Two  nines, and 350!", "មួយ ពីរ", " three five\tzero ", "a\nb")


@pytest.fixture(scope="module")
def host(tiny_qwen3_tts_source):
    return EMBEDDED_HOST.model_copy(
        update={"family": "qwen3_tts", "source": str(tiny_qwen3_tts_source)}
    )


def test_counts_and_rate_are_those_of_the_loaded_base(host, tiny_qwen3_tts):
    reader = open_text(host)
    for text in TEXTS:
        assert reader(text, None) == tiny_qwen3_tts.layout.prompt(text, None).text_tokens
    tagging = open_text(host.model_copy(update={"language_tag": True}))
    assert tagging("one", "km") > reader("one", "km") == reader("one", None)
    assert sample_rate(host) == tiny_qwen3_tts.sample_rate


def test_a_text_without_words_is_refused(host):
    with pytest.raises(ValueError, match="must have words"):
        open_text(host)(" ", None)


@pytest.mark.parametrize("source", ["hub:Qwen/Qwen3-TTS-12Hz-0.6B-Base", "embedded"])
def test_of_a_base_that_is_elsewhere_only_the_rate_is_known(host, source):
    elsewhere = host.model_copy(update={"source": source})
    assert open_text(elsewhere) is None
    assert sample_rate(elsewhere) == 24_000


def test_a_directory_that_is_not_there_is_named(host):
    with pytest.raises(FileNotFoundError, match="there is no /no/such"):
        open_text(host.model_copy(update={"source": "/no/such"}))
