"""What a manifest is, found by looking at it: every layout that is read, and names for others."""

import json
import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.sources.reading import (
    ARROW,
    PARQUET,
    Root,
    SourceError,
    is_folder,
    is_s3,
    join,
    list_folder,
    open_binary,
    open_root,
    read_start,
)
from jobs.clips import Split
from jobs.data.findings import Finding
from jobs.data.manifest.corpora import (
    KALDI_FILES,
    KALDI_SEGMENTS,
    LIBRISPEECH_TEXTS,
    read_kaldi,
    read_librispeech,
    read_vctk,
    vctk_audio,
)
from jobs.data.manifest.keys import REQUIRED, Columns, Keys, match_columns, tidy
from jobs.data.manifest.lines import Entry, parse_json, read_entries
from jobs.data.manifest.names import Names
from jobs.data.manifest.pairs import TEXT_SUFFIXES, Pairs, what_is_there
from jobs.data.manifest.tables import read_table, recognise_table
from jobs.problems import InputError, Problem, collecting

_START, _LINES = 2**16, 400
"""Bytes and lines by which a file is recognised."""
_JSON_LINES = (".jsonl", ".ndjson")
_SHARDS = (".parquet", ".arrow")
"""Ends of files that are parts of one table."""
_LISTS = (*_JSON_LINES, ".csv", ".tsv", ".list", *_SHARDS)
"""Ends of the files that may be a folder's list."""
_METADATA = tuple(f"metadata{end}" for end in (".jsonl", ".csv", ".tsv", ".parquet"))
"""The lists that count where a folder has others too: LJSpeech's, Hugging Face's."""
_SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "eval": "validation", "test": "validation",
}  # fmt: skip
_TEST = "test"
_KINDS = {
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save it as CSV",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"RIFF": "a recording: name the folder that holds it, or a list",
    b"fLaC": "a recording: name the folder that holds it, or a list",
    b"OggS": "a recording: name the folder that holds it, or a list",
    b"ID3": "a recording: name the folder that holds it, or a list",
    b"SQLite format 3": "a database: write its rows as JSON lines",
    b"%PDF": "a PDF: write its texts as JSON lines",
}
"""By its first bytes what a file is that is not read, and what to do."""
_FOLDERS = {
    ".scp": "Kaldi's lists (wav.scp) without a text beside them: name the folder that has both",
    ".textgrid": "Praat's TextGrids: write each one's words as x.txt or x.lab",
    ".srt": "subtitles (.srt): cut the recordings by them first",
    ".tar": "archives (.tar): unpack them",
    ".zip": "archives (.zip): unpack them",
    ".gz": "archives (.gz): unpack them",
}
"""By a file in it what a folder is that is not read, and what to do."""
_JSON_KINDS = {
    "audio_filepath": "NeMo's manifest",
    "file_name": "Hugging Face AudioFolder, JSON lines",
    "audio_codes": "Qwen3-TTS's training data, JSON lines",
    "dataset_id": "VoxCPM's training data, JSON lines",
}
"""By a key what JSON lines were written for."""
_SAVED, _SAVED_DICT, _STATE = "dataset_info.json", "dataset_dict.json", "state.json"
"""What ``datasets.Dataset.save_to_disk`` and ``DatasetDict.save_to_disk`` write beside the data."""


@dataclass
class RowPart:
    """The rows of a list, or of all pairs of files."""

    entries: Iterator[Entry | Finding]
    names: Names
    """What resolves the names of its recordings."""
    in_table: bool = False
    """Whether names may lack their suffix and their folder."""
    split: Split | None = None
    """Of the rows that name none."""


@dataclass
class Recognised:
    """A manifest that was recognised."""

    named: str | Pairs
    parts: list[RowPart]

    @property
    def name(self) -> str:
        """What it is, in words; of pairs of files, as far as they were read."""
        return self.named if isinstance(self.named, str) else self.named.name


@dataclass(frozen=True)
class _Place:
    """Where lists are looked for."""

    manifest: str
    folder: str
    """Absolute or in S3: that of the manifest, or itself."""
    root: str | None
    columns: Columns

    def open(self, below: str = "") -> tuple[str, Root]:
        """A folder below, and what resolves names from there."""
        folder = join(self.folder, below) if below else self.folder
        return folder, open_root(folder, self.root or self.folder)


def recognise(manifest: str, root: str | None, columns: Columns) -> Recognised:
    """What ``manifest`` is, which exists.

    Raises:
        SourceError: it cannot be read.
        InputError: it is nothing that is read, or its columns must be named.
    """
    if is_folder(manifest):
        return _recognise_folder(_Place(manifest, manifest, root, columns))
    folder, _, name = manifest.rpartition("/")
    place = _Place(manifest, folder or ("/" if manifest.startswith("/") else "."), root, columns)
    named, part = _read_list(place, "", name, manifest)
    return Recognised(named, [part])


def _recognise_folder(place: _Place) -> Recognised:
    folder, root = place.open()
    files, folders, _ = list_folder(folder)
    if _SAVED_DICT in files or {_SAVED, _STATE} <= set(files):
        return _saved_to_disk(place, is_dict=_SAVED_DICT in files)
    if lists := _lists(place, files, folders):
        return _several(place, lists)
    names = Names(folder, root)
    if audio := vctk_audio(folders):
        named = f"VCTK's layout (txt/ beside {audio}/)"
        return Recognised(named, [RowPart(read_vctk(folder, audio, root), names)])
    if set(files) >= KALDI_FILES:
        if KALDI_SEGMENTS in files:
            cut = "a Kaldi data directory with segments: cut the recordings by them first"
            raise _refuse(place.manifest, cut)
        part = RowPart(read_kaldi(folder, root), names, in_table=True)
        return Recognised("Kaldi (wav.scp and text)", [part])
    ends = what_is_there(folder)
    if ends[LIBRISPEECH_TEXTS] and ends["audio"]:
        named = "LibriSpeech (.trans.txt beside the recordings)"
        return Recognised(named, [RowPart(read_librispeech(folder, root), names)])
    if ends:
        below = "" if "data" not in folders or any(_is_list(name) for name in files) else "data"
        inside = list_folder(join(folder, below))[0] if below else files
        if lists := _by_split(place, below, [name for name in inside if _is_list(name)]):
            return _several(place, lists)
        raise _refuse(place.manifest, _name_folder(ends))
    pairs = Pairs(folder, root)
    return Recognised(pairs, [RowPart(pairs.read(), names)])


def _is_list(name: str) -> bool:
    return name.lower().endswith(_LISTS)


def _name_folder(ends: Counter[str]) -> str:
    """What a folder is that has no pair of a recording and a text, and what to do."""
    for end, what in _FOLDERS.items():
        if ends[end]:
            return what
    audio, texts = ends["audio"], sum(ends[end] for end in TEXT_SUFFIXES)
    if audio and texts:
        return f"{audio} recordings and {texts} texts without a name in common: name both alike"
    if audio:
        return f"{audio} recordings without texts: put x.txt beside each x.wav, or write a list"
    if texts:
        return f"{texts} texts without recordings: put x.wav beside each x.txt"
    kinds = ", ".join(f"{count} {end}" for end, count in ends.most_common(3))
    return f"a folder without recordings that are read ({kinds}): convert them, or write a list"


def _refuse(manifest: str, named: str) -> InputError:
    """For what is recognised and not read; ``named`` says what it is, a colon, and what to do."""
    kind, _, step = named.partition(": ")
    what = f"a manifest must be in a layout of docs/data.md, but this is {kind}"
    return InputError([Problem(manifest, what, f"{step[0].upper()}{step[1:]}.")])


_Lists = list[tuple[str, str, Split | None]]
"""Folders below the manifest, the names of lists in them, and the split of each list."""


def _lists(place: _Place, files: list[str], folders: list[str]) -> _Lists:
    """The metadata of a folder, or of its folders for each split."""
    for name in _METADATA:
        if name in files:
            return [("", name, None)]
    found = []
    for below in folders:
        if below.lower() in _SPLIT_NAMES:
            inside, _, _ = list_folder(join(place.folder, below))
            found += [(below, name) for name in _METADATA if name in inside][:1]
    return _with_splits([(below, name, below.lower()) for below, name in found])


def _by_split(place: _Place, below: str, names: list[str]) -> _Lists:
    """Lists that lie side by side, with the splits that their names say."""
    if not names:
        return []
    words = [
        next((w for w in re.split(r"[-_.]", name.lower()) if w in _SPLIT_NAMES), "")
        for name in names
    ]
    if len(names) > 1 and not all(words):
        if any(words) or not all(name.endswith(_SHARDS) for name in names):
            shown = ", ".join(names[:6]) + ", ..." * (len(names) > 6)
            raise _refuse(place.manifest, f"several lists ({shown}): name one, or several")
        words = ["train"] * len(names)
    return _with_splits([(below, name, word) for name, word in zip(names, words, strict=True)])


def _with_splits(found: list[tuple[str, str, str]]) -> _Lists:
    """Lists with their splits; none where all have the same. A test set is validation if there is
    no other, else it is left out."""
    splits = {word: _SPLIT_NAMES.get(word) for _, _, word in found}
    if len(set(splits.values())) == 1:
        return [(below, name, None) for below, name, _ in found]
    with_other = any(split == "validation" for word, split in splits.items() if word != _TEST)
    return [
        (below, name, splits[word])
        for below, name, word in found
        if not (word == _TEST and with_other)
    ]


def _several(place: _Place, lists: _Lists) -> Recognised:
    kinds: list[str] = []
    parts: list[RowPart] = []
    problems: list[Problem] = []
    for below, name, split in lists:
        with collecting(problems):
            where = join(join(place.folder, below) if below else place.folder, name)
            kind, part = _read_list(place, below, name, where)
            part.split = split
            kinds.append(kind)
            parts.append(part)
    if problems:
        raise InputError(problems)
    return Recognised(kinds[0] + _in_splits(split for _, _, split in lists), parts)


def _in_splits(splits: Iterable[Split | None]) -> str:
    named = [f"{count} {split}" for split, count in Counter(splits).items() if split]
    return f", lists: {', '.join(named)}" if named else ""


def _read_list(place: _Place, below: str, name: str, where: str) -> tuple[str, RowPart]:
    """What a file is, in words, and its rows."""
    folder, root = place.open(below)
    # A manifest that is named itself may be a link; what a folder has may lead nowhere else.
    is_named = where == place.manifest
    location = where if is_named else root.locate(name)
    names = Names(folder, root)
    start = read_start(location, _START)
    if start.startswith((PARQUET, *ARROW)):
        return _read_packed([(location, where)], place.columns, names)
    for magic, what in _KINDS.items():
        if start.startswith(magic):
            raise _refuse(where, what)
    encoding = "utf-16" if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    text = start.decode(encoding, "replace")
    lines = text.split("\n", _LINES)
    if (len(lines) > 1 and len(start) == _START) or len(lines) > _LINES:
        del lines[-1]  # it may be cut
    first = text.lstrip()[:1]
    if first == "[" and not name.lower().endswith(_JSON_LINES):
        raise _refuse(where, "a JSON list: write a line for each of it, jq -c '.[]' FILE > NEW")
    if first == "{" and lines[0].strip() == "{":
        raise _refuse(where, "JSON over several lines: write one, jq -c . FILE > NEW")
    if first in {"{", ""} or name.lower().endswith(_JSON_LINES):
        return _json_kind(lines, place.columns, where), RowPart(
            _read_json(location, where, place.columns), names
        )

    def is_audio(cell: str) -> bool:
        try:
            names.locate(cell, in_table=True)
        except SourceError:
            return False
        return True

    table = recognise_table(lines, place.columns, where, is_audio)
    if table is None:
        raise _refuse(
            where, "a text whose lines are neither JSON objects nor columns: write either"
        )
    kind = "Hugging Face AudioFolder, " * ("file_name" in table.names) + table.name
    return kind, RowPart(read_table(location, where, table, place.columns), names, in_table=True)


def _json_kind(lines: Sequence[str], columns: Columns, where: str) -> str:
    """What JSON lines were written for, by the keys of the first."""
    try:
        keys = list(json.loads(next(line for line in lines if line.strip())))
    except (ValueError, StopIteration, RecursionError, TypeError):
        keys = []
    kind = next((kind for key, kind in _JSON_KINDS.items() if key in keys), "JSON lines")
    match = match_columns(list(map(str, keys)), columns, where, is_strict=False)
    other = ", ".join(f"{key} from {name}" for key, name in match.items() if key != name)
    return f"{kind} ({other})" if other else kind


def _read_json(location: str, where: str, columns: Columns) -> Iterator[Entry | Finding]:
    keys = Keys(columns, where)
    for item in read_entries(location, where, parse_json):
        if isinstance(item, Finding):
            yield item
        else:
            yield from keys.apply(item)


def _saved_to_disk(place: _Place, *, is_dict: bool) -> Recognised:
    """What ``save_to_disk`` of Hugging Face's ``datasets`` wrote."""
    _, root = place.open()
    words = [""]
    if is_dict:
        words = list(_json_object(root, _SAVED_DICT, place.manifest).get("splits", []))
    lists = _with_splits([(word, _STATE, str(word).lower()) for word in words])
    kinds, parts = [], []
    for below, _, split in lists:
        inner, inner_root = place.open(below)
        state = _json_object(inner_root, _STATE, place.manifest)
        files = [str(each.get("filename")) for each in state.get("_data_files", [])]
        locations = [(inner_root.locate(name), join(inner, name)) for name in files]
        kind, part = _read_packed(locations, place.columns, Names(inner, inner_root))
        part.split = split
        kinds.append(kind)
        parts.append(part)
    if not parts:
        raise _refuse(place.manifest, "a Hugging Face dataset without splits: save it again")
    named = kinds[0].replace("a table of Parquet or Arrow", "Hugging Face dataset saved to disk", 1)
    return Recognised(named + _in_splits(part.split for part in parts), parts)


def _json_object(root: Root, name: str, manifest: str) -> dict[str, Any]:
    with open_binary(root.locate(name), _START) as file:
        try:
            found = json.load(file)
        except ValueError as problem:
            what = f"{name} of a dataset saved to disk must be JSON, but: {problem}"
            raise InputError([Problem(manifest, what, "Save it again.")]) from None
    return found if isinstance(found, dict) else {}


def _read_packed(
    files: Sequence[tuple[str, str]], columns: Columns, names: Names
) -> tuple[str, RowPart]:
    """The rows of Parquet or Arrow files, each with the place that findings name."""
    from cluster.sources.arrow_files import open_table  # pyarrow takes 0.2 s to import

    tables = []
    for location, where in files:
        if is_s3(location):
            raise _refuse(where, "Parquet or Arrow in S3: fetch it, aws s3 cp --recursive")
        table = open_table(os.path.realpath(location))
        match = match_columns(list(table.columns), columns, where)
        if missing := [key for key in REQUIRED if key not in match]:
            told = ", ".join(f"{name} ({kind})" for name, kind in table.columns.items())
            what = f"a table must say which column holds the {missing[0]}, got {told}"
            step = f"Set data.columns: {{{missing[0]}: NAME}}."
            raise InputError([Problem(where, what, step)])
        tables.append((table, match, where))

    def rows() -> Iterator[Entry | Finding]:
        for table, match, where in tables:
            for number, values in enumerate(table.read(list(match.values())), start=1):
                found = {key: values[name] for key, name in match.items()}
                yield Entry(f"{where}:{number}", tidy(found), holds_cells=True)

    _, match, _ = tables[0] if tables else (None, {}, None)
    used = ", ".join(f"{key} from {name}" for key, name in match.items())
    return f"a table of Parquet or Arrow ({used})", RowPart(rows(), names)
