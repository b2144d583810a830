"""What a manifest is, found by looking at it: every layout that is read, and names for others."""

import json
import os
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.sources.reading import (
    ARROW,
    PARQUET,
    Root,
    is_folder,
    is_s3,
    join,
    list_folder,
    open_binary,
    open_root,
    read_lines,
    read_start,
)
from jobs.clips import Split
from jobs.data.findings import Finding
from jobs.data.manifest.corpora import (
    KALDI_FILES,
    KALDI_SEGMENTS,
    find_named_texts,
    read_kaldi,
    read_vctk,
    vctk_audio,
)
from jobs.data.manifest.json_lists import (
    is_json_lines,
    name_json_lines,
    open_json,
    read_json_lines,
)
from jobs.data.manifest.keys import REQUIRED, Columns, match_columns, tidy
from jobs.data.manifest.lines import MAX_LINE_BYTES, Entry, decode_text
from jobs.data.manifest.names import Names
from jobs.data.manifest.pairs import JSON_BESIDE, TEXT_SUFFIXES, Pairs, what_is_there
from jobs.data.manifest.tables import leads_to_audio, read_table, recognise_table
from jobs.problems import InputError, Problem, collecting

_START, _LINES = 2**16, 400
"""Bytes and lines by which a file is recognised."""
_JSON_LINES = (".jsonl", ".ndjson")
_SHARDS = (".parquet", ".arrow")
"""Ends of files that are parts of one table."""
_LISTS = (*_JSON_LINES, ".csv", ".tsv", ".list", *_SHARDS)
"""Ends of the files that may be a folder's list."""
_COMMON_VOICE = "validated.tsv", "clips"
"""Common Voice's list of all good clips, and their folder. Its lists for each split have fewer, and
no speaker in common, whom a voice could be compared with."""
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
_TABLE_KINDS = {"file_name": "Hugging Face AudioFolder, ", "sentence_id": "Common Voice, "}
"""By a column what a table was written for."""
_FOLDERS = {
    ".scp": "Kaldi's lists (wav.scp) without a text beside them: name the folder that has both",
    JSON_BESIDE: "a JSON file beside each recording, as Whisper writes: run for f in *.json; do jq "
    '-r .text "$f" > "${f%.json}.txt"; done in their folder',
    ".textgrid": "Praat's TextGrids: name the folder of .lab or .txt files that they were aligned "
    "from, or write each one's words beside its recording, as x.txt",
    ".eaf": "ELAN's annotations (.eaf): export each one's words beside its recording, as x.txt",
    **{end: f"subtitles ({end}): cut the recordings by them first" for end in (".srt", ".vtt")},
    **{
        end: f"recordings and a spreadsheet ({end}): save it as CSV beside them"
        for end in (".xlsx", ".xls", ".ods")
    },
    ".docx": "recordings and a document (.docx): save it as text, a line for each recording with "
    "its name and its text",
    **{end: f"archives ({end}): unpack them" for end in (".tar", ".zip", ".gz")},
}
"""By a file in it what a folder is that is not read, and what to do."""
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
    if not ends:
        pairs = Pairs(folder, root)
        return Recognised(pairs, [RowPart(pairs.read(), names)])
    below = "" if "data" not in folders or any(_is_list(name) for name in files) else "data"
    inside = list_folder(join(folder, below))[0] if below else files
    if lists := _by_split(place, below, [name for name in inside if _is_list(name)]):
        return _several(place, lists)
    if ends["audio"]:
        if lists := _by_split(place, "", _lists_of_texts(place, files)):
            return _several(place, lists)
        if found := find_named_texts(folder, root):
            return Recognised(found.name, [RowPart(found.read(), names)])
    raise _refuse(place.manifest, _name_folder(ends))


def _is_list(name: str) -> bool:
    return name.lower().endswith(_LISTS)


def _lists_of_texts(place: _Place, files: list[str]) -> list[str]:
    """Files beside recordings that are lists, though their names do not say so.

    Raises:
        InputError: the only file of JSON is none.
    """
    _, root = place.open()
    names = Names(place.folder, root)
    stems = {name.rpartition(".")[0] for name in files if not name.lower().endswith(".json")}
    found, problems = [], []
    for name in files:
        stem, _, suffix = name.rpartition(".")
        if suffix.lower() != "json" or stem in stems:
            continue
        try:
            _read_list(place, "", name, join(place.folder, name))
        except InputError as problem:
            problems.append(problem)
        else:
            found.append(name)
    if not found and len(problems) == 1:
        raise problems[0]
    texts = [name for name in files if name.lower().endswith(".txt")]
    return found or [
        name
        for name in texts
        if leads_to_audio(_first_lines(root.locate(name), name), names.is_audio)
    ]


def _name_folder(ends: Counter[str]) -> str:
    """What a folder is that has no pair of a recording and a text, and what to do."""
    for end, what in _FOLDERS.items():
        if ends[end]:
            return what
    audio, texts = ends["audio"], sum(ends[end] for end in TEXT_SUFFIXES)
    if audio and texts:
        step = "name both alike, or write a list of names and texts"
        return f"{audio} recordings and {texts} texts without a name in common: {step}"
    if audio and (below := next((end for end in _LISTS if ends[end]), None)):
        step = "name the list, and as --root a folder that has both"
        return f"recordings and a list in a folder below ({below}): {step}"
    if audio:
        others = [f"{count} {end}" for end, count in ends.most_common() if end != "audio"]
        beside = f" (beside {', '.join(others[:3])})" if others else ""
        step = "put x.txt beside each x.wav, or write a list"
        return f"{audio} recordings without texts{beside}: {step}"
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
    if _COMMON_VOICE[0] in files and _COMMON_VOICE[1] in folders:
        return [("", _COMMON_VOICE[0], None)]
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
    lines = _first_lines(location, where)
    first = "".join(lines).lstrip()[:1]
    if name.lower().endswith(_JSON_LINES) or not first:
        is_lines = True
    else:
        is_lines = first == "{" and is_json_lines(lines, place.columns, where)
    if is_lines:
        named = name_json_lines(lines, place.columns, where)
        return named, RowPart(read_json_lines(location, where, place.columns), names)
    if first in "{[":
        named, rows = open_json(location, where, place.columns, names.is_audio)
        return named, RowPart(rows, names, in_table=True)
    is_table = bool(place.columns) or leads_to_audio(lines, names.is_audio)
    if not is_table and (found := find_named_texts(folder, root, {name: location})):
        return found.name, RowPart(found.read(), names)
    table = recognise_table(lines, place.columns, where, names.is_audio)
    if table is None:
        step = "write either, or the name of a recording before each text"
        raise _refuse(where, f"a text whose lines are neither JSON objects nor columns: {step}")
    kind = next((kind for name, kind in _TABLE_KINDS.items() if name in table.names), "")
    return kind + table.name, RowPart(read_table(location, where, table), names, in_table=True)


def _first_lines(location: str, where: str) -> list[str]:
    """The whole lines that a file begins with, at least one.

    Raises:
        SourceError: it cannot be read.
        InputError: several of them are not UTF-8, and the file is not marked as UTF-16.
    """
    start = read_start(location, _START)
    if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        start = start.decode("utf-16", "replace").encode()
    lines = start.removeprefix(BOM_UTF8).split(b"\n", _LINES)
    if len(lines) > 1 and (len(start) >= _START or len(lines) > _LINES):
        del lines[-1]  # it may be cut
    elif len(start) == _START:
        lines = [next(read_lines(location, MAX_LINE_BYTES)) or b""]
    found = [decode_text(line, f"{where}:{number}") for number, line in enumerate(lines, start=1)]
    wrong = [each.problem for each in found if isinstance(each, Finding)]
    if len(wrong) > 1 or isinstance(found[0], Finding):
        what = f"{wrong[0].what} ({len(wrong)} of the first {len(lines)} lines are like this)"
        raise InputError([Problem(wrong[0].where, what, wrong[0].next_step)])
    return [each if isinstance(each, str) else "" for each in found]


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
            fetch = f"aws s3 cp --recursive {where.rpartition('/')[0]} NEW"
            raise _refuse(where, f"Parquet or Arrow in S3: fetch it by {fetch}, and name NEW")
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
                found: dict[str, Any] = {key: values[name] for key, name in match.items()}
                yield Entry(f"{where}:{number}", tidy(found), holds_cells=True)

    _, match, _ = tables[0] if tables else (None, {}, None)
    used = ", ".join(f"{key} from {name}" for key, name in match.items())
    return f"a table of Parquet or Arrow ({used})", RowPart(rows(), names)
