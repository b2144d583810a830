"""A voice directory is whole, or every reason why it is not is told."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from jobs.problems import InputError
from jobs.spec.trial import DecodingSpec, TrainingSpec
from jobs.speech.voice_files import (
    VOICE_FILE,
    SpokenLanguage,
    VoiceFacts,
    VoiceFiles,
    read_voice,
    write_voice,
)
from tests.embedded_voice import EMBEDDED_HOST

FACTS = VoiceFacts(
    sweep="small",
    trial="t0123456789ab",
    epoch=3,
    lora_scale=0.7,
    training=TrainingSpec(rank=4),
    host=EMBEDDED_HOST,
    base_digest="b" * 64,
    encoder_digest="e" * 64,
    decoding=DecodingSpec(),
    sample_rate=16_000,
    longest=20.0,
    provenance="a synthetic voice",
    protocol="c" * 64,
    versions={"voxsweep": "0.1.0"},
)


def make_checkpoint(directory: Path, rank: int = 4) -> Path:
    directory.mkdir()
    weights = {"base_model.model.q_proj.lora_A.weight": np.ones((rank, 8), np.float32)}
    save_file(weights, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(json.dumps({"r": rank}))
    (directory / "optimizer.safetensors").write_bytes(b"moments")
    (directory / "state.json").write_text("{}")
    return directory


@pytest.fixture
def voice(tmp_path: Path) -> VoiceFiles:
    return write_voice(tmp_path / "voice", FACTS, make_checkpoint(tmp_path / "checkpoint"))


def test_what_is_written_is_read(voice: VoiceFiles):
    assert read_voice(voice.directory) == voice
    assert voice.facts.variant.id == "t0123456789ab-e03-s0.70"
    assert voice.facts.model_copy(update={"files": {}}) == FACTS


def test_the_optimiser_stays_behind(voice: VoiceFiles):
    found = {p.relative_to(voice.directory).as_posix() for p in voice.directory.rglob("*.*")}
    assert found == {
        "voice.json",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    }


def test_a_voice_that_speaks_behind_a_reference_has_it(tmp_path: Path):
    host = EMBEDDED_HOST.model_copy(update={"reference_prefix": True})
    facts = FACTS.model_copy(update={"host": host})
    voice = write_voice(tmp_path / "voice", facts, make_checkpoint(tmp_path / "checkpoint"))
    with pytest.raises(InputError, match=r"must name voice\.json, which has the reference"):
        read_voice(voice.directory)


def test_what_a_family_keeps_comes_along(tmp_path: Path):
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    for name in ("voice.safetensors", "voice.json"):
        (checkpoint / name).write_bytes(b"kept")
    voice = write_voice(tmp_path / "voice", FACTS, checkpoint)
    assert (voice.adapter / "voice.safetensors").read_bytes() == b"kept"
    assert read_voice(voice.directory).facts.files.keys() >= {"voice.safetensors", "voice.json"}


def forget_the_config(directory: Path) -> None:
    (directory / "adapter/adapter_config.json").unlink()


def cut_the_weights(directory: Path) -> None:
    path = directory / "adapter/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def lead_outside(directory: Path) -> None:
    path = directory / "adapter/adapter_config.json"
    path.rename(directory.parent / "elsewhere.json")
    path.symlink_to(directory.parent / "elsewhere.json")


def change(**changes: object) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        row = json.loads((directory / VOICE_FILE).read_text())
        (directory / VOICE_FILE).write_text(json.dumps({**row, **changes}))

    return apply


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (forget_the_config, ["must be there"]),
        (cut_the_weights, ["of SHA-256"]),
        (lead_outside, ["leads out"]),
        (change(format=2), ["format"]),
        (change(epoch=0, colour="red"), ["epoch", "colour"]),
        (change(files={"../../etc/passwd": "0" * 64}), ["passwd", "must name", "must name"]),
        (change(training={"rank": 8}), ["must have the rank"]),
    ],
)
def test_every_problem_is_told(voice: VoiceFiles, harm: Callable[[Path], None], said: list[str]):
    harm(voice.directory)
    with pytest.raises(InputError) as caught:
        read_voice(voice.directory)
    problems = caught.value.problems
    assert len(problems) == len(said)
    for problem, words in zip(problems, said, strict=True):
        assert words in str(problem)


def two_voices(tmp_path: Path) -> VoiceFiles:
    """Korean has an adapter of its own, and Khmer refuses both."""
    other = FACTS.model_copy(update={"trial": "t" + "e" * 12})
    parts = (("en", "PROMOTE", FACTS), ("ko", "PROMOTE", other), ("km", "REGRESSION", None))
    by_language = tuple(
        SpokenLanguage(language=of, verdict=verdict, variant=by.variant.id if by else "base")
        for of, verdict, by in parts
    )
    checkpoint = make_checkpoint(tmp_path / "of both")
    facts = FACTS.model_copy(update={"by_language": by_language})
    directory = tmp_path / "two"
    files = write_voice(directory, facts, checkpoint)
    beside = write_voice(directory / "others" / other.variant.id, other, checkpoint)
    return replace(files, others={other.variant.id: beside})


def test_a_voice_of_several_variants_is_read_and_goes_one_by_one(tmp_path: Path):
    made = two_voices(tmp_path)
    found = read_voice(made.directory)
    assert found == made
    korean = found.alone("ko")
    assert korean.directory == made.directory / "others" / korean.facts.variant.id
    assert (korean.facts.variant_for(None), korean.facts.languages) == (
        korean.facts.variant.id,
        ("ko",),
    )
    with pytest.raises(ValueError, match="was judged in, ko, got en"):
        korean.facts.variant_for("en")
    assert found.alone("en").directory == made.directory
    for language, rule in (
        ("km", "REGRESSION: the base speaks km, and no adapter, got km. Name one of en, ko."),
        ("de", "one must be named, got de"),
        (None, "one must be named, got none"),
    ):
        with pytest.raises(InputError, match=rule):
            found.alone(language)


def test_a_voice_of_one_variant_has_no_languages_to_choose_from(voice: VoiceFiles):
    assert voice.alone(None) is voice
    with pytest.raises(InputError, match="one adapter speaks all languages of the voice, got ko"):
        voice.alone("ko")


def test_no_adapter_is_put_where_a_language_refuses_it(tmp_path: Path):
    """Whoever edits ``voice.json`` is told, and so is whoever swaps the directories beside it."""
    made = two_voices(tmp_path)
    text = (made.directory / VOICE_FILE).read_text()
    path = made.directory / VOICE_FILE
    path.write_text(text.replace('"variant": "base"', f'"variant": "{FACTS.variant.id}"'))
    with pytest.raises(
        InputError, match="after REGRESSION only the base speaks a language, and km"
    ):
        read_voice(made.directory)
    path.write_text(text)
    (name,) = made.others
    beside = made.directory / "others" / name / VOICE_FILE
    whole = beside.read_text()
    beside.write_text(whole.replace("t" + "e" * 12, "t" + "d" * 12).replace("b" * 64, "d" * 64))
    with pytest.raises(InputError) as caught:
        read_voice(made.directory)
    assert [
        str(problem).split(" of others")[0].split(": ")[-1] for problem in (caught.value.problems)
    ] == ["variant", "base_digest"]
    beside.unlink()
    with pytest.raises(InputError, match="cannot read it"):
        read_voice(made.directory)


def test_weights_that_are_none_are_told(voice: VoiceFiles, tmp_path: Path):
    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "adapter_model.safetensors").write_bytes(b"\x80\x04pickle")
    other = write_voice(tmp_path / "other", FACTS, checkpoint)
    with pytest.raises(InputError, match="must be a safetensors file"):
        read_voice(other.directory)


def test_what_is_no_voice_directory_is_told(tmp_path: Path):
    with pytest.raises(InputError, match="cannot read it"):
        read_voice(tmp_path)
