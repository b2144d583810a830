"""Hostile folders, read without a list."""

import codecs
import os
from collections.abc import Callable
from pathlib import Path

import soundfile

from tests.jobs.data.hostile_case import RATE, Case, tone


def write_pair(root: Path, stem: str, text: bytes | None = b"one\n", suffix: str = ".wav") -> None:
    soundfile.write(root / f"{stem}{suffix}", tone(), RATE)
    if text is not None:
        (root / f"{stem}.txt").write_bytes(text)


def pairs(
    name: str,
    rule: str | None,
    place: str,
    build: Callable[[Path], None],
    left: int = 1,
    severity: str = "error",
) -> Case:
    """A folder with one good pair, and what ``build`` puts beside it."""

    def write(root: Path) -> None:
        write_pair(root, "a")
        build(root)

    return Case(name, rule, write, place, left, severity, manifest="")


def ljspeech(name: str, rule: str | None, line: str, left: int = 1) -> Case:
    """A ``metadata.csv`` whose second line is ``line``."""

    def write(root: Path) -> None:
        (root / "wavs").mkdir()
        write_pair(root / "wavs", "a", None)
        (root / "metadata.csv").write_text(f"a|1|one\n{line}\n")

    return Case(name, rule, write, "metadata.csv:2", left, manifest="")


def linked_text(root: Path) -> None:
    write_pair(root, "b", None)
    (root / "b.txt").symlink_to("../outside/canary.txt")


def fifo_text(root: Path) -> None:
    write_pair(root, "b", None)
    os.mkfifo(root / "b.txt")


def linked_recording(root: Path) -> None:
    (root / "b.wav").symlink_to("../outside/canary.wav")
    (root / "b.txt").write_text("one")


def two_recordings(root: Path) -> None:
    write_pair(root, "b")
    write_pair(root, "b", None, ".flac")


def name_of_bytes(root: Path) -> None:
    write_pair(root, "b")
    for path in (root / "b.wav", root / "b.txt"):
        path.rename(path.with_stem(os.fsdecode(b"b\xff")))


def byte_order_marks(root: Path) -> None:
    for stem in "bc":
        write_pair(root, stem, codecs.BOM_UTF8 + b"one")


def hidden(root: Path) -> None:
    (root / "._a.wav").write_bytes(b"what macOS keeps of a file")
    (root / ".git").mkdir()


def deeper(root: Path) -> None:
    (root / "x" / "y").mkdir(parents=True)
    write_pair(root / "x" / "y", "b", b"one\r\ntwo\r\n")


CASES = [
    pairs(
        "recording without text", "audio-without-text", "b.wav", lambda r: write_pair(r, "b", None)
    ),
    pairs("text without recording", "text-without-audio", "b.txt", lambda r: _text(r, "b", b"one")),
    pairs("two recordings of a text", "several-recordings", "b.flac", two_recordings),
    pairs("empty text file", "empty-text", "b.wav", lambda r: write_pair(r, "b", b"\n")),
    pairs("latin-1 text file", "not-utf8", "b.wav", lambda r: write_pair(r, "b", b"caf\xe9")),
    pairs("nul in a text file", "bad-characters", "b.wav", lambda r: write_pair(r, "b", b"a\0b")),
    pairs("10 MB text file", "text-too-large", "b.wav", lambda r: write_pair(r, "b", b"a" * 10**7)),
    pairs("text that links out", "text-link-outside-root", "b.wav", linked_text),
    pairs("recording that links out", "audio-link-outside-root", "b.wav", linked_recording),
    pairs("fifo as text", "text-not-a-file", "b.wav", fifo_text),
    pairs("name that is not utf-8", "text-bad-name", "b\\udcff.wav", name_of_bytes),
    pairs(
        "folder that links to its parent",
        "folder-link",
        "again",
        lambda root: (root / "again").symlink_to("."),
        severity="warning",
    ),
    pairs(
        "link to a folder outside",
        "folder-link",
        "more",
        lambda root: (root / "more").symlink_to("../outside"),
        severity="warning",
    ),
    pairs(
        "byte order marks",
        "byte-order-mark",
        "b.wav",
        byte_order_marks,
        left=3,
        severity="warning",
    ),
    Case("empty folder", "no-clips", lambda root: None, "", 0, manifest=""),
    ljspeech("one column", "bad-columns", "a"),
    ljspeech("four columns", "bad-columns", "a|one|two|three"),
    ljspeech("id that leaves the folder", "audio-outside-root", "../../outside/canary|1|one"),
    ljspeech("id without recording", "audio-missing", "b|1|one"),
    ljspeech("id with its suffix", None, "a.wav|1|one", left=2),
    ljspeech("id with another suffix", "audio-missing", "a.flac|1|one"),
    ljspeech("line without text", "empty-text", "a||"),
    ljspeech("blank line in the middle", "blank-line", "\na|2|two", left=2),
    ljspeech("blank lines at the end", None, "\n \n\n"),
    ljspeech("line without normalised text", None, "a|one|", left=2),
    pairs("hidden files", None, "", hidden),
    pairs(
        "a file that is neither",
        "file-not-read",
        "notes.md",
        lambda root: (root / "notes.md").write_text("not read"),
        severity="warning",
    ),
    pairs("folders in folders", None, "", deeper, left=2),
]


def _text(root: Path, stem: str, text: bytes) -> None:
    (root / f"{stem}.txt").write_bytes(text)
