"""Texts said outside a sweep: what is refused before the voice is loaded, and many in one start."""

import base64
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from jobs.problems import InputError
from jobs.speech.served_voice import ServedVoice
from jobs.speech.voice_files import VoiceFiles
from orchestrator.cli import app
from orchestrator.release.voices import Wanted, read_lines, synthesise

UNUSED = (
    "sklearn",
    "pandas",
    "pyarrow",
    "scipy.optimize",
    "scipy.stats",
    "mlflow",
    "ray",
    "optuna",
    "deepspeed",
)
"""What takes seconds to import, and nothing that is said needs."""


def test_lines_are_texts_with_a_file_each(tmp_path: Path):
    (tmp_path / "lines.txt").write_text("one two\n\n  three \n", encoding="utf-8")
    first, second = read_lines(tmp_path / "lines.txt", tmp_path / "said")
    assert first == Wanted("one two", tmp_path / "said/0001.wav", f"{tmp_path}/lines.txt:1")
    assert second == Wanted("three", tmp_path / "said/0003.wav", f"{tmp_path}/lines.txt:3")


def test_no_lines_and_a_folder_that_is_there(tmp_path: Path):
    (tmp_path / "lines.txt").write_text("\n \n")
    with pytest.raises(InputError) as refused:
        read_lines(tmp_path / "lines.txt", tmp_path)
    assert [problem.what for problem in refused.value.problems] == [
        "no line of it has a text",
        "the folder for the WAV files must not be there, but it is",
    ]


def test_every_bad_line_is_told_before_the_voice_is_loaded(
    embedded_voice: VoiceFiles, tmp_path: Path
):
    absent = replace(embedded_voice, directory=tmp_path / "nothing")
    wanted = [
        Wanted("one", tmp_path / "a.wav", "lines.txt:1"),
        Wanted("hello", tmp_path / "b.mp3", "lines.txt:2"),
        Wanted("two", tmp_path / "c.wav", "lines.txt:3"),
        Wanted("world", tmp_path / "d.wav", "lines.txt:4"),
    ]
    with pytest.raises(InputError) as refused:
        list(synthesise(absent, wanted, None, None))
    assert [problem.where for problem in refused.value.problems] == [
        "--out",
        "lines.txt:2",
        "lines.txt:4",
    ]


def test_many_in_one_start_sound_like_each_alone(embedded_voice: VoiceFiles, tmp_path: Path):
    wanted = [Wanted(text, tmp_path / f"{text}.wav") for text in ("nine", "two")]
    together = [spoken.audio for _, spoken in synthesise(embedded_voice, wanted, None, None)]
    ((_, alone),) = synthesise(embedded_voice, wanted[1:], None, None)
    assert alone.audio.size
    assert np.array_equal(together[1], alone.audio)


@pytest.mark.parametrize(("given", "got"), [([], "neither"), (["one", "--lines", "l"], "both")])
def test_a_text_or_lines(given: list[str], got: str, tmp_path: Path):
    ended = CliRunner().invoke(app, ["say", "demo", *given, "-o", str(tmp_path / "o.wav")])
    assert f"either a text or --lines must be given, got {got}" in str(ended.exception)


def test_to_name_a_voice_loads_nothing_that_speaks():
    program = (
        "import json, sys, orchestrator.release.voices\n"
        f"heavy = {{*{UNUSED}, 'torch', 'transformers', 'scipy'}}\n"
        "print(json.dumps(sorted(heavy & {*sys.modules})))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert json.loads(ended.stdout) == [], ended.stderr


@pytest.mark.full
def test_to_speak_loads_nothing_that_it_does_not_use(embedded_voice: VoiceFiles, tmp_path: Path):
    out = tmp_path / "many"
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    arguments = ["say", str(embedded_voice.directory), "--lines", str(tmp_path / "lines.txt")]
    program = (
        "import json, sys\nfrom orchestrator.cli import app\n"
        f"try:\n    app({[*arguments, '-o', str(out), '--json']!r})\n"
        "except SystemExit as end:\n    assert not end.code\n"
        f"print(json.dumps(sorted({{*{UNUSED}}} & {{*sys.modules}})))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    said, loaded = map(json.loads, ended.stdout.splitlines())
    assert loaded == []
    assert [row["out"] for row in said["lines"]] == [f"{out}/0001.wav", f"{out}/0002.wav"]
    assert sorted(path.name for path in out.iterdir()) == ["0001.wav", "0002.wav"]


def test_a_stream_is_written_while_it_is_said(embedded_voice: VoiceFiles, tmp_path: Path):
    text, voice = "four two one. three", str(embedded_voice.directory)
    outs = {name: tmp_path / f"{name}.wav" for name in ("whole", "stream")}
    for name, out in outs.items():
        options = ["--stream"] if name == "stream" else []
        said = CliRunner().invoke(app, ["say", voice, text, "-o", str(out), *options])
        assert said.exit_code == 0, said.output
        assert "2 chunks" in said.output
    whole, streamed = (soundfile.SoundFile(out) for out in outs.values())
    with whole, streamed:
        assert (whole.comment, whole.copyright) == (streamed.comment, streamed.copyright)
        assert np.array_equal(whole.read(dtype="int16"), streamed.read(dtype="int16"))
    piped = CliRunner().invoke(app, ["say", voice, text, "-o", "-", "--stream"])
    samples = piped.stdout_bytes.partition(b"data")[2][4:]
    assert piped.stdout_bytes.startswith(b"RIFF\xff\xff\xff\xffWAVE")
    assert samples == outs["stream"].read_bytes().partition(b"data")[2][4:]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["one", "-o", "-"], "standard output takes a stream alone, got no --stream"),
        (["one", "-o", "-", "--stream", "--json"], "takes a stream alone, got --json"),
        (["--lines", "x.txt", "-o", "out", "--stream"], "one text is streamed, got --lines"),
        (["one", "-o", "x.mp3", "--stream"], "the file must be named .wav"),
        (["hello", "-o", "-", "--stream"], "hello"),
    ],
)
def test_a_stream_that_cannot_be(embedded_voice: VoiceFiles, options: list[str], what: str):
    said = CliRunner().invoke(app, ["say", str(embedded_voice.directory), *options])
    assert what in str(said.exception)
    assert said.stdout_bytes == b""


def test_a_served_voice_answers_in_pieces(embedded_voice: VoiceFiles):
    voice = ServedVoice(embedded_voice.directory)
    whole = voice.answer({"text": "four two one. three", "language": float("nan")})
    *pieces, last = voice.answer_stream({"text": "four two one. three"})
    files = [
        soundfile.read(io.BytesIO(base64.b64decode(p["audio"])), dtype="int16") for p in pieces
    ]
    wanted, rate = soundfile.read(io.BytesIO(base64.b64decode(whole["audio"])), dtype="int16")
    assert np.array_equal(np.concatenate([sound for sound, _ in files]), wanted)
    assert {at for _, at in files} == {rate} == {whole["sample_rate"]}
    assert last == {"audio": "", "sample_rate": rate, "seconds": 0.0, "problem": ""}
    (refused,) = voice.answer_stream({"text": "hello"})
    assert "hello" in refused["problem"]
