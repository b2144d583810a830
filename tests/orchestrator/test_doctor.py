"""What the doctor says of what is installed, and of what is not."""

import json
from importlib import metadata
from pathlib import Path

import pytest

from jobs.codecs.codec import CODECS
from jobs.families.registry import FAMILIES
from orchestrator import doctor
from orchestrator.cli import main


def test_everything_is_well_where_the_tests_run():
    health = doctor.examine()
    assert {name: health.runs(name) for name in FAMILIES} == dict.fromkeys(FAMILIES, True)
    assert {name: health.decodes(name) for name in CODECS} == dict.fromkeys(CODECS, True)
    assert health.reads("phonemes")
    assert not any("missing" in line for line in health.lines())


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "  qwen-tts: missing, needs 0.1.1. Run `pip install --no-deps qwen-tts==0.1.1`."),
        ("0.2.0", "  qwen-tts: 0.2.0, needs 0.1.1. Run `pip install --no-deps qwen-tts==0.1.1`."),
    ],
)
def test_what_is_amiss_is_said_with_the_command_that_mends_it(
    found: str | None, said: str, monkeypatch: pytest.MonkeyPatch
):
    def version(package: str) -> str:
        if package != "qwen-tts":
            return metadata.version(package)
        if found is None:
            raise metadata.PackageNotFoundError(package)
        return found

    monkeypatch.setattr(doctor, "version", version)
    health = doctor.examine()
    assert said in list(health.lines())
    assert "family qwen3_tts: cannot run" in list(health.lines())
    assert health.runs("codec_lm")


def test_ffmpeg_is_told_with_its_version_or_with_what_lacks_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho ffmpeg version 7.1 Copyright\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "ffmpeg: 7.1" in list(doctor.examine().lines())
    (tmp_path / "ffmpeg").unlink()
    health = doctor.examine()
    assert health.ffmpeg is None
    assert any(line.startswith("ffmpeg: none; without it") for line in health.lines())


def test_a_codec_that_lacks_its_package_says_what_clashes(monkeypatch: pytest.MonkeyPatch):
    def version(package: str) -> str:
        if package == "neucodec":
            raise metadata.PackageNotFoundError(package)
        return metadata.version(package)

    monkeypatch.setattr(doctor, "version", version)
    health = doctor.examine()
    said = list(health.lines())
    at = said.index("codec neucodec: cannot run")
    assert said[at + 1] == (
        "  neucodec: missing, needs 0.0.6. Run `pip install --no-deps neucodec==0.0.6`."
    )
    assert "torchtune, which does not import beside torchao" in said[at + 5]
    assert "codec world: can run" in said
    assert not health.to_dict()["codecs"]["neucodec"]["runs"]


def test_a_front_end_that_lacks_its_package_says_so(monkeypatch: pytest.MonkeyPatch):
    def version(package: str) -> str:
        if package == "espeakng-loader":
            raise metadata.PackageNotFoundError(package)
        return metadata.version(package)

    monkeypatch.setattr(doctor, "version", version)
    health = doctor.examine()
    said = list(health.lines())
    at = said.index("front end phonemes: cannot run")
    assert said[at + 1] == (
        "  espeakng-loader: missing, needs 0.2.4. "
        "Run `pip install --no-deps espeakng-loader==0.2.4`."
    )
    assert not health.to_dict()["front_ends"]["phonemes"]["runs"]


def test_the_command_prints_one_json_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.argv", ["voxsweep", "doctor", "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["families"]) == set(FAMILIES)


def test_a_storage_is_tried_when_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for place, code in ((tmp_path / "st", 0), ("/proc/none", 4)):
        monkeypatch.setattr("sys.argv", ["voxsweep", "doctor", "--storage", str(place)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == code
        said = [line for line in capsys.readouterr().out.splitlines() if "storage: " in line]
        assert any("lock: works" in line for line in said) == (code == 0)
        assert any("FAILS" in line for line in said) == (code == 4)
