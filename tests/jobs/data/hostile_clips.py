"""Clips that no target should have, each with the rule that must find it.

Every case is written beside twenty-odd good clips, so that a rule which fires for everything is
found out too.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RATE = 16_000
Audio = NDArray[np.float64]


def babble(seed: int, seconds: float = 1.5, rate: int = RATE) -> Audio:
    """Noise in syllables that fills the whole spectrum, other for each seed; peak 0.5."""
    drawn = np.random.default_rng(seed).normal(size=int(seconds * rate))
    time = np.arange(len(drawn)) / rate
    # Quiet for 50 ms of each of its syllables, as speech is.
    audio = drawn * np.maximum(0.01, np.abs(np.sin(2 * math.pi * 3 * time)) - 0.4)
    return 0.5 * audio / np.abs(audio).max()


def upsampled(seed: int, low: int, high: int) -> Audio:
    """Babble at ``low`` Hz, brought to ``high`` Hz."""
    return soxr.resample(babble(seed, rate=low), low, high)


@dataclass
class Corpus:
    """A folder of clips and its manifest."""

    folder: Path
    rows: list[dict[str, object]] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.jsonl"

    def write(
        self, name: str, audio: Audio, rate: int = RATE, subtype: str = "PCM_16", **keys: object
    ) -> None:
        """One more clip, its text and split among ``keys``."""
        soundfile.write(self.folder / name, audio, rate, subtype=subtype)
        self.row(name, **keys)

    def row(self, name: str, **keys: object) -> None:
        said = {"text": f"{_words(len(self.rows))}.", "split": "train", "speaker": "ada"}
        row = {"audio": name, **said, **keys}
        self.rows.append({key: value for key, value in row.items() if value is not None})

    def save(self) -> Path:
        self.manifest.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        return self.manifest

    def line(self, number: int) -> str:
        """``manifest:line`` of the row ``number``, from the end if negative."""
        return f"{self.manifest}:{range(1, len(self.rows) + 1)[number]}"


GOOD = 24
"""Good clips of every corpus; the last four are held out."""


def good(folder: Path) -> Corpus:
    """Clips with nothing wrong."""
    corpus = Corpus(folder)
    for seed in range(GOOD):
        split = "validation" if seed >= GOOD - 4 else "train"
        corpus.write(f"good{seed}.wav", babble(seed, 1.2 + 0.02 * seed), split=split)
    return corpus


def _words(number: int) -> str:
    """A text of sixteen characters or so, other for each number."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join(letters[(number + step) % 26] * 4 + letters[number // 26] for step in range(3))


def _mp3(corpus: Corpus) -> None:
    """As an MP3 encoder leaves it: nothing above 16 kHz."""
    corpus.write("bad.wav", soxr.resample(babble(99, rate=32_000), 32_000, 44_100), 44_100)


def _container(corpus: Corpus) -> None:
    audio, rate = soundfile.read(corpus.folder / "good0.wav", dtype="int16")
    soundfile.write(corpus.folder / "bad.flac", audio, rate)
    corpus.row("bad.flac", text=corpus.rows[0]["text"])


def _leak_container(corpus: Corpus) -> None:
    audio, rate = soundfile.read(corpus.folder / f"good{GOOD - 1}.wav", dtype="int16")
    soundfile.write(corpus.folder / "bad.flac", audio, rate)
    corpus.row("bad.flac")


def _other_text(corpus: Corpus) -> None:
    audio, rate = soundfile.read(corpus.folder / "good0.wav", dtype="int16")
    soundfile.write(corpus.folder / "bad.wav", audio, rate)
    corpus.row("bad.wav")


def _clip(audio: Audio, rate: int = RATE, **keys: object) -> Callable[[Corpus], None]:
    return lambda corpus: corpus.write("bad.wav", audio, rate, **keys)


def _said(text: str, **keys: object) -> Callable[[Corpus], None]:
    return _clip(babble(99), text=text, **keys)


_TIME = np.arange(2 * RATE) / RATE
ERRORS: dict[str, tuple[Callable[[Corpus], None], str]] = {
    "digital silence": (_clip(np.zeros(RATE)), "audio-silent"),
    "a constant": (_clip(np.full(RATE, 0.4)), "audio-silent"),
    "hiss at -80 dBFS": (_clip(babble(99) * 1e-4, subtype="FLOAT"), "audio-silent"),
    "all clipped": (_clip(np.sign(babble(99))), "audio-clipped"),
    "a tenth clipped": (_clip(np.clip(babble(99) * 6, -1, 1)), "audio-clipped"),
    "a tenth of a second": (_clip(babble(99, 0.1)), "duration-short"),
    "half a minute": (_clip(babble(99, 30.0)), "duration-long"),
    "no file": (lambda corpus: corpus.row("gone.wav"), "audio-missing"),
    "a tag": (_said("well <laugh> yes then"), "text-tag"),
    "a tag in brackets": (_said("well [coughs] yes then"), "text-tag"),
    "a sound in round brackets": (_said("well (laughs softly) yes"), "text-tag"),
    "a sound between asterisks": (_said("well *sigh* yes then"), "text-tag"),
    "SSML": (_said('well <break time="1s"/> yes'), "text-tag"),
    "a template": (_said("well {name} yes then"), "text-tag"),
    "a model's own token": (_said("well <|end|> yes then"), "text-control"),
    "the beginning of one": (_said("well <| yes then on"), "text-control"),
    "punctuation alone": (_said("... !?"), "empty-text"),
    "the same clip twice": (_container, "duplicate-clip"),
    "one sound, two texts": (_other_text, "duplicate-audio"),
    "a held-out sound in another container": (_leak_container, "leak-audio"),
    "a held-out text": (
        lambda corpus: corpus.write(
            "bad.wav", babble(99), text=str(corpus.rows[-1]["text"]).upper()
        ),
        "leak-text",
    ),
    "no split where others have one": (_clip(babble(99), split=None), "split-missing"),
    "a reference that is not there": (
        _clip(babble(99), ref_audio="gone.wav"),
        "audio-missing",
    ),
}
"""What must be refused, by what is wrong with it."""

WARNINGS: dict[str, tuple[Callable[[Corpus], None], str]] = {
    "some clipped": (_clip(np.clip(babble(99) * 3, -1, 1)), "audio-clipped"),
    "a held-out text by another": (
        lambda corpus: corpus.write(
            "bad.wav", babble(99), text=corpus.rows[-1]["text"], speaker="bea"
        ),
        "leak-text",
    ),
    "a text twice": (
        lambda corpus: corpus.write("bad.wav", babble(99), text=corpus.rows[0]["text"]),
        "duplicate-text",
    ),
    "8 kHz as 16 kHz": (_clip(upsampled(99, 8000, 16_000)), "audio-upsampled"),
    "8 kHz as 48 kHz": (_clip(upsampled(99, 8000, 48_000), 48_000), "audio-upsampled"),
    "recorded at 8 kHz": (_clip(babble(99, rate=8000), 8000), "rate-low"),
    "a claim of ten seconds": (_clip(babble(99), duration=10.0), "duration-claimed"),
    "the text of another clip": (_said("a b"), "speaking-rate"),
    "a text that is longer than the sound": (
        _said("one two three four five six seven eight nine ten eleven twelve"),
        "speaking-rate",
    ),
}
"""What a person should look at, by what is odd about it."""

INNOCENT: dict[str, Callable[[Corpus], None]] = {
    "a tone": _clip(0.5 * np.sin(2 * math.pi * 1000 * _TIME[:RATE])),
    "white noise": _clip(0.1 * np.random.default_rng(99).normal(size=RATE)),
    "16 kHz as 48 kHz, for a base of 16 kHz": _clip(upsampled(99, RATE, 48_000), 48_000),
    "brackets that are read": _said("well (he said) yes"),
    "a comparison": _said("2 < 3 and 5 > 4, yes or no"),
    "a product": _said("2*3*4 is 24, ok"),
    "stereo": lambda corpus: corpus.write(
        "bad.wav", np.stack([babble(98), babble(99)], axis=1) * 0.7
    ),
    "MP3's low-pass, for a base of 16 kHz": _mp3,
}
"""What looks odd and is not."""
