"""An export is there whole, or not at all."""

from pathlib import Path

import pytest

from jobs.export import codec_lm_peft
from jobs.export.load_back import Check, LoadBackError, passed
from jobs.export.peft_files import write_adapter
from jobs.export.write import export_voice
from jobs.problems import InputError
from jobs.speech.voice_files import SpokenLanguage, VoiceFiles


def test_every_problem_is_told_before_anything_is_loaded(
    codec_lm_voice: VoiceFiles, tmp_path: Path
):
    with pytest.raises(InputError) as caught:
        export_voice(codec_lm_voice, "native", tmp_path, "q3")  # type: ignore[arg-type]
    told = [str(problem) for problem in caught.value.problems]
    assert len(told) == 3
    assert "--format: codec_lm is not exported as native" in told[0]
    assert "merged" in told[0]
    assert "'q3'" in told[1]
    assert "is there already" in told[2]
    assert list(tmp_path.iterdir()) == []


def test_a_language_that_the_base_speaks_is_not_exported(
    codec_lm_voice: VoiceFiles, tmp_path: Path
):
    facts = codec_lm_voice.facts
    parts = (("en", "PROMOTE", facts.variant.id), ("km", "DO-NOT-FINE-TUNE", "base"))
    divided = facts.model_copy(
        update={
            "by_language": tuple(
                SpokenLanguage(language=language, verdict=verdict, variant=variant)
                for language, verdict, variant in parts
            )
        }
    )
    voice = VoiceFiles(codec_lm_voice.directory, divided)
    for language in (None, "km"):
        with pytest.raises(InputError, match="Name one of en"):
            export_voice(voice, "peft", tmp_path / "out", language=language)
    assert list(tmp_path.iterdir()) == []
    made = export_voice(voice, "peft", tmp_path / "out", language="en")
    assert made.to_dict()["voice"]["by_language"] == [
        {"language": "en", "verdict": "PROMOTE", "variant": facts.variant.id}
    ]
    assert "It is for en alone: PROMOTE." in (tmp_path / "out" / "README.md").read_text()


def test_only_a_gguf_file_has_a_quantization(codec_lm_voice: VoiceFiles, tmp_path: Path):
    with pytest.raises(InputError, match="only gguf has a quantization"):
        export_voice(codec_lm_voice, "peft", tmp_path / "out", "f16")


def test_what_does_not_load_back_is_not_kept(
    codec_lm_voice: VoiceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def forget_the_strength(voice: VoiceFiles, directory: Path, _: str) -> None:
        louder = voice.facts.model_copy(update={"lora_scale": 1.0})
        write_adapter(VoiceFiles(voice.directory, louder), directory)

    monkeypatch.setattr(codec_lm_peft, "write", forget_the_strength)
    with pytest.raises(LoadBackError, match="differs in logits of"):
        export_voice(codec_lm_voice, "peft", tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []


def test_what_cannot_be_compared_does_not_pass():
    fine, lost = Check("a", 0.1, 0.1), Check("b", float("nan"), 1.0)
    assert passed([fine]).checks == (fine,)
    with pytest.raises(LoadBackError, match="differs in b: nan, at most 1"):
        passed([fine, lost])
