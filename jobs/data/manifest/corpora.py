"""Layouts whose texts lie apart from the recordings: VCTK, Kaldi, and lists of names and texts."""

import dataclasses
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster.sources.reading import Root, SourceError, join, list_folder, read_start
from jobs.data.findings import Finding, error, warning
from jobs.data.manifest.lines import Entry, read_text_lines, show
from jobs.data.manifest.pairs import AUDIO_SUFFIXES, place_in, read_pair, suffix_of, walk

_VCTK_TEXTS = "txt"
_VCTK_AUDIO = ("wav48_silence_trimmed", "wav48", "wav")
"""Of VCTK 0.92, and of the one before."""
_SECOND_MICROPHONE = "_mic2"
_FIRST_MICROPHONE = "_mic1"
_LIBRISPEECH_TEXTS = ".trans.txt"
_LIBRISPEECH = re.compile(r"(\d+)-\d+-\d+")
"""Speaker, chapter and sentence."""
_NAMED_TEXTS = (".txt", ".lab", ".done.data")
"""Ends of the files that may list names and texts; the last is Festvox's."""
_NAMED = re.compile(r"(\S+?)(?:\s*[:：]\s*|\s+)(\S.*)")
_FESTVOX = re.compile(r'\(\s*(\S+)\s+"(.*)"\s*\)')
_START, _LINES = 4096, 20
"""Bytes and lines by which such a list is recognised."""
KALDI_FILES = frozenset({"wav.scp", "text"})
KALDI_SEGMENTS = "segments"
_KALDI_SPEAKERS = "utt2spk"


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
    recordings = [name for name in files[0] if suffix_of(name) in AUDIO_SUFFIXES]
    if any(_FIRST_MICROPHONE in name for name in recordings):
        recordings = [name for name in recordings if _SECOND_MICROPHONE not in name]
    texts = set(files[1])
    missing = []
    for name in recordings:
        text = name.rpartition(".")[0].removesuffix(_FIRST_MICROPHONE) + ".txt"
        if text in texts:
            where = place_in(folder, f"{places[0]}/{name}")
            parts = (f"{places[0]}/{name}", f"{places[1]}/{text}")
            yield from read_pair(where, *parts, root, speaker)
        else:
            missing.append(name)
    if missing:
        what = (
            f"a recording should have its text in {places[1]}, but {len(missing)} of "
            f"{len(recordings)} have none, as {show(missing[0])}"
        )
        yield warning("audio-without-text", place_in(folder, places[0]), what, "They are left out.")


@dataclass(frozen=True)
class NamedTexts:
    """Lists with the name of a recording and its text a line, and the recordings below a folder."""

    folder: str
    lists: dict[str, str]
    """By name the location of each."""
    recordings: Sequence[str]
    """The names of all, sorted."""

    @property
    def name(self) -> str:
        """In words, for ``reads as``."""
        if all(name.lower().endswith(_LIBRISPEECH_TEXTS) for name in self.lists):
            return "LibriSpeech (.trans.txt beside the recordings)"
        lists = next(iter(self.lists)) if len(self.lists) == 1 else f"{len(self.lists)} lists"
        return f"lines of a recording's name and its text ({lists})"

    def read(self) -> Iterator[Entry | Finding]:
        """A row for each line; then one warning for each list of recordings that it has not.

        Raises:
            SourceError: a list cannot be read.
        """
        for name, location in self.lists.items():
            recordings = self.recordings_of(name)
            where = place_in(self.folder, name)
            told: set[str] = set()
            for row, clip, text in _named_lines(location, where, _split_named):
                if isinstance(text, Finding):
                    yield text
                    continue
                found = recordings.get(clip, ())
                told.update(found)
                if len(found) != 1:
                    rule = "several-recordings" if found else "text-without-audio"
                    count = ", ".join(found) if found else "none"
                    what = f"a text must have one recording, but {show(clip)} has {count}"
                    step = "Write its folder too." if found else "Add it, or delete the line."
                    yield error(rule, row, what, step)
                    continue
                speaker = _LIBRISPEECH.fullmatch(clip)
                values = {"audio": found[0], "text": text}
                yield Entry(row, values | ({"speaker": speaker[1]} if speaker else {}))
            every = {audio for found in recordings.values() for audio in found}
            yield from _untold(where, sorted(every - told), len(every))

    def recordings_of(self, name: str) -> dict[str, list[str]]:
        """By what a line of a list may call them, the recordings beside and below it, else all."""
        place = name[: name.rfind("/") + 1]
        start = bisect_left(self.recordings, place)
        end = bisect_left(self.recordings, place + chr(sys.maxunicode))
        if start == end:
            place, start, end = "", 0, len(self.recordings)
        found: dict[str, list[str]] = {}
        for audio in self.recordings[start:end]:
            below = audio.removeprefix(place)
            for path in {below, below.rpartition("/")[2]}:
                for called in (path, path.rpartition(".")[0]):
                    found.setdefault(called, []).append(audio)
        return found


def find_named_texts(
    folder: str, root: Root, lists: Mapping[str, str] | None = None
) -> NamedTexts | None:
    """Those of ``lists``, locations by name, whose lines name recordings below the folder.

    Without ``lists``, all texts below the folder are looked at.

    Raises:
        SourceError: the folder cannot be listed, or a list cannot be read.
    """
    recordings, texts = [], []
    for place, files, _ in walk(folder):
        if isinstance(files, SourceError):
            raise files
        for name in files:
            if suffix_of(name) in AUDIO_SUFFIXES:
                recordings.append(place + name)
            elif name.lower().endswith(_NAMED_TEXTS):
                texts.append(place + name)
    if not recordings:
        return None
    if lists is None:
        lists = {name: root.locate(name) for name in texts}
    every = NamedTexts(folder, dict(lists), sorted(recordings))
    named = {name: at for name, at in lists.items() if _names(at, every.recordings_of(name))}
    return dataclasses.replace(every, lists=named) if named else None


def _names(location: str, recordings: Mapping[str, Sequence[str]]) -> bool:
    """Whether half of the first lines of a file or more begin with the name of a recording."""
    lines = read_start(location, _START).decode("utf-8-sig", "replace").split("\n")
    called = [_split_named(line)[0] in recordings for line in lines[:_LINES] if line.strip()]
    return bool(called) and sum(called) >= len(called) / 2


def _split_named(line: str) -> tuple[str, str]:
    """The name of a recording that a line begins with, and the text behind it.

    Between them is a space or a colon; Festvox has both in brackets, the text in quotes.
    """
    found = _FESTVOX.fullmatch(line.strip()) or _NAMED.fullmatch(line.strip())
    return (found[1], found[2].strip()) if found else ("", line)


def read_kaldi(folder: str, root: Root) -> Iterator[Entry | Finding]:
    """``wav.scp`` and ``text``, an utterance a line in each, and ``utt2spk`` where it is there.

    Raises:
        SourceError: a list cannot be read.
    """
    files, _, _ = list_folder(folder)
    lists: dict[str, dict[str, tuple[str, str]]] = {}
    for name in ("text", _KALDI_SPEAKERS):
        lists[name] = {}
        if name in files:
            where = place_in(folder, name)
            for row, clip, text in _named_lines(root.locate(name), where, _split_kaldi):
                if isinstance(text, Finding):
                    yield text
                else:
                    lists[name][clip] = row, text
    texts, speakers = lists["text"], lists[_KALDI_SPEAKERS]
    recorded, untold = set(), []
    where = place_in(folder, "wav.scp")
    for row, clip, audio in _named_lines(root.locate("wav.scp"), where, _split_kaldi):
        if isinstance(audio, Finding):
            yield audio
            continue
        recorded.add(clip)
        if audio.endswith("|"):
            what = f"a recording must be a file, but here is a command: {show(audio)}"
            yield error("audio-command", row, what, "Run it, and name the file that it writes.")
        elif clip not in texts:
            untold.append(clip)
        else:
            values = {"audio": audio, "text": texts[clip][1]}
            named = {"speaker": speakers[clip][1]} if clip in speakers else {}
            yield Entry(row, values | named)
    yield from _untold(where, untold, len(recorded))
    for clip in texts.keys() - recorded:
        what = f"a text must have a recording in wav.scp, but {show(clip)} has none"
        yield error("text-without-audio", texts[clip][0], what, "Add it, or delete the line.")


def _named_lines(
    location: str, where: str, split: Callable[[str], tuple[str, str]]
) -> Iterator[tuple[str, str, str | Finding]]:
    """The place of each line, the name that it begins with, and what follows."""
    for place, line in read_text_lines(location, where):
        if isinstance(line, Finding):
            yield place, "", line
        else:
            yield place, *split(line)


def _split_kaldi(line: str) -> tuple[str, str]:
    name, *rest = line.split(maxsplit=1)
    return name, "".join(rest).strip()


def _untold(where: str, names: list[str], recordings: int) -> Iterator[Finding]:
    """One warning of all recordings without a text."""
    if names:
        what = (
            f"a recording should have its text in a list, but {len(names)} of {recordings} have "
            f"none, as {show(names[0])}"
        )
        yield warning("audio-without-text", where, what, "They are left out.")
