"""Texts as phonemes: as NeuTTS writes them, and refused where eSpeak cannot."""

import pytest

from jobs import vendor
from jobs.families.phonemes import ESPEAK, ESPEAK_VERSION, phonemes, require_espeak, spelt


def test_words_are_spelt_between_the_punctuation_that_is_kept():
    heard = []

    def ipa(words: str) -> str:
        heard.append(words)
        return words.upper()

    assert spelt("  ...one two,  three —\nfour (five)?! six", ipa) == (
        "...ONE TWO, THREE — FOUR (FIVE)?! SIX"
    )
    assert heard == ["one two", "three", "four", "five", "six"]


def test_flags_of_another_language_are_no_phonemes():
    assert spelt("le meeting.", lambda words: "lə (en)mˈiːtɪŋ(fr)") == "lə mˈiːtɪŋ."


@pytest.mark.parametrize("found", [None, "0.2.3"])
def test_what_must_be_installed_is_said_with_the_command(
    found: str | None, monkeypatch: pytest.MonkeyPatch
):
    def version(package: str) -> str:
        if found is None:
            raise vendor.PackageNotFoundError(package)
        return found

    monkeypatch.setattr(vendor, "version", version)
    with pytest.raises(ImportError, match=f"`pip install --no-deps {ESPEAK}=={ESPEAK_VERSION}`"):
        require_espeak()


def test_a_text_without_a_language_is_refused():
    with pytest.raises(ValueError, match="need the language of the text, but 'one' has none"):
        phonemes("one", None)


@pytest.fixture
def espeak() -> None:
    pytest.importorskip("espeakng_loader", reason=f"needs {ESPEAK}: pip install {ESPEAK}")


# What phonemizer-fork 3.3.2 and eSpeak NG's library out of neutts 1.4.1 write of the same texts
# with NeuTTS's settings, and NeuTTS's clean-up of French.
NEUTTS = [
    ("en", "Hello world, zero one two.", "həlˈoʊ wˈɜːld, zˈiəɹoʊ wˈʌn tˈuː."),
    ("en", "It's 3.5 of the U.S. dollars; or: (text) —  so…",
     "ɪts θɹˈiː.fˈaɪv ʌvðə jˈuː.ˈɛs. dˈɑːlɚz; ɔːɹ: (tˈɛkst) — sˈoʊ…"),
    ("en", "  ...Leading dots, and trailing  ", "...lˈiːdɪŋ dˈɑːts, ænd tɹˈeɪlɪŋ"),
    ("en", "¿Que? ¡No!", "¿kwˈɛ? ¡nˈoʊ!"),
    ("de", "Guten Tag, meine Damen und Herren! Computer.",
     "ɡˈuːtən tˈɑːk, mˌaɪnə dˈɑːmən ʊnt hˈɛrən! kɔmpjˈuːtɜ."),
    ("fr", "Bonjour le week-end, l'ami ; ça va ?", "bɔ̃ʒˈuʁ lə wˈiːkˈɛnd, lamˈi ; sa vˈa ?"),
    ("es", "¿Qué tal? Bien.", "¿kˈe tˈal? bjˈen."),
    ("zh", "你好，世界。", "ni2χˈɑu2 s.ˈi.5 tɕˈiɛ5"),
]  # fmt: skip


@pytest.mark.usefixtures("espeak")
def test_phonemes_are_those_of_neutts():
    # Backwards too: a text's phonemes do not depend on what was said before.
    for language, text, written in NEUTTS + NEUTTS[::-1]:
        assert phonemes(text, language) == written


@pytest.mark.usefixtures("espeak")
def test_a_language_is_read_by_the_nearest_voice_that_there_is():
    american, british = phonemes("a bath", "en-US"), phonemes("a bath", "en-GB")
    assert american != british
    assert phonemes("a bath", "en") == phonemes("a bath", "en-IN") == american
    assert phonemes("你好", "zh-Hant") == phonemes("你好", "zh")


@pytest.mark.usefixtures("espeak")
@pytest.mark.parametrize(
    ("text", "language", "why"),
    [
        ("សួស្តី", "km", "none for km; train a base whose layout.json has front_end: plain"),
        ("one", "lo-LA", "none for lo-LA"),
        ("...", "en", "must have words that eSpeak reads"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, language: str, why: str):
    with pytest.raises(ValueError, match=why):
        phonemes(text, language)
