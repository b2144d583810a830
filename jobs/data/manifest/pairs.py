"""Recordings with their texts in files of their own: beside them, or as VCTK has them."""

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
_ORIGINAL = ".original.txt"
"""What LibriTTS has beside ``.normalized.txt``."""
_STRAY = re.compile(
    r"(?i)(readme|licen[cs]e|copying|notice|notes?|speakers?|speaker-info|changelog|"
    r"books?|chapters?|credits|requirements|version|transcripts?|metadata)([._ -].*)?\.txt"
)
_LIBRITTS = re.compile(r"(\d+)_(\d+)_\d+_\d+")
"""Speaker, chapter, paragraph and sentence."""
_VCTK_TEXTS = "txt"
_VCTK_AUDIO = ("wav48_silence_trimmed", "wav48", "wav")
"""Of VCTK 0.92, and of the one before."""
_SECOND_MICROPHONE = "_mic2"
_FIRST_MICROPHONE = "_mic1"


@dataclass
class Pairs:
    """The pairs of a folder, and what was seen of their kinds as they are read."""

    folder: str
    root: Root
    kinds: Counter[str] = field(default_factory=Counter)
    """How many texts were read, by the end of their names."""

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
        are told once, and so are texts such as README.txt.

        Raises:
            SourceError: the folder cannot be listed.
        """
        told: set[str] = set()
        for place, files, links in _walk(self.folder):
            if isinstance(files, SourceError):
                yield _refuse("folder", _where(self.folder, place), files)
                continue
            for name in links:
                what = "a link to a folder is not followed"
                hint = "Put the folder itself there, if it holds clips."
                yield warning("folder-link", _where(self.folder, place + name), what, hint)
            for item in self._read_folder(place, files):
                if isinstance(item, Finding) and item.rule in {"byte-order-mark", "file-not-read"}:
                    if item.rule in told:
                        continue
                    told.add(item.rule)
                yield item

    def _read_folder(self, place: str, files: list[str]) -> Iterator[Entry | Finding]:
        """The clips among ``files``, which lie in ``place``, below the folder."""
        audio, texts = _sort(files)
        for stem in sorted(audio.keys() | texts.keys()):
            recordings = audio.get(stem, [])
            where = _where(self.folder, place + (recordings or [texts.get(stem, "")])[0])
            if not recordings:
                if _STRAY.fullmatch(texts[stem]):
                    what = f"a text should have a recording, but {show(texts[stem])} has none"
                    yield warning("file-not-read", where, what, "It and its like are not read.")
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
        if _suffix(name) in AUDIO_SUFFIXES:
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


def _walk(
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

    Raises:
        SourceError: it cannot be listed.
    """
    ends: Counter[str] = Counter()
    for _, files, _ in _walk(folder):
        if isinstance(files, SourceError):
            return Counter()
        audio, texts = _sort(files)
        if audio.keys() & texts.keys():
            return Counter()
        for name in files:
            for end in (".trans.txt", *TEXT_SUFFIXES):
                if name.lower().endswith(end):
                    ends[end] += 1
                    break
            else:
                suffix = _suffix(name) or name
                ends["audio" if suffix in AUDIO_SUFFIXES else suffix] += 1
    return ends


def vctk_audio(folders: list[str]) -> str | None:
    """The folder of VCTK's recordings, where ``folders`` are those of VCTK."""
    if _VCTK_TEXTS not in folders:
        return None
    return next((name for name in _VCTK_AUDIO if name in folders), None)


def read_vctk(folder: str, audio: str, root: Root) -> Iterator[Entry | Finding]:
    """``txt/SPEAKER/x.txt`` with ``wav48/SPEAKER/x.wav``; of two microphones the first.

    Both folders may also hold the files themselves, without speakers.

    Raises:
        SourceError: a folder cannot be listed.
    """
    top, speakers, _ = list_folder(join(folder, audio))
    texts, with_texts, _ = list_folder(join(folder, _VCTK_TEXTS))
    yield from _beside(folder, (audio, _VCTK_TEXTS), (top, texts), root, None)
    for speaker in speakers:
        both = (f"{audio}/{speaker}", f"{_VCTK_TEXTS}/{speaker}")
        recordings, _, _ = list_folder(join(folder, both[0]))
        names, _, _ = list_folder(join(folder, both[1])) if speaker in with_texts else ([], [], [])
        yield from _beside(folder, both, (recordings, names), root, speaker)


def _beside(
    folder: str,
    places: tuple[str, str],
    files: tuple[list[str], list[str]],
    root: Root,
    speaker: str | None,
) -> Iterator[Entry | Finding]:
    """The recordings of one place with their texts in the other."""
    recordings = [name for name in files[0] if _suffix(name) in AUDIO_SUFFIXES]
    if any(_FIRST_MICROPHONE in name for name in recordings):
        recordings = [name for name in recordings if _SECOND_MICROPHONE not in name]
    texts = set(files[1])
    missing = []
    for name in recordings:
        text = name.rpartition(".")[0].removesuffix(_FIRST_MICROPHONE) + ".txt"
        if text in texts:
            where = _where(folder, f"{places[0]}/{name}")
            parts = (f"{places[0]}/{name}", f"{places[1]}/{text}")
            yield from read_pair(where, *parts, root, speaker)
        else:
            missing.append(name)
    if missing:
        what = (
            f"a recording should have its text in {places[1]}, but {len(missing)} of "
            f"{len(recordings)} have none, as {show(missing[0])}"
        )
        yield warning("audio-without-text", _where(folder, places[0]), what, "They are left out.")


def _suffix(name: str) -> str:
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


def _where(folder: str, name: str) -> str:
    """A place in ``folder``; a name may hold line feeds, or bytes that no text can hold."""
    place = join(folder, name)
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in place
    )
