"""Every layout is named and read; what is not read is named in one line."""

import codecs
import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from jobs.audio.files import decode
from jobs.data.clips import ManifestRow
from jobs.data.findings import Finding
from jobs.data.manifest import layouts
from jobs.data.manifest.reading import OpenManifest
from jobs.problems import InputError
from tests.jobs.data.hostile_case import RATE, tone


def sound(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(), RATE)


@dataclass(frozen=True)
class Case:
    """A layout: its files, what it is called, and its clips as (file, text, other keys)."""

    name: str
    files: dict[str, str | bytes | None]
    """Content by name; None is a recording."""
    reads_as: str
    clips: tuple[tuple[str, str, dict[str, object]], ...]
    manifest: str = ""
    warnings: tuple[str, ...] = ()
    columns: dict[str, str | int] = field(default_factory=dict)


def build(root: Path, files: dict[str, str | bytes | None]) -> None:
    for name, content in files.items():
        path = root / name
        if content is None:
            sound(path)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def read(case: Case, root: Path) -> tuple[OpenManifest, list[ManifestRow], list[Finding]]:
    build(root, case.files)
    manifest = OpenManifest(f"{root}/{case.manifest}".rstrip("/"), None, case.columns)
    items = list(manifest)
    rows = [item for item in items if isinstance(item, ManifestRow)]
    return manifest, rows, [item for item in items if isinstance(item, Finding)]


def jsonl(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def clips(*texts: str, folder: str = "wavs/", suffix: str = ".wav", **more: object):
    """``a``, ``b`` and so on in a folder, with their texts."""
    return tuple((f"{folder}{chr(97 + n)}{suffix}", text, more) for n, text in enumerate(texts))


AB = {"wavs/a.wav": None, "wavs/b.wav": None}
A_B = (("a", "It is one."), ("b", "It is two."))
ONE_TWO = clips("It is one.", "It is two.")
NFD = unicodedata.normalize("NFD", "señal.wav")

CASES = [
    Case(
        "LJSpeech",
        {**AB, "metadata.csv": "a|It is 1.|It is one.\nb|It is two.|It is two.\n"},
        "LJSpeech, 3 columns (audio in column 1, text in column 3), 2 rows",
        ONE_TWO,
    ),
    Case(
        "LJSpeech by its file, with folders and suffixes in column 1",
        {**AB, "metadata.csv": "wavs/a.wav|It is one.\nb.wav|It is two.\n"},
        "LJSpeech, 2 columns (audio in column 1, text in column 2), 2 rows",
        ONE_TWO,
        "metadata.csv",
    ),
    Case(
        "LJSpeech in FLAC, as metadata_train.csv, blank last lines",
        {
            "wavs/a.flac": None,
            "wavs/b.flac": None,
            "metadata_train.csv": "a|It is one.\nb|It is two.\n\n \n",
        },
        "LJSpeech, 2 columns (audio in column 1, text in column 2), 2 rows",
        clips("It is one.", "It is two.", suffix=".flac"),
    ),
    Case(
        "Coqui: lists for training and evaluation, with a header",
        {
            **AB,
            "metadata_train.csv": "audio_file|text|speaker_name\nwavs/a.wav|It is one.|ann\n",
            "metadata_eval.csv": "audio_file|text|speaker_name\nwavs/b.wav|It is two.|ann\n",
        },
        "columns separated by | with a header, 3 columns (audio from audio_file, text from text, "
        "speaker from speaker_name), lists: 1 validation, 1 train, 2 rows",
        (
            ("wavs/b.wav", "It is two.", {"speaker": "ann", "split": "validation"}),
            ("wavs/a.wav", "It is one.", {"speaker": "ann", "split": "train"}),
        ),
    ),
    Case(
        "Common Voice's TSV, quotes as they are",
        {
            "clips/a.mp3": b"x",
            "clips/b.mp3": b"x",
            "own.tsv": 'client_id\tpath\tsentence\tlocale\n7\ta.mp3\t"Yes," he said.\ten\n'
            "7\tb.mp3\tIt is two.\t\n",
        },
        "TSV with a header, 4 columns (audio from path, text from sentence, speaker from "
        "client_id, language from locale), 2 rows",
        (
            ("clips/a.mp3", '"Yes," he said.', {"speaker": "7", "language": "en"}),
            ("clips/b.mp3", "It is two.", {"speaker": "7"}),
        ),
        "own.tsv",
    ),
    Case(
        "CSV with quotes, a comma, and a text of two lines",
        {
            **AB,
            "list.csv": 'path,sentence,up_votes\nwavs/a.wav,"Well, ""so"" it is.",1\n'
            'wavs/b.wav,"It\nis two.",2\n',
        },
        "CSV with a header, 3 columns (audio from path, text from sentence), 2 rows",
        clips('Well, "so" it is.', "It is two."),
        "list.csv",
        ("unknown-key",),
    ),
    Case(
        "semicolons, as Excel writes CSV in Europe",
        {**AB, "list.csv": "file;text\nwavs/a.wav;Ja, eins.\nwavs/b.wav;Zwei.\n"},
        "CSV with a header, 2 columns (audio from file, text from text), 2 rows",
        clips("Ja, eins.", "Zwei."),
        "list.csv",
    ),
    Case(
        "CSV without a header",
        {**AB, "list.csv": "wavs/a.wav,It is one.\nwavs/b.wav,It is two.\n"},
        "CSV, 2 columns (audio in column 1, text in column 2), 2 rows",
        ONE_TWO,
        "list.csv",
    ),
    Case(
        "AudioFolder, metadata.csv",
        {**AB, "metadata.csv": "file_name,transcription\nwavs/a.wav,It is one.\n"},
        "Hugging Face AudioFolder, CSV with a header, 2 columns (audio from file_name, text from "
        "transcription), 1 rows",
        ONE_TWO[:1],
    ),
    Case(
        "AudioFolder, metadata.jsonl in a folder for each split",
        {
            "train/wavs/a.wav": None,
            "test/wavs/b.wav": None,
            "train/metadata.jsonl": jsonl({"file_name": "wavs/a.wav", "text": "It is one."}),
            "test/metadata.jsonl": jsonl({"file_name": "wavs/b.wav", "text": "It is two."}),
        },
        "Hugging Face AudioFolder, JSON lines (audio from file_name), lists: 1 validation, "
        "1 train, 2 rows",
        (
            ("test/wavs/b.wav", "It is two.", {"split": "validation"}),
            ("train/wavs/a.wav", "It is one.", {"split": "train"}),
        ),
    ),
    Case(
        "NeMo",
        {
            **AB,
            "m.json": jsonl(
                {"audio_filepath": "wavs/a.wav", "duration": 0.5, "text": "It is 1.", "speaker": 3}
                | {"text_normalized": "It is one.", "offset": 0},
                {"audio_filepath": "wavs/b.wav", "duration": 0.5, "text": "It is two."},
            ),
        },
        "NeMo's manifest (audio from audio_filepath, text from text_normalized), 2 rows",
        (
            ("wavs/a.wav", "It is one.", {"speaker": "3", "duration": 0.5}),
            ("wavs/b.wav", "It is two.", {"duration": 0.5}),
        ),
        "m.json",
        ("unknown-key",),
    ),
    Case(
        "Qwen3-TTS, prepared",
        {
            **AB,
            "train.jsonl": jsonl(
                *(
                    {"audio": f"./wavs/{name}.wav", "text": text, "ref_audio": ["./wavs/a.wav"]}
                    | {"audio_codes": [[1] * 16], "language": "en"}
                    for name, text in (("a", "It is one."), ("b", "It is two."))
                )
            ),
        },
        "Qwen3-TTS's training data, JSON lines, 2 rows",
        clips("It is one.", "It is two.", ref_audio="wavs/a.wav", language="en"),
        "train.jsonl",
        ("unknown-key",),
    ),
    Case(
        "VoxCPM",
        {
            **AB,
            "train.jsonl": jsonl(
                *(
                    {"audio": f"wavs/{name}.wav", "text": text, "ref_audio": "wavs/a.wav"}
                    | {"dataset_id": 1, "id": name, "ref_text": "It is one.", "duration": 0.5}
                    for name, text in (("a", "It is one."), ("b", "It is two."))
                )
            ),
        },
        "VoxCPM's training data, JSON lines, 2 rows",
        clips("It is one.", "It is two.", ref_audio="wavs/a.wav", duration=0.5),
        "train.jsonl",
        ("unknown-key",),
    ),
    Case(
        "LibriTTS",
        {
            "84/121/84_121_000007_000000.wav": None,
            "84/121/84_121_000007_000000.original.txt": "It is 1.",
            "84/121/84_121_000007_000000.normalized.txt": "It is one.",
            "84/121/84_121.book.tsv": "x",
            "speakers.tsv": "READER\n",
        },
        "LibriTTS (.normalized.txt beside each recording), 1 rows",
        (("84/121/84_121_000007_000000.wav", "It is one.", {"speaker": "84"}),),
        warnings=("file-not-read",),
    ),
    Case(
        "VCTK 0.92: two microphones, and a speaker without texts",
        {
            "wav48_silence_trimmed/p225/p225_001_mic1.flac": None,
            "wav48_silence_trimmed/p225/p225_001_mic2.flac": None,
            "wav48_silence_trimmed/p315/p315_001_mic1.flac": None,
            "txt/p225/p225_001.txt": "Please call Stella.\n",
            "speaker-info.txt": "ID AGE",
        },
        "VCTK's layout (txt/ beside wav48_silence_trimmed/), 1 rows",
        (
            (
                "wav48_silence_trimmed/p225/p225_001_mic1.flac",
                "Please call Stella.",
                {"speaker": "p225"},
            ),
        ),
        warnings=("audio-without-text",),
    ),
    Case(
        "VCTK's layout without speakers",
        {"wav/a.wav": None, "txt/a.txt": "It is one."},
        "VCTK's layout (txt/ beside wav/), 1 rows",
        (("wav/a.wav", "It is one.", {}),),
    ),
    Case(
        "LibriSpeech",
        {
            "84/121/84-121-0000.flac": None,
            "84/121/84-121-0001.flac": None,
            "84/121/84-121-0002.flac": None,
            "84/121/84-121.trans.txt": "84-121-0000 IT IS ONE\n84-121-0001 IT IS TWO\n",
            "SPEAKERS.TXT": ";ID",
        },
        "LibriSpeech (.trans.txt beside the recordings), 2 rows",
        (
            ("84/121/84-121-0000.flac", "IT IS ONE", {"speaker": "84"}),
            ("84/121/84-121-0001.flac", "IT IS TWO", {"speaker": "84"}),
        ),
        warnings=("audio-without-text",),
    ),
    Case(
        "Kaldi, with speakers for some, and a recording without a text",
        {
            **AB,
            "wavs/c.wav": None,
            "wav.scp": "ann-1 wavs/a.wav\nbob-1 wavs/b.wav\nbob-2 wavs/c.wav\n",
            "text": "ann-1 It is one.\nbob-1\tIt is two.\n",
            "utt2spk": "ann-1 ann\n",
            "spk2utt": "ann ann-1\n",
        },
        "Kaldi (wav.scp and text), 2 rows",
        (
            ("wavs/a.wav", "It is one.", {"speaker": "ann"}),
            ("wavs/b.wav", "It is two.", {}),
        ),
        warnings=("audio-without-text",),
    ),
    Case(
        ".lab and Whisper's .wav.txt, with a README.txt and .DS_Store",
        {
            "a.wav": None,
            "a.lab": "It is one.\n",
            "b.wav": None,
            "b.wav.txt": "It is\ntwo.\n",
            "README.txt": "Read me.",
            "notes.txt": "Not a text.",
            "b.json": "{}",
            "LICENSE": "Free.",
            ".DS_Store": b"\0\0\0\1Bud1",
        },
        "recordings with their texts beside them (.lab and .wav.txt), 2 rows",
        clips("It is one.", "It is two.", folder=""),
        warnings=("file-not-read",),
    ),
    Case(
        "UTF-16, as Notepad writes it",
        {**AB, "metadata.csv": "a|C'est été.\r\nb|Deux.\r\n".encode("utf-16")},
        "LJSpeech, 2 columns (audio in column 1, text in column 2), 2 rows",
        clips("C'est été.", "Deux."),
        warnings=("utf-16", "crlf"),
    ),
    Case(
        "a byte order mark before the header",
        {**AB, "l.csv": codecs.BOM_UTF8 + b"audio,text\nwavs/a.wav,It is one.\n"},
        "CSV with a header, 2 columns (audio from audio, text from text), 1 rows",
        ONE_TWO[:1],
        "l.csv",
        ("byte-order-mark",),
    ),
    Case(
        "a text file in UTF-16",
        {"a.wav": None, "a.txt": "It is one.".encode("utf-16")},
        "recordings with their texts beside them (.txt), 1 rows",
        (("a.wav", "It is one.", {}),),
    ),
    Case(
        "a name that macOS took apart",
        {f"wavs/{NFD}": None, "m.jsonl": jsonl({"audio": "wavs/señal.wav", "text": "Sí."})},
        "JSON lines, 1 rows",
        ((f"wavs/{NFD}", "Sí.", {}),),
        "m.jsonl",
    ),
    Case(
        "paths of Windows",
        {**AB, "m.csv": "audio,text\nC:\\me\\wavs\\a.wav,It is one.\nwavs\\b.wav,It is two.\n"},
        "CSV with a header, 2 columns (audio from audio, text from text), 2 rows",
        ONE_TWO,
        "m.csv",
        ("audio-backslash",),
    ),
    Case(
        "columns that are named",
        {**AB, "l.txt": "wavs/a.wav|ann|en|It is one.\nwavs/b.wav|ann|en|It is two.\n"},
        "LJSpeech, 4 columns (audio in column 1, text in column 4, speaker in column 2), 2 rows",
        clips("It is one.", "It is two.", speaker="ann"),
        "l.txt",
        columns={"text": 4, "speaker": 2},
    ),
    Case(
        "columns whose names nobody knows",
        {**AB, "l.csv": "recorded,uttered,at\nwavs/a.wav,It is one.,3\nwavs/b.wav,It is two.,4\n"},
        "CSV with a header, 3 columns (audio from recorded, text from uttered), 2 rows",
        ONE_TWO,
        "l.csv",
        ("unknown-key",),
        {"audio": "recorded", "text": "uttered"},
    ),
    Case(
        "keys of JSON lines whose names nobody knows",
        {**AB, "l.jsonl": jsonl({"audio": "wavs/a.wav", "uttered": "It is one."})},
        "JSON lines (text from uttered), 1 rows",
        ONE_TWO[:1],
        "l.jsonl",
        columns={"text": "uttered"},
    ),
    Case(
        "GPT-SoVITS, with a path of Windows",
        {
            **AB,
            "own.list": "D:\\sovits\\wavs\\a.wav|ann|EN|It is one.\n"
            "wavs/b.wav|ann|auto|It is two.\n",
        },
        "GPT-SoVITS, 4 columns (audio in column 1, speaker in column 2, language in column 3, text "
        "in column 4), 2 rows",
        (
            ("wavs/a.wav", "It is one.", {"speaker": "ann", "language": "en"}),
            ("wavs/b.wav", "It is two.", {"speaker": "ann"}),
        ),
        warnings=("audio-backslash",),
    ),
    Case(
        "Common Voice: of its lists, that of all good clips",
        {
            "clips/a.mp3": b"x",
            "clips/b.mp3": b"x",
            "validated.tsv": "client_id\tpath\tsentence_id\tsentence\tlocale\n"
            "7\ta.mp3\t1\tIt is one.\ten\n8\tb.mp3\t2\tIt is two.\ten\n",
            **dict.fromkeys(("train.tsv", "dev.tsv", "invalidated.tsv", "other.tsv"), "path\n"),
        },
        "Common Voice, TSV with a header, 5 columns (audio from path, text from sentence, speaker "
        "from client_id, language from locale), 2 rows",
        (
            ("clips/a.mp3", "It is one.", {"speaker": "7", "language": "en"}),
            ("clips/b.mp3", "It is two.", {"speaker": "8", "language": "en"}),
        ),
        warnings=("unknown-key",),
    ),
    Case(
        "a column of recordings whose name nobody knows",
        {**AB, "liste.csv": "Datei;Text\na.wav;It is one.\nb.wav;It is two.\n"},
        "CSV with a header, 2 columns (text from Text, audio from Datei), 2 rows",
        ONE_TWO,
    ),
    Case(
        "the text before the recording",
        {**AB, "list.tsv": "It is one.\twavs/a.wav\nIt is two.\tb\n"},
        "TSV, 2 columns (audio in column 2, text in column 1), 2 rows",
        ONE_TWO,
    ),
    Case(
        "a JSON list beside the recordings, and other JSON",
        {
            **AB,
            "data.json": json.dumps(
                [{"file": f"{name}.wav", "sentence": text} for name, text in A_B], indent=1
            ),
            "config.json": '{"rate": 16000}',
        },
        "a JSON list (audio from file, text from sentence), 2 rows",
        ONE_TWO,
    ),
    Case(
        "a JSON object that has the list, in UTF-16",
        {
            **AB,
            "d.json": json.dumps(
                {"version": 1, "clips": [{"audio": name, "text": text} for name, text in A_B]}
            ).encode("utf-16"),
        },
        "a JSON list under 'clips', 2 rows",
        ONE_TWO,
        "d.json",
    ),
    Case(
        "a JSON object by recordings: texts, and objects",
        {**AB, "d.json": '{"a.wav": "It is one.", "b": {"text": "It is two.", "speaker": "ann"}}'},
        "a JSON object by recordings, 2 rows",
        (ONE_TWO[0], ("wavs/b.wav", "It is two.", {"speaker": "ann"})),
    ),
    Case(
        "JSON lines that are called .json",
        {**AB, "d.json": jsonl({"audio_filepath": "wavs/a.wav", "text": "It is one."})},
        "NeMo's manifest (audio from audio_filepath), 1 rows",
        ONE_TWO[:1],
    ),
    Case(
        "a .txt of columns beside a README.txt",
        {
            **AB,
            "transcripts.txt": "wavs/a.wav|It is one.\nb|It is two.\n",
            "README.txt": "Hi, you.",
        },
        "LJSpeech, 2 columns (audio in column 1, text in column 2), 2 rows",
        ONE_TWO,
    ),
    Case(
        "lists of columns for training and validation, as .txt",
        {**AB, "train.txt": "wavs/a.wav|It is one.\n", "val.txt": "wavs/b.wav|It is two.\n"},
        "LJSpeech, 2 columns (audio in column 1, text in column 2), lists: 1 train, 1 validation, "
        "2 rows",
        (
            ("wavs/a.wav", "It is one.", {"split": "train"}),
            ("wavs/b.wav", "It is two.", {"split": "validation"}),
        ),
    ),
    Case(
        "a name and a text a line, with a comma, and a recording without a text",
        {**AB, "wavs/c.wav": None, "transcript.txt": "a It is, well, one.\nb.wav It is two.\n"},
        "lines of a recording's name and its text (transcript.txt), 2 rows",
        clips("It is, well, one.", "It is two."),
        warnings=("audio-without-text",),
    ),
    Case(
        "JSUT: a colon",
        {**AB, "own/transcript_utf8.txt": "a:水を買う。\nb：木曜日。\n"},
        "lines of a recording's name and its text (own/transcript_utf8.txt), 2 rows",
        clips("水を買う。", "木曜日。"),
    ),
    Case(
        "MLS: a tab, and recordings deep below",
        {"audio/1/2/1_2_3.flac": None, "transcripts.txt": "1_2_3\tIt is one.\n"},
        "lines of a recording's name and its text (transcripts.txt), 1 rows",
        (("audio/1/2/1_2_3.flac", "It is one.", {}),),
        "transcripts.txt",
    ),
    Case(
        "Festvox, as CMU ARCTIC has it",
        {"wav/a_1.wav": None, "etc/txt.done.data": '( a_1 "It is one." )\n'},
        "lines of a recording's name and its text (etc/txt.done.data), 1 rows",
        (("wav/a_1.wav", "It is one.", {}),),
    ),
    Case(
        "an absolute path is read below the root",
        {**AB, "metadata.csv": "ROOT/wavs/a.wav|It is one.\n"},
        "LJSpeech, 2 columns (audio in column 1, text in column 2), 1 rows",
        ONE_TWO[:1],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layout_is_named_and_read(case: Case, tmp_path: Path):
    files = {
        name: content.replace("ROOT", str(tmp_path)) if isinstance(content, str) else content
        for name, content in case.files.items()
    }
    manifest, rows, findings = read(Case(**{**vars(case), "files": files}), tmp_path)
    assert [finding.rule for finding in findings] == list(case.warnings)
    assert {finding.severity for finding in findings} <= {"warning"}
    assert manifest.name == case.reads_as
    keys = ("speaker", "language", "duration", "split", "ref_audio")
    told = [
        (
            row.audio.removeprefix(f"{tmp_path}/"),
            row.text,
            {
                key: value.removeprefix(f"{tmp_path}/") if isinstance(value, str) else value
                for key in keys
                if (value := getattr(row, key)) is not None
            },
        )
        for row in rows
    ]
    assert told == list(case.clips)


THIRD = {
    "pinyin": ("a|你好。|ni3 hao3\nb|再见。|zai4 jian4\n", "pinyin", "text: 2}"),
    "a speaker": (
        "a|It is one.|ann\nb|It is two.|ann\nc|It is three.|ann\n",
        "a speaker",
        "text: 2, speaker: 3}",
    ),
    "a duration": (
        "a|It is one.|3.52\nb|It is two.|1.7\n",
        "a duration",
        "text: 2, duration: 3}",
    ),
    "VITS: a speaker before the text": (
        "a|0|It is one.\nb|0|It is two.\nc|0|It is three.\n",
        "a speaker",
        "text: 3, speaker: 2}",
    ),
    "speaker, another language, text": (
        "a|ann|de|Das ist eins.\nb|ann|de|Es sind zwei.\nc|ann|de|Es sind drei.\n",
        "a language",
        "text: 4, speaker: 2, language: 3}",
    ),
    "a number before the recording": (
        "1|a|It is one.\n2|b|It is two.\n",
        "the recordings are in column 2",
        "audio: 2, text: 3}",
    ),
    "a translation": (
        "a|It is one.|Das ist eins.\nb|Two of them.|Zwei davon.\n",
        "a text",
        "text: 2}",
    ),
    "kana beside kanji": (
        "a|東京へ行く。|トウキョウヘイク\nb|雨が降る。|アメガフル\n",
        "a text",
        "text: 2}",
    ),
}


@pytest.mark.parametrize("case", THIRD)
def test_a_column_that_is_no_normalised_text_is_asked_for(case: str, tmp_path: Path):
    lines, look, advice = THIRD[case]
    build(tmp_path, {**AB, "wavs/c.wav": None, "metadata.csv": lines})
    with pytest.raises(InputError) as caught:
        OpenManifest(str(tmp_path))
    (problem,) = caught.value.problems
    assert look in problem.what
    assert f"data.columns: {{{advice}" in problem.next_step


NORMALISED = [
    "a|In 1450, Dr. Gutenberg|In fourteen fifty, Doctor Gutenberg\n",
    "a|It is one.|It is one.\nb|It is two.|\n",
    "a|1 2 3|one two three\n",
    "a|Er kam 1984 an.|Er kam neunzehnhundertvierundachtzig an.\n",
    "a|他在1984年来了。|他在一九八四年来了。\n",
    "a|ខ្ញុំទៅផ្សារ 5 ដង|ខ្ញុំទៅផ្សារប្រាំដង\n",
]


@pytest.mark.parametrize("lines", NORMALISED)
def test_a_normalised_text_is_told_by_its_words_script_and_length(lines: str, tmp_path: Path):
    build(tmp_path, {**AB, "metadata.csv": lines})
    manifest = OpenManifest(str(tmp_path))
    first = next(iter(manifest))
    assert isinstance(first, ManifestRow)
    assert first.text == lines.splitlines()[0].split("|")[2]


NOT_READ: dict[str, tuple[dict[str, str | bytes | None], str, str]] = {
    "a list of JSON": ({"m.json": '[{"audio": "a.wav"}]'}, "m.json", "which key holds the text"),
    "JSON objects over several lines": (
        {"m.json": '{\n "audio": "a.wav"\n}\n{\n "audio": "b.wav"\n}'},
        "m.json",
        "jq -c . FILE",
    ),
    "a clip of JSON over several lines": (
        {"m.json": '{\n "audio": "a.wav"\n}'},
        "m.json",
        "an object with 'audio'",
    ),
    "JSON lists of cells": ({"m.json": '[["a.wav", "One."]]'}, "m.json", "| @tsv' FILE"),
    "JSON without anything": ({"m.json": "[]"}, "m.json", "an empty list"),
    "JSON with two lists": (
        {"m.json": '{"a": [{"text": "x"}], "b": [{"text": "y"}]}'},
        "m.json",
        "jq '.[\"a\"]' FILE",
    ),
    "the settings of another tool": ({"a.wav": None, "x.json": '{"rate": 1}'}, "", "object with"),
    "Whisper's JSON": ({**AB, "wavs/a.json": "{}", "wavs/b.json": "{}"}, "", "jq -r .text"),
    "a spreadsheet": ({**AB, "list.xlsx": b"PK\x03\x04"}, "", "a spreadsheet (.xlsx)"),
    "a list below": ({**AB, "wavs/own.csv": "audio,text\na,b\n"}, "", "a list in a folder below"),
    "French columns": (
        {**AB, "l.csv": "fichier;texte\na.wav;Un.\nb.wav;Deux.\n"},
        "",
        "{text: texte}",
    ),
    "columns of nothing": ({**AB, "l.csv": "audio,x\na.wav,1\n"}, "", "{text: NAME}"),
    "an archive": ({"m.zip": b"PK\x03\x04"}, "m.zip", "a zip archive or a spreadsheet"),
    "a recording": ({"m.wav": None}, "m.wav", "a recording"),
    "prose": ({"m.txt": "Once upon a time.\nThe end.\n"}, "m.txt", "neither JSON objects nor"),
    "Kaldi with segments": (
        {"wav.scp": "a a.wav\n", "text": "a one\n", "segments": "a-1 a 0 1\n"},
        "",
        "a Kaldi data directory with segments",
    ),
    "Kaldi without texts": ({"wav.scp": "a a.wav\n"}, "", "without a text beside them"),
    "LibriSpeech without recordings": ({"1-2.trans.txt": "1-2-0 ONE"}, "", "1 texts without rec"),
    "TextGrids": ({"a.wav": None, "a.TextGrid": "x"}, "", "Praat's TextGrids"),
    "recordings alone": ({"a.wav": None, "b.wav": None}, "", "2 recordings without texts"),
    "texts alone": ({"a.txt": "One.", "b.txt": "Two."}, "", "2 texts without recordings"),
    "commas in texts": ({**AB, "m.csv": "a,Well, one.\nb,Two.\n"}, "m.csv", "in double quotes"),
    "other names": ({"a.wav": None, "b.txt": "One."}, "", "without a name in common"),
    "several lists": ({"a.csv": "audio,text\n", "b.csv": "audio,text\n"}, "", "several lists"),
    "videos": ({"a.mkv": b"1", "b.mkv": b"1"}, "", "without recordings that are read (2 .mkv)"),
    "no text": ({**AB, "m.csv": "file_name,label\nwavs/a.wav,x\n"}, "", "which column"),
    "damaged Parquet": ({"m.parquet": b"PAR1 and no more"}, "m.parquet", "whole Parquet or Arrow"),
}


@pytest.mark.parametrize("case", NOT_READ)
def test_what_is_not_read_is_named_in_one_line(case: str, tmp_path: Path):
    files, name, said = NOT_READ[case]
    build(tmp_path, files)
    with pytest.raises(InputError) as caught:
        list(OpenManifest(f"{tmp_path}/{name}".rstrip("/")))
    (problem,) = caught.value.problems
    assert said in str(problem)
    assert problem.next_step


def test_parquet_in_s3_is_refused_with_the_command_that_fetches_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(layouts, "read_start", lambda location, size: b"PAR1")
    with pytest.raises(InputError) as caught:
        layouts.recognise("s3://bucket/ann/train.parquet", None, {})
    (problem,) = caught.value.problems
    step = "Fetch it by aws s3 cp --recursive s3://bucket/ann NEW, and name NEW."
    assert problem.next_step == step


def test_files_that_are_not_read_are_told_once_with_their_kinds(tmp_path: Path):
    files = {"x/a.wav": None, "x/a.txt": "One.", "x/README.txt": "-", "y/a.json": "", "b.json": ""}
    build(tmp_path, files)
    _, finding = OpenManifest(str(tmp_path))
    assert isinstance(finding, Finding)
    assert finding.problem.what.endswith("but 3 are not (2 .json, x/README.txt)")


def test_what_is_amiss_in_kaldis_lists_is_told_by_line(tmp_path: Path):
    build(tmp_path, {"wav.scp": "a sph2pipe a.sph |\n", "text": "a one\nb two\n"})
    found = list(OpenManifest(str(tmp_path)))
    assert [(f.rule, f.problem.where.rpartition("/")[2]) for f in found] == [
        ("audio-command", "wav.scp:1"),
        ("text-without-audio", "text:2"),
    ]


def test_a_line_of_librispeech_needs_its_recording(tmp_path: Path):
    build(tmp_path, {"1-2-0.flac": None, "1-2.trans.txt": "1-2-0 ONE\n1-2-1 TWO\n"})
    _, finding = OpenManifest(str(tmp_path))
    assert isinstance(finding, Finding)
    assert (finding.rule, finding.severity) == ("text-without-audio", "error")
    assert finding.problem.where.endswith("1-2.trans.txt:2")


def test_windows_1252_is_told_once_with_the_letter_and_a_command_that_works(tmp_path: Path):
    lines = "Datei;Text\na.wav;Es ist schön.\nb.wav;Es war früh.\n"
    build(tmp_path, {**AB, "liste.csv": lines.encode("cp1252")})
    with pytest.raises(InputError) as caught:
        OpenManifest(str(tmp_path))
    (problem,) = caught.value.problems
    assert problem.where == f"{tmp_path}/liste.csv:2"
    assert "in Windows-1252 it is ö (2 of the first 4 lines" in problem.what
    assert "iconv -f CP1252 -t UTF-8" in problem.next_step


def test_a_header_that_is_not_utf8_does_not_lose_the_row_below_it(tmp_path: Path):
    build(tmp_path, {**AB, "l.csv": "audio,text,Größe\na.wav,One.,1\n".encode("cp1252")})
    with pytest.raises(InputError, match="in Windows-1252 it is ö"):
        OpenManifest(str(tmp_path))


def test_a_name_of_several_recordings_and_one_of_none_are_told_by_line(tmp_path: Path):
    files = {"x/a.wav": None, "y/a.wav": None, "y/b.wav": None}
    build(tmp_path, {**files, "l.txt": "y/b One.\ny/a Two.\na Three.\nc Four.\nx/a Five.\n"})
    found = list(OpenManifest(str(tmp_path)))
    rows = [row.text for row in found if isinstance(row, ManifestRow)]
    told = [
        (item.rule, item.problem.where.rpartition("/")[2])
        for item in found
        if isinstance(item, Finding)
    ]
    assert rows == ["One.", "Two.", "Five."]
    assert told == [("several-recordings", "l.txt:3"), ("text-without-audio", "l.txt:4")]


def test_a_first_line_of_json_longer_than_what_is_looked_at_is_a_line(tmp_path: Path):
    codes = {"audio_codes": [1] * 40_000}
    rows = ({"audio": f"wavs/{name}.wav", "text": text} | codes for name, text in A_B)
    build(tmp_path, {**AB, "m.json": jsonl(*rows)})
    manifest = OpenManifest(f"{tmp_path}/m.json")
    assert [item.text for item in manifest if isinstance(item, ManifestRow)] == [t for _, t in A_B]
    assert manifest.name.startswith("Qwen3-TTS's training data, JSON lines")


def test_a_row_of_a_json_list_is_told_by_its_number(tmp_path: Path):
    rows = [{"audio": "a", "text": "One."}, 3, {"audio": "b", "text": ""}]
    build(tmp_path, {**AB, "m.json": json.dumps(rows)[:-1] + ', {"audio": "b", "audio": "a"}]'})
    found = [item for item in OpenManifest(str(tmp_path)) if isinstance(item, Finding)]
    assert [(item.rule, item.problem.where.rpartition("/")[2]) for item in found] == [
        ("duplicate-key", "m.json"),
        ("not-an-object", "m.json row 2"),
        ("empty-text", "m.json row 3"),
        ("missing-key", "m.json row 4"),
    ]


def test_an_offset_into_a_longer_file_is_refused(tmp_path: Path):
    lines = jsonl({"audio_filepath": "wavs/a.wav", "text": "One.", "offset": 1.5, "duration": 1})
    build(tmp_path, {**AB, "m.json": lines})
    finding = list(OpenManifest(f"{tmp_path}/m.json"))[-1]
    assert isinstance(finding, Finding)
    assert (finding.rule, finding.severity) == ("audio-segment", "error")


def audio_table(root: Path, *texts: str, embed: bool = True) -> pyarrow.Table:
    """As ``datasets`` stores clips: the bytes of each, or paths alone."""
    cells = []
    for number, _ in enumerate(texts):
        name = f"{number}.wav"
        sound(root / name)
        cells.append({"bytes": (root / name).read_bytes() if embed else None, "path": name})
        if embed:
            (root / name).unlink()
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    columns = {"audio": pyarrow.array(cells, kind), "sentence": list(texts)}
    return pyarrow.table({**columns, "up_votes": [0] * len(texts)})


def write_parquet(table: pyarrow.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=2)


def save_to_disk(table: pyarrow.Table, folder: Path) -> None:
    """What ``datasets.Dataset.save_to_disk`` writes."""
    folder.mkdir(parents=True)
    with pyarrow.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def as_parquet_file(root: Path) -> str:
    write_parquet(audio_table(root, "One.", "Two.", "Three."), root / "m.parquet")
    return "m.parquet"


def as_hub_folder(root: Path) -> str:
    write_parquet(audio_table(root, "One."), root / "data/train-00000-of-00001.parquet")
    write_parquet(audio_table(root, "Two."), root / "data/test-00000-of-00001.parquet")
    (root / "README.md").write_text("A dataset.")
    return ""


def as_saved_dict(root: Path) -> str:
    save_to_disk(audio_table(root, "One.", "Two."), root / "train")
    save_to_disk(audio_table(root, "Three."), root / "validation")
    (root / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    return ""


def as_saved(root: Path) -> str:
    save_to_disk(audio_table(root, "One.", "Two.", "Three."), root / "saved")
    return "saved"


def by_path(root: Path) -> str:
    write_parquet(audio_table(root, "One.", "Two.", embed=False), root / "metadata.parquet")
    return ""


PACKED: list[tuple[Callable[[Path], str], str, list[tuple[str, str | None]]]] = [
    (
        as_parquet_file,
        "a table of Parquet or Arrow (audio from audio, text from sentence), 3 rows",
        [("One.", None), ("Two.", None), ("Three.", None)],
    ),
    (
        as_hub_folder,
        "a table of Parquet or Arrow (audio from audio, text from sentence), lists: "
        "1 validation, 1 train, 2 rows",
        [("Two.", "validation"), ("One.", "train")],
    ),
    (
        as_saved_dict,
        "Hugging Face dataset saved to disk (audio from audio, text from sentence), lists: "
        "1 train, 1 validation, 3 rows",
        [("One.", "train"), ("Two.", "train"), ("Three.", "validation")],
    ),
    (
        as_saved,
        "Hugging Face dataset saved to disk (audio from audio, text from sentence), 3 rows",
        [("One.", None), ("Two.", None), ("Three.", None)],
    ),
    (
        by_path,
        "a table of Parquet or Arrow (audio from audio, text from sentence), 2 rows",
        [("One.", None), ("Two.", None)],
    ),
]


@pytest.mark.parametrize(
    ("write", "named", "expected"), PACKED, ids=[write.__name__ for write, _, _ in PACKED]
)
def test_tables_of_recordings_are_read(
    write: Callable[[Path], str],
    named: str,
    expected: list[tuple[str, str | None]],
    tmp_path: Path,
):
    manifest = OpenManifest(f"{tmp_path}/{write(tmp_path)}".rstrip("/"))
    rows = list(manifest)
    assert all(isinstance(row, ManifestRow) for row in rows), rows
    assert [(row.text, row.split) for row in rows] == expected
    assert manifest.name == named
    for row in rows:
        assert decode(row.audio).samples.shape == (RATE // 2,)


def test_languages_become_tags(tmp_path: Path):
    names = ["jp", "English", "cmn", "en_US", "Auto", "Englisch"]
    rows = [{"audio": "wavs/a.wav", "text": "One.", "language": name} for name in names]
    build(tmp_path, {**AB, "m.jsonl": jsonl(*rows)})
    *read, refused = OpenManifest(f"{tmp_path}/m.jsonl")
    assert [row.language for row in read] == ["ja", "en", "zh", "en-US", None]
    assert refused.rule == "bad-language"
    assert refused.problem.next_step == "Did you mean en (English)?"


def test_a_cell_cannot_be_named_in_a_list(tmp_path: Path):
    as_parquet_file(tmp_path)
    name = f"cell://0/audio/{tmp_path}/m.parquet"
    build(tmp_path, {"m.jsonl": jsonl({"audio": name, "text": "One."})})
    (finding,) = OpenManifest(f"{tmp_path}/m.jsonl")
    assert isinstance(finding, Finding)
    assert finding.rule == "audio-url"
