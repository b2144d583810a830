"""What people write for a language becomes its tag, or is refused with the nearest."""

import pytest
from pydantic import ValidationError

from jobs.families.description import QWEN3_TTS_RULES
from jobs.families.qwen3_tts.layout import LANGUAGES
from jobs.spec.data import DataSpec
from jobs.spec.languages import language_name, language_tag

TAGS = {
    "en": "en",
    "EN": "en",
    "eng": "en",
    "English": "en",
    "en_US": "en-US",
    "en-us": "en-US",
    "en_US.UTF-8": "en-US",
    "jp": "ja",
    "jpn": "ja",
    "Japanese": "ja",
    "日本語": "ja",
    "cmn": "zh",
    "chi": "zh",
    "zho": "zh",
    "cn": "zh",
    "Mandarin": "zh",
    "zh-hant": "zh-Hant",
    "zh-Hans-CN": "zh-Hans-CN",
    "cmn-hans": "zh-Hans",
    "khm": "km",
    "kh": "km",
    "ger": "de",
    "Deutsch": "de",
    "es-419": "es-419",
    "ca-valencia": "ca-valencia",
    "haw": "haw",
    "yue": "yue",
    " ko ": "ko",
}
REFUSED = {
    "Englisch": "Did you mean en (English)?",
    "Japaneese": "Did you mean ja (Japanese)?",
    "Khmer!": "Did you mean km (Khmer)?",
    "xx": "",
    "en-": "",
    "en-U": "",
    "en us": "",
    "123": "Write it as BCP 47 has it.",
    "km\n": "",
    "": "Write it as BCP 47 has it.",
}


@pytest.mark.parametrize(("written", "tag"), TAGS.items())
def test_a_language_has_one_tag_whatever_is_written(written: str, tag: str):
    assert language_tag(written) == tag
    assert language_tag(tag) == tag


@pytest.mark.parametrize(("written", "advice"), REFUSED.items(), ids=ascii)
def test_what_is_no_language_is_refused_with_the_nearest(written: str, advice: str):
    with pytest.raises(ValueError, match="a language must be a tag") as caught:
        language_tag(written)
    assert repr(written) in str(caught.value)
    assert advice in str(caught.value)


def test_languages_have_names():
    assert language_name("zh-Hant") == "Chinese"
    assert language_name("haw") == "haw"


def test_a_mix_is_of_tags():
    mixes = {"even": {"by": "language", "shares": {"Khmer": 1, "kor": 2}}}
    assert DataSpec(mixes=mixes).mixes["even"].shares == {"km": 1, "ko": 2}
    with pytest.raises(ValidationError, match="each language once"):
        DataSpec(mixes={"even": {"by": "language", "shares": {"en": 1, "EN": 2}}})
    speakers = {"two": {"by": "speaker", "shares": {"English": 1}}}
    assert DataSpec(mixes=speakers).mixes["two"].shares == {"English": 1}


def test_the_rules_of_qwen3_tts_name_its_languages():
    assert frozenset(LANGUAGES) == QWEN3_TTS_RULES.languages
