"""Texts said outside a sweep: what is refused before the voice is loaded, and many in one start."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.problems import InputError
from jobs.speech.voice_files import VoiceFiles
from orchestrator.cli import app
from orchestrator.release.voices import Wanted, read_lines, synthesise

UNUSED = ("sklearn", "pandas", "pyarrow", "scipy.stats", "mlflow", "ray", "optuna", "deepspeed")
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
