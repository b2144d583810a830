"""Layouts of corpora whose texts lie apart from the recordings: VCTK, LibriSpeech, Kaldi."""

import re
from collections.abc import Iterator

from cluster.sources.reading import Root, SourceError, join, list_folder
from jobs.data.findings import Finding, error, warning
from jobs.data.manifest.lines import Entry, read_text_lines, show
from jobs.data.manifest.pairs import AUDIO_SUFFIXES, place_in, read_pair, suffix_of, walk

_VCTK_TEXTS = "txt"
_VCTK_AUDIO = ("wav48_silence_trimmed", "wav48", "wav")
"""Of VCTK 0.92, and of the one before."""
_SECOND_MICROPHONE = "_mic2"
_FIRST_MICROPHONE = "_mic1"
LIBRISPEECH_TEXTS = ".trans.txt"
_LIBRISPEECH = re.compile(r"(\d+)-\d+-\d+")
"""Speaker, chapter and sentence."""
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


def read_librispeech(folder: str, root: Root) -> Iterator[Entry | Finding]:
    """``84/121123/84-121123.trans.txt`` with an id and a text a line, beside its recordings.

    Raises:
        SourceError: a folder cannot be listed, or a list cannot be read.
    """
    for place, files, _ in walk(folder):
        if isinstance(files, SourceError):
            raise files
        audio = {
            name.rpartition(".")[0]: place + name
            for name in files
            if suffix_of(name) in AUDIO_SUFFIXES
        }
        told = set()
        for name in files:
            if not name.lower().endswith(LIBRISPEECH_TEXTS):
                continue
            where = place_in(folder, place + name)
            for row, clip, text in _named_lines(root.locate(place + name), where):
                if isinstance(text, Finding):
                    yield text
                    continue
                told.add(clip)
                if clip not in audio:
                    what = f"a text must have a recording beside it, but {show(clip)} has none"
                    yield error("text-without-audio", row, what, "Add it, or delete the line.")
                    continue
                speaker = _LIBRISPEECH.fullmatch(clip)
                values = {"audio": audio[clip], "text": text}
                yield Entry(row, values | ({"speaker": speaker[1]} if speaker else {}))
        yield from _untold(place_in(folder, place), sorted(audio.keys() - told), len(audio))


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
            for row, clip, text in _named_lines(root.locate(name), place_in(folder, name)):
                if isinstance(text, Finding):
                    yield text
                else:
                    lists[name][clip] = row, text
    texts, speakers = lists["text"], lists[_KALDI_SPEAKERS]
    recorded, untold = set(), []
    for row, clip, audio in _named_lines(root.locate("wav.scp"), place_in(folder, "wav.scp")):
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
    yield from _untold(place_in(folder, "wav.scp"), untold, len(recorded))
    for clip in texts.keys() - recorded:
        what = f"a text must have a recording in wav.scp, but {show(clip)} has none"
        yield error("text-without-audio", texts[clip][0], what, "Add it, or delete the line.")


def _named_lines(location: str, where: str) -> Iterator[tuple[str, str, str | Finding]]:
    """The place of each line, the id that it begins with, and what follows."""
    for place, line in read_text_lines(location, where):
        if isinstance(line, Finding):
            yield place, "", line
        else:
            clip, *rest = line.split(maxsplit=1)
            yield place, clip, "".join(rest).strip()


def _untold(where: str, names: list[str], recordings: int) -> Iterator[Finding]:
    """One warning of all recordings without a text."""
    if names:
        what = (
            f"a recording should have its text in a list, but {len(names)} of {recordings} have "
            f"none, as {show(names[0])}"
        )
        yield warning("audio-without-text", where, what, "They are left out.")
