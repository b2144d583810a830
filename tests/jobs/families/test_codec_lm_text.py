"""Texts are counted without the base as the loaded base reads them."""

import json
import shutil
import subprocess
import sys

import pytest

from jobs import vendor
from jobs.data.checks.target import check_target
from jobs.embedded import BASE_DIR
from jobs.families import codec_lm_text, layout
from jobs.families.registry import load_base, open_text, sample_rate
from jobs.problems import InputError
from jobs.spec.data import DataSpec
from jobs.spec.trial import HostSpec

HOST = HostSpec(
    family="codec_lm", source="embedded", codec="embedded", voice=None, precision="fp32"
)
TEXTS = ("one", "zero nine", "350", "three five zero 12", "0 1 2 3 4 5")


def test_counts_are_those_of_the_loaded_base(embedded_base):
    reader, tagging = open_text(HOST), open_text(HOST.model_copy(update={"language_tag": True}))
    stream = embedded_base.stream
    for text in TEXTS:
        assert reader(text, None) == len(stream.prompt_ids(text))
        assert tagging(text, "km") == len(stream.prompt_ids(text, None, "km"))
        assert tagging(text, "km") > reader(text, "km") == reader(text, None)


def test_the_rate_is_that_of_the_loaded_base(embedded_base):
    assert sample_rate(HOST) == embedded_base.sample_rate


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "digits or the words"),
        ("1 2 3 4 5 6 7", "at most 6 words"),
        ("", "at least one word"),
        ("one <|end|>", "must not contain"),
    ],
)
def test_what_the_base_cannot_read_is_refused_in_its_words(embedded_base, text, why):
    with pytest.raises(ValueError, match=why) as told:
        open_text(HOST)(text, None)
    with pytest.raises(ValueError, match=why) as loaded:
        embedded_base.stream.prompt_ids(text)
    assert str(told.value) == str(loaded.value)


def test_a_base_that_lacks_files_says_which(tmp_path):
    host = HOST.model_copy(update={"source": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match=r"layout\.json"):
        open_text(host)
    shutil.copy(BASE_DIR / "layout.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        open_text(host)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="must be a tokenizer"):
        open_text(host)


@pytest.fixture
def phoneme_host(tmp_path):
    """The embedded base, as far as texts go, with phonemes in place of digits."""
    shutil.copy(BASE_DIR / "tokenizer.json", tmp_path)
    layout = json.loads((BASE_DIR / "layout.json").read_text())
    layout |= {"front_end": "phonemes", "markers": None}
    (tmp_path / "layout.json").write_text(json.dumps(layout))
    return HOST.model_copy(update={"source": str(tmp_path)})


def test_phonemes_are_counted(phoneme_host, monkeypatch):
    monkeypatch.setattr(codec_lm_text, "require_espeak", lambda: None)
    monkeypatch.setattr(layout, "phonemes", lambda text, language: f"one {language} " * 3)
    plain = open_text(HOST)("one", None)
    assert open_text(phoneme_host)("one", "en") > plain


def test_a_base_of_phonemes_needs_espeak(phoneme_host, monkeypatch):
    def version(package):
        raise vendor.PackageNotFoundError(package)

    monkeypatch.setattr(vendor, "version", version)
    with pytest.raises(ImportError, match="front end phonemes needs the package espeakng-loader"):
        open_text(phoneme_host)
    with pytest.raises(InputError, match="espeakng-loader, which is not installed; run `pip"):
        check_target(DataSpec(), phoneme_host)
    with pytest.raises(ImportError, match="espeakng-loader"):
        load_base(phoneme_host)


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="Did you mean codec_lm"):
        open_text(HOST.model_copy(update={"family": "codec-lm"}))


def test_no_torch_is_loaded():
    program = f"""
import sys
from jobs.families.registry import open_text, sample_rate
from jobs.spec.trial import HostSpec
host = HostSpec.model_validate({HOST.model_dump()!r})
assert open_text(host)("one two", None) > 2 and sample_rate(host) == 16000
assert not {{"torch", "transformers"}} & {{*sys.modules}}
"""
    subprocess.run([sys.executable, "-c", program], check=True)
