"""Texts as phonemes, in the letters of the IPA, by eSpeak NG. No torch here.

A text is written as NeuTTS writes it (``neutts`` 1.4.1, ``phonemizers.py``, which calls the package
``phonemizer``): with stress, with the punctuation of the text, white space squeezed, without the
flags that eSpeak puts around words of another language, and in French without hyphens.
"""

import ctypes
import re
import threading
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count

from jobs.vendor import require

ESPEAK = "espeakng-loader"
ESPEAK_VERSION = "0.2.4"
"""Has the library and its data inside. Another version may write a text differently, and a model
reads what it was trained on: so exactly this one, and it is in the digest of prepared data."""

_MARKS = re.compile(r"((?:\s*[;:,.!?¡¿—…\"«»“”(){}\[\]]+\s*)+)")
"""Punctuation that is kept: the default of phonemizer 3.3, with the space around it."""
_FLAG = re.compile(r"\(.+?\)")
"""Around words that eSpeak reads in another language, ``(en)wiːkˈɛnd(fr)``."""
_VOICES = {"en": "en-us", "zh": "cmn", "no": "nb"}
"""By a language, eSpeak's tag of the voice that stands for it: English is American, as NeuTTS's."""
_SYNCHRONOUS, _UTF8, _IPA = 2, 1, 2
"""Of ``speak_lib.h``: AUDIO_OUTPUT_SYNCHRONOUS, espeakCHARS_UTF8, and IPA of phonememode."""


def phonemes(text: str, language: str | None) -> str:
    """``text`` as phonemes.

    ``language`` is a tag. Without a voice for its region or script, eSpeak reads it in the voice of
    the language: ``en-IN`` as ``en``.

    Raises:
        ValueError: no language, none that eSpeak has a voice for, or nothing in the text is read.
        ImportError: eSpeak is not installed, or in another version; with the command.
    """
    if language is None:
        raise ValueError(
            f"phonemes need the language of the text, but {text!r} has none; give every clip and "
            "prompt its language"
        )
    espeak = _espeak()
    voice = espeak.voice(language)
    found = spelt(text, lambda words: espeak.ipa(words, voice))
    if not any(letter.isalnum() for letter in found):
        raise ValueError(f"text must have words that eSpeak reads, got {text!r} in {language}")
    if language.partition("-")[0] == "fr":
        found = " ".join(found.replace("-", "").split())
    return found


def spelt(text: str, ipa: Callable[[str], str]) -> str:
    """``text`` with what stands between its punctuation put through ``ipa``, as phonemizer does."""
    parts = _MARKS.split(text)  # words, marks, words, ..., words
    parts[::2] = [_FLAG.sub("", ipa(words)) if words else "" for words in parts[::2]]
    return " ".join("".join(parts).split())


def require_espeak() -> None:
    """Raises ImportError where eSpeak is not installed, or in another version."""
    require("front end phonemes", ESPEAK, ESPEAK_VERSION)


class _VoiceRow(ctypes.Structure):
    """``espeak_VOICE`` of ``speak_lib.h``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


class _Espeak:
    """The library, which has one voice at a time in a process."""

    def __init__(self) -> None:
        require_espeak()
        import espeakng_loader

        self._library = library = ctypes.CDLL(espeakng_loader.get_library_path())
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceRow))
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        data = espeakng_loader.get_data_path().encode()
        if library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0) < 0:
            raise ImportError(f"{ESPEAK} must start with its own data, but it does not: reinstall")
        # 1 is the first choice, so it comes last and stays.
        self._voices = {tag: voice for _, tag, voice in sorted(self._listed(), reverse=True)}
        self._lock = threading.Lock()
        self._current = ""

    def voice(self, language: str) -> str:
        """What eSpeak calls the voice of a language, by its longest tag that there is one for.

        Raises:
            ValueError: there is none.
        """
        parts = language.lower().split("-")
        for length in range(len(parts), 0, -1):
            tag = "-".join(parts[:length])
            if found := self._voices.get(_VOICES.get(tag, tag)):
                return found
        raise ValueError(
            f"the front end phonemes must have a voice of eSpeak for the language, and there is "
            f"none for {language}; train a base whose layout.json has front_end: plain, and with "
            "it give texts as they are, or as phonemes of your own"
        )

    def ipa(self, words: str, voice: str) -> str:
        """Words without punctuation as phonemes."""
        left = ctypes.c_char_p(words.replace("\0", " ").encode())
        clauses = []
        with self._lock:
            if voice != self._current:
                self._library.espeak_SetVoiceByName(voice.encode())
                self._current = voice
            while left.value:  # each call reads a clause, and moves on
                clause = self._library.espeak_TextToPhonemes(ctypes.byref(left), _UTF8, _IPA)
                clauses.append(clause.decode())
        return " ".join(clauses)

    def _listed(self) -> Iterator[tuple[int, str, str]]:
        """Of each voice and each of its tags: its priority, the tag in lower case, the voice."""
        rows = self._library.espeak_ListVoices(None)
        for number in count():
            if not rows[number]:
                return
            voice = rows[number].contents
            at = voice.languages
            while priority := ctypes.string_at(at, 1)[0]:  # a byte, the tag, a zero; again
                tag = ctypes.string_at(at + 1)
                yield priority, tag.decode().lower(), voice.identifier.decode()
                at += len(tag) + 2


@cache
def _espeak() -> _Espeak:
    return _Espeak()
