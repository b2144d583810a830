"""Manifests that are folders: LJSpeech's layout, and recordings with texts beside them."""

import codecs
from collections.abc import Iterator

from cluster.sources.reading import Root, SourceError, join, list_folder, open_binary
from jobs.audio.foreign import FOREIGN_SUFFIXES
from jobs.data.findings import Finding, error, warning
from jobs.data.manifest.lines import (
    MAX_LINE_BYTES,
    Entry,
    byte_order_mark,
    decode_text,
    read_entries,
    show,
)

METADATA = "metadata.csv"
"""The list of LJSpeech's layout."""

_OWN_SUFFIXES = frozenset({".aif", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
AUDIO_SUFFIXES = _OWN_SUFFIXES | FOREIGN_SUFFIXES
"""What makes a file of a folder a clip; in whatever case."""
_TEXT_SUFFIX = ".txt"


def read_ljspeech(folder: str, root: Root) -> Iterator[Entry | Finding]:
    """``metadata.csv`` with ``id|text|normalised text``, and ``wavs/id.wav``.

    As the corpus has it: no header, no quoting. Where there is a normalised text, it is
    what is spoken.

    Raises:
        SourceError: the list cannot be read.
    """
    return read_entries(root.locate(METADATA), join(folder, METADATA), _parse_columns)


def _parse_columns(where: str, line: str) -> Entry | Finding:
    columns = line.split("|")
    if len(columns) not in {2, 3}:
        what = f"a line must be id|text or id|text|normalised text, got {show(line)}"
        return error("bad-columns", where, what, "Write it so, or make a list of JSON lines.")
    name, text, *normalised = columns
    spoken = next((each for each in normalised if each.strip()), text)
    return Entry(where, {"audio": f"wavs/{name}.wav", "text": spoken})


def read_pairs(folder: str, root: Root) -> Iterator[Entry | Finding]:
    """Every recording below ``folder`` with the ``.txt`` of the same name beside it, by name.

    Links to folders are reported and not followed; hidden files are left out.

    Raises:
        SourceError: ``folder`` cannot be listed.
    """
    marks_are_new = True
    waiting = [""]
    while waiting:
        place = waiting.pop()
        try:
            files, folders, links = list_folder(join(folder, place) if place else folder)
        except SourceError as problem:
            if not place:
                raise
            yield _refuse("folder", _where(folder, place), problem)
            continue
        waiting += [f"{place}{name}/" for name in reversed(folders)]
        for name in links:
            what = "a link to a folder is not followed"
            hint = "Put the folder itself there, if it holds clips."
            yield warning("folder-link", _where(folder, place + name), what, hint)
        for item in _read_folder(folder, place, files, root):
            if isinstance(item, Finding) and item.rule == "byte-order-mark":
                if not marks_are_new:
                    continue
                marks_are_new = False
            yield item


def _read_folder(
    folder: str, place: str, files: list[str], root: Root
) -> Iterator[Entry | Finding]:
    """The clips among ``files``, which lie in ``place``, below ``folder``."""
    audio: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for name in files:
        stem, dot, suffix = name.rpartition(".")
        suffix = dot + suffix.lower()
        if suffix in AUDIO_SUFFIXES:
            audio.setdefault(stem, []).append(name)
        elif suffix == _TEXT_SUFFIX:
            texts[stem] = name
    for stem in sorted(audio.keys() | texts.keys()):
        recordings = audio.get(stem, [])
        where = _where(folder, place + (recordings or [texts[stem]])[0])
        if not recordings:
            what = "a text must have a recording of the same name beside it"
            yield error("text-without-audio", where, what, "Add the recording, or move the text.")
        elif len(recordings) > 1:
            what = f"a text must have one recording, but has {len(recordings)}: {recordings}"
            yield error("several-recordings", where, what, "Keep one.")
        elif stem not in texts:
            what = f"a recording must have its text beside it, as {show(stem + _TEXT_SUFFIX)}"
            yield error("audio-without-text", where, what, "Add the text, or move the recording.")
        else:
            yield from _read_pair(where, place + recordings[0], place + texts[stem], root)


def _read_pair(where: str, audio: str, text: str, root: Root) -> Iterator[Entry | Finding]:
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
    else:
        # A text of several lines is one text; how its lines end does not matter.
        lines = (line.strip() for line in content.split("\n"))
        yield Entry(where, {"audio": audio, "text": " ".join(filter(None, lines))})


def _refuse(part: str, where: str, problem: SourceError) -> Finding:
    return error(f"{part}-{problem.rule}", where, f"{part} {problem.what}", problem.next_step)


def _where(folder: str, name: str) -> str:
    """A place in ``folder``; a name may hold line feeds, or bytes that no text can hold."""
    place = join(folder, name)
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in place
    )
