"""Recordings with their texts in files of their own beside them."""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from cluster.sources.reading import Root, SourceError, join, list_folder, open_binary
from jobs.audio.foreign import FOREIGN_SUFFIXES
from jobs.data.findings import Finding, error, warning
from jobs.data.manifest.lines import (
    MAX_LINE_BYTES,
    Entry,
    byte_order_mark,
    decode_text,
    show,
)

_OWN_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", ".aif", ".aiff")
AUDIO_SUFFIXES = (*_OWN_SUFFIXES, *sorted(FOREIGN_SUFFIXES))
"""What makes a file of a folder a clip; in whatever case."""
TEXT_SUFFIXES = (".normalized.txt", ".txt", ".lab")
"""Of a recording's text, the first that is there counts; ``x.wav.txt`` is a text of ``x.wav``."""
JSON_BESIDE = ".json beside a recording"
_ORIGINAL = ".original.txt"
"""What LibriTTS has beside ``.normalized.txt``."""
_STRAY = re.compile(
    r"(?i)(readme|licen[cs]e|copying|notice|notes?|speakers?|speaker-info|changelog|"
    r"books?|chapters?|credits|requirements|version|transcripts?|metadata)([._ -].*)?\.txt"
)
_LIBRITTS = re.compile(r"(\d+)_(\d+)_\d+_\d+")
"""Speaker, chapter, paragraph and sentence."""


@dataclass
class Pairs:
    """The pairs of a folder, and what was seen of their kinds as they are read."""

    folder: str
    root: Root
    kinds: Counter[str] = field(default_factory=Counter)
    """How many texts were read, by the end of their names."""
    unread: dict[str, list[str]] = field(default_factory=dict)
    """The other files that were met, by what they are."""

    @property
    def name(self) -> str:
        """In words, for ``reads as``."""
        if ".normalized.txt" in self.kinds:
            return "LibriTTS (.normalized.txt beside each recording)"
        kinds = " and ".join(sorted(self.kinds)) or ".txt"
        return f"recordings with their texts beside them ({kinds})"

    def read(self) -> Iterator[Entry | Finding]:
        """Every recording below the folder with the text of the same name beside it, by name.

        Links to folders are reported and not followed; hidden files are left out. Byte order marks
        are told once, and in the end all files that are neither, such as README.txt.

        Raises:
            SourceError: the folder cannot be listed.
        """
        told: set[str] = set()
        for place, files, links in walk(self.folder):
            if isinstance(files, SourceError):
                yield _refuse("folder", place_in(self.folder, place), files)
                continue
            for name in links:
                what = "a link to a folder is not followed"
                hint = "Put the folder itself there, if it holds clips."
                yield warning("folder-link", place_in(self.folder, place + name), what, hint)
            for item in self._read_folder(place, files):
                if isinstance(item, Finding) and item.rule == "byte-order-mark":
                    if item.rule in told:
                        continue
                    told.add(item.rule)
                yield item
        if self.unread:
            names = [name for found in self.unread.values() for name in found]
            kinds = ", ".join(
                found[0] if len(found) == 1 else f"{len(found)} {kind}"
                for kind, found in sorted(self.unread.items())
            )
            what = f"files should be recordings and their texts, but {len(names)} are not ({kinds})"
            yield warning(
                "file-not-read", place_in(self.folder, names[0]), what, "They are not read."
            )

    def _read_folder(self, place: str, files: list[str]) -> Iterator[Entry | Finding]:
        """The clips among ``files``, which lie in ``place``, below the folder."""
        audio, texts = _sort(files)
        for name in files:
            suffix = suffix_of(name)
            if suffix not in AUDIO_SUFFIXES and not name.lower().endswith(TEXT_SUFFIXES):
                self.unread.setdefault(suffix or "files without a suffix", []).append(place + name)
        for stem in sorted(audio.keys() | texts.keys()):
            recordings = audio.get(stem, [])
            where = place_in(self.folder, place + (recordings or [texts.get(stem, "")])[0])
            if not recordings:
                if _STRAY.fullmatch(texts[stem]):
                    self.unread.setdefault("texts", []).append(place + texts[stem])
                    continue
                what = "a text must have a recording of the same name beside it"
                hint = "Add the recording, or move the text."
                yield error("text-without-audio", where, what, hint)
            elif len(recordings) > 1:
                what = f"a text must have one recording, but has {len(recordings)}: {recordings}"
                yield error("several-recordings", where, what, "Keep one.")
            elif stem not in texts:
                what = f"a recording must have its text beside it, as {show(stem + '.txt')}"
                hint = "Add the text, or move the recording."
                yield error("audio-without-text", where, what, hint)
            else:
                speaker = None
                if texts[stem].endswith(TEXT_SUFFIXES[0]) and (of := _LIBRITTS.fullmatch(stem)):
                    speaker = of.group(1)
                self.kinds[texts[stem].removeprefix(stem)] += 1
                yield from read_pair(
                    where, place + recordings[0], place + texts[stem], self.root, speaker
                )


def _sort(files: list[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The recordings of a folder, and the name of each text, by what is the same in both."""
    audio: dict[str, list[str]] = {}
    found: dict[str, dict[str, str]] = {}
    for name in files:
        if suffix_of(name) in AUDIO_SUFFIXES:
            audio.setdefault(name.rpartition(".")[0], []).append(name)
            continue
        for end in TEXT_SUFFIXES:
            if name.lower().endswith(end):
                found.setdefault(name[: -len(end)], {})[end] = name
                break
    originals = {stem for stem, each in found.items() if TEXT_SUFFIXES[0] in each}
    texts = {stem: each[min(each, key=TEXT_SUFFIXES.index)] for stem, each in found.items()}
    for stem in originals:
        texts.pop(stem + _ORIGINAL.removesuffix(".txt"), None)
    for stem, recordings in audio.items():
        for name in recordings:
            if name in texts:  # of Whisper: x.wav.txt
                texts.setdefault(stem, texts[name])
                del texts[name]
    return audio, texts


def walk(
    folder: str,
) -> Iterator[tuple[str, list[str] | SourceError, list[str]]]:
    """Each folder below, with its files and links to folders, or why it cannot be listed.

    Raises:
        SourceError: ``folder`` itself cannot be listed.
    """
    waiting = [""]
    while waiting:
        place = waiting.pop()
        try:
            files, folders, links = list_folder(join(folder, place) if place else folder)
        except SourceError as problem:
            if not place:
                raise
            yield place, problem, []
            continue
        waiting += [f"{place}{name}/" for name in reversed(folders)]
        yield place, files, links


def what_is_there(folder: str) -> Counter[str]:
    """How many files a folder without a single pair has, by the end of their names; else empty.

    Recordings count as ``audio``, and JSON files of the same names as :data:`JSON_BESIDE`.

    Raises:
        SourceError: it cannot be listed.
    """
    ends: Counter[str] = Counter()
    for _, files, _ in walk(folder):
        if isinstance(files, SourceError):
            return Counter()
        audio, texts = _sort(files)
        if audio.keys() & texts.keys():
            return Counter()
        for name in files:
            for end in TEXT_SUFFIXES:
                if name.lower().endswith(end):
                    ends[end] += 1
                    break
            else:
                suffix = suffix_of(name) or name
                if suffix in AUDIO_SUFFIXES:
                    suffix = "audio"
                elif suffix == ".json" and name.rpartition(".")[0] in audio:
                    suffix = JSON_BESIDE
                ends[suffix] += 1
    return ends


def suffix_of(name: str) -> str:
    """In lower case, with its dot; empty where there is none."""
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def read_pair(
    where: str, audio: str, text: str, root: Root, speaker: str | None
) -> Iterator[Entry | Finding]:
    """A recording with the text that its file has."""
    try:
        with open_binary(root.locate(text), MAX_LINE_BYTES) as file:
            data = file.read()
    except SourceError as problem:
        yield _refuse("text", where, problem)
        return
    if data.startswith(codecs.BOM_UTF8):
        yield byte_order_mark(where)
    content = decode_text(data.removeprefix(codecs.BOM_UTF8), where)
    if isinstance(content, Finding):
        yield content
        return
    # A text of several lines is one text; how its lines end does not matter.
    lines = (line.strip() for line in content.split("\n"))
    values = {"audio": audio, "text": " ".join(filter(None, lines))}
    yield Entry(where, values if speaker is None else {**values, "speaker": speaker})


def _refuse(part: str, where: str, problem: SourceError) -> Finding:
    return error(f"{part}-{problem.rule}", where, f"{part} {problem.what}", problem.next_step)


def place_in(folder: str, name: str) -> str:
    """A place in ``folder``; a name may hold line feeds, or bytes that no text can hold."""
    place = join(folder, name)
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in place
    )
