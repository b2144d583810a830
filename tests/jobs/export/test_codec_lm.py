"""A voice of the embedded base as other tools load it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader, TokenType
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from jobs.export.formats import EXPORTERS, Exporter, formats_of
from jobs.export.gguf import export as gguf_export
from jobs.export.gguf import file as gguf_file
from jobs.export.gguf import llama
from jobs.export.load_back import LoadBackError
from jobs.export.write import MANIFEST_FILE, export_voice, files_of
from jobs.families.base import FrozenBase
from jobs.families.registry import load_base
from jobs.spec.trial import DecodingSpec, PromptSpec, TrainingSpec
from jobs.speech.voice import LoadedVoice
from jobs.speech.voice_files import VoiceFiles
from tests.backbones import write_checkpoint
from tests.embedded_voice import EMBEDDED_HOST
from tests.jobs.export.voices import random_voice
from tests.toy import toy_clips_behind_a_reference

GGUF = "model-q8_0.gguf"
WEIGHTS = "adapter_model.safetensors"
PROMPT = PromptSpec(id="p", text="nine one six")
runs_llama = [
    pytest.mark.llama,
    pytest.mark.skipif(not llama.is_installed(), reason="pip install xllamacpp"),
]


@pytest.fixture(scope="module")
def exported(
    codec_lm_voice: VoiceFiles, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """By format."""
    folder = tmp_path_factory.mktemp("exported")
    wanted = formats_of("codec_lm")
    for name in wanted:
        export_voice(codec_lm_voice, name, folder / name)  # type: ignore[arg-type]
    return {name: folder / name for name in wanted}


def manifest(directory: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((directory / MANIFEST_FILE).read_text())
    return read


def test_three_formats_were_exported_and_nothing_else_is_there(exported: dict[str, Path]):
    assert sorted(exported) == ["gguf", "merged", "peft"]
    folder = exported["peft"].parent
    assert sorted(path.name for path in folder.iterdir()) == sorted(exported)


@pytest.mark.parametrize("name", ["peft", "merged", "gguf"])
def test_a_manifest_has_every_file_and_says_whose_voice_it_is(
    exported: dict[str, Path], codec_lm_voice: VoiceFiles, name: str
):
    told = manifest(exported[name])
    listed = files_of(exported[name])
    del listed[MANIFEST_FILE]
    assert told["files"] == listed
    assert {"README.md"} < set(listed)
    assert (told["family"], told["format"]) == ("codec_lm", name)
    assert told["quantization"] == ("q8_0" if name == "gguf" else None)
    assert told["voice"]["lora_scale"] == 0.6
    assert told["voice"]["provenance"] == "a synthetic voice"
    assert told["voice"]["base_digest"] == codec_lm_voice.facts.base_digest
    assert {"voxsweep", "torch", "transformers", "peft", "gguf"} <= set(told["versions"])
    assert len(told["load_back"]["checks"]) >= 2
    assert all(c["difference"] <= c["tolerance"] for c in told["load_back"]["checks"])


def test_peft_finds_the_base_by_itself(exported: dict[str, Path]):
    from peft import AutoPeftModelForCausalLM

    model = AutoPeftModelForCausalLM.from_pretrained(exported["peft"])
    assert {p.name for p in exported["peft"].iterdir()} >= {"adapter_config.json"}
    config = json.loads((exported["peft"] / "adapter_config.json").read_text())
    assert config["lora_alpha"] == 8 * 0.6
    merged = AutoModelForCausalLM.from_pretrained(exported["merged"])
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, merged(ids).logits, atol=2e-4, rtol=0)


def test_what_is_merged_is_a_base_that_says_what_the_voice_says(
    exported: dict[str, Path], codec_lm_voice: VoiceFiles, embedded_base: FrozenBase
):
    merged = load_base(EMBEDDED_HOST.model_copy(update={"source": str(exported["merged"])}))
    (own,) = LoadedVoice(codec_lm_voice).speak([PROMPT])
    (theirs,) = merged.speak(merged.model, [PROMPT], DecodingSpec())
    (base,) = embedded_base.speak(embedded_base.model, [PROMPT], DecodingSpec())
    assert own.audio.tolist() == theirs.audio.tolist() != base.audio.tolist()
    assert merged.encoder_digest == codec_lm_voice.facts.encoder_digest


def test_a_gguf_file_has_speech_that_llama_cpp_writes_out(exported: dict[str, Path]):
    reader = GGUFReader(exported["gguf"] / GGUF)
    texts = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    by_type = {kind: [t for t, n in zip(texts, types, strict=True) if n == kind] for kind in types}
    assert by_type[TokenType.CONTROL] == ["<|endoftext|>"]
    assert len(by_type[TokenType.USER_DEFINED]) == 1039
    assert "<|speech_1023|>" in by_type[TokenType.USER_DEFINED]
    assert texts[reader.fields["tokenizer.ggml.eos_token_id"].contents()] == (
        "<|SPEECH_GENERATION_END|>"
    )
    assert reader.fields["general.architecture"].contents() == "qwen2"
    assert reader.fields["tokenizer.ggml.add_bos_token"].contents() is False


@pytest.mark.parametrize("architecture", ["llama", pytest.param("qwen3", marks=pytest.mark.full)])
def test_another_architecture_is_written_so_that_it_loads_back(tmp_path: Path, architecture: str):
    """By transformers, and by llama.cpp where it is installed."""
    source = write_checkpoint(tmp_path / "base", architecture)
    host = EMBEDDED_HOST.model_copy(update={"source": str(source)})
    voice = random_voice(tmp_path, load_base(host), host)
    made = export_voice(voice, "gguf", tmp_path / "out", "f32")
    assert {check.what.rsplit(" in ")[-1] for check in made.load_back.checks} >= {
        "transformers, nats"
    }
    reader = GGUFReader(tmp_path / "out" / "model-f32.gguf")
    assert reader.fields["general.architecture"].contents() == architecture


def test_a_voice_that_speaks_behind_a_reference_takes_it_along(tmp_path: Path):
    source = write_checkpoint(tmp_path / "base", "qwen2")
    layout = json.loads((source / "layout.json").read_text())
    del layout["markers"]
    (source / "layout.json").write_text(json.dumps(layout))
    host = EMBEDDED_HOST.model_copy(update={"source": str(source), "reference_prefix": True})
    base = load_base(host)
    base.fit_speakers(toy_clips_behind_a_reference())
    voice = random_voice(tmp_path, base, host)
    for name in ("peft", "merged", "gguf"):
        export_voice(voice, name, tmp_path / name, "f32" if name == "gguf" else None)
        (told,) = json.loads((tmp_path / name / "voice.json").read_text())["references"]
        assert told["codes"] == toy_clips_behind_a_reference()[1].codes.tolist()
    said = LoadedVoice(voice).speak([PROMPT])[0].audio.tolist()
    prompt = base.request(PROMPT, DecodingSpec())[0]
    assert base.stream.codes(prompt).tolist() == told["codes"]
    merged = load_base(host.model_copy(update={"source": str(tmp_path / "merged")}))
    merged.load_extras(base.adapter_extras())
    assert merged.speak(merged.model, [PROMPT], DecodingSpec())[0].audio.tolist() == said


@pytest.mark.parametrize(
    "tied", [pytest.param(True, marks=pytest.mark.full), False], ids=["tied", "untied"]
)
def test_trained_rows_are_exported_at_their_strength(tmp_path: Path, tied: bool):
    source = write_checkpoint(tmp_path / "base", "llama", tied=tied)
    host = EMBEDDED_HOST.model_copy(update={"source": str(source)})
    trained = TrainingSpec(rank=4, speech_rows="trained")
    voice = random_voice(tmp_path, load_base(host), host, trained)
    for name in ("peft", "merged", "gguf"):
        export_voice(voice, name, tmp_path / name, "f32" if name == "gguf" else None)
    keys = sorted(k for k in load_file(voice.adapter / WEIGHTS) if "trainable_tokens" in k)
    assert len(keys) == (1 if tied else 2)
    key = keys[-1]  # of the embedding
    own, written = (load_file(d / WEIGHTS)[key] for d in (voice.adapter, tmp_path / "peft"))
    merged = load_file(tmp_path / "merged" / "model.safetensors")["model.embed_tokens.weight"]
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    ids = config["trainable_token_indices"]["model.embed_tokens"]
    original = load_file(source / "model.safetensors")["model.embed_tokens.weight"][ids]
    torch.testing.assert_close(written, original + 0.6 * (own - original))
    torch.testing.assert_close(merged[ids], written)


def test_llama_with_its_queries_as_hugging_face_has_them_does_not_load_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = write_checkpoint(tmp_path / "base", "llama")
    host = EMBEDDED_HOST.model_copy(update={"source": str(source)})
    voice = random_voice(tmp_path, load_base(host), host)
    monkeypatch.setattr(gguf_file, "_rotated_in_pairs", lambda key, weight, config: weight)
    with pytest.raises(LoadBackError, match=r"likeliest at .* in transformers"):
        export_voice(voice, "gguf", tmp_path / "out", "f32")


# Everything that loads back is broken once.


def change_the_strength(directory: Path) -> None:
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "lora_alpha": 8.0}))


def change_a_weight(directory: Path) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.3.mlp.down_proj.weight"][0] += 0.1
    save_file(tensors, path, metadata={"format": "pt"})


def change_the_layout(directory: Path) -> None:
    path = directory / "layout.json"
    path.write_text(path.read_text().replace('"awb"\n', '"rms"\n'))


def in_gguf(change: Callable[[GGUFReader], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        change(GGUFReader(directory / GGUF, "r+"))

    apply.__name__ = change.__name__
    return apply


def make_speech_control(reader: GGUFReader) -> None:
    """As the official converter has it."""
    texts = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"]
    for number, text in enumerate(texts):
        if text.startswith("<|speech_"):
            types.parts[types.data[number]][0] = TokenType.CONTROL


def end_elsewhere(reader: GGUFReader) -> None:
    field = reader.fields["tokenizer.ggml.eos_token_id"]
    field.parts[field.data[0]][0] -= 1


def round_a_norm(reader: GGUFReader) -> None:
    tensor = next(t for t in reader.tensors if t.name == "output_norm.weight")
    tensor.data[0] *= 1 + 1e-6


def take_one_step(reader: GGUFReader) -> None:
    """A quantized weight that is not the nearest any more."""
    tensor = next(t for t in reader.tensors if t.name == "blk.0.ffn_up.weight")
    tensor.data[0, 2] ^= 2


@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        ("peft", change_the_strength, "logits"),
        ("merged", change_a_weight, "logits"),
        ("merged", change_the_layout, "layout"),
        ("gguf", in_gguf(make_speech_control), "llama.cpp would not write out: 1024"),
        ("gguf", in_gguf(end_elsewhere), "ends a clip"),
        ("gguf", in_gguf(round_a_norm), "not quantized"),
        ("gguf", in_gguf(take_one_step), "by what rounding may change"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_what_is_not_the_voice_does_not_pass(
    exported: dict[str, Path],
    codec_lm_voice: VoiceFiles,
    tmp_path: Path,
    name: str,
    spoil: Callable[[Path], None],
    told: str,
):
    from importlib import import_module

    copy = Path(shutil.copytree(exported[name], tmp_path / "copy"))
    spoil(copy)
    found: Exporter = EXPORTERS[f"codec_lm.{name}"]
    with pytest.raises(LoadBackError, match=told):
        import_module(found.module).load_back(codec_lm_voice, copy, "q8_0")


def test_the_trap_is_told_without_a_runtime_that_falls_into_it(
    exported: dict[str, Path], codec_lm_voice: VoiceFiles, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gguf_export, "is_installed", lambda: False)
    loaded = gguf_export.load_back(codec_lm_voice, exported["gguf"], "q8_0")
    assert loaded.not_done is not None
    assert "not run by llama.cpp" in loaded.not_done
    assert not any("llama.cpp, nats" in check.what for check in loaded.checks)
    assert any("transformers, nats" in check.what for check in loaded.checks)


class TestInLlama:
    pytestmark = runs_llama

    @pytest.mark.parametrize("quantization", ["f32", "f16", "q4_0"])
    def test_other_types_run_too(
        self, codec_lm_voice: VoiceFiles, tmp_path: Path, quantization: Any
    ):
        made = export_voice(codec_lm_voice, "gguf", tmp_path / "out", quantization)
        assert made.load_back.not_done is None
        greedy = [c for c in made.load_back.checks if "differ in llama.cpp" in c.what]
        assert [check.difference for check in greedy] == [0] * (quantization in ("f32", "f16"))
        assert (tmp_path / "out" / f"model-{quantization}.gguf").is_file()

    def test_control_tokens_are_not_written_out(self, exported: dict[str, Path], tmp_path: Path):
        """The same ids, and no word of them."""
        told = manifest(exported["gguf"])["load_back"]["checks"]
        assert any("llama.cpp, nats" in check["what"] for check in told)
        copy = Path(shutil.copytree(exported["gguf"], tmp_path / "copy"))
        in_gguf(make_speech_control)(copy)
        prompt = [295, 305, 298, 265, 296, 297]  # <|TEXT_PROMPT_START|> awb 1 two END START
        sound, dumb = (
            llama.Llama(folder / GGUF, context=64).write(prompt, 12)
            for folder in (exported["gguf"], copy)
        )
        assert sound.written == dumb.written
        assert sound.text.count("<|speech_") > 4
        assert "<|speech_" not in dumb.text
