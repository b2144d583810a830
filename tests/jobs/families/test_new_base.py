"""A base made of a checkpoint without speech, and of a GGUF file."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import load_file
from transformers import AutoTokenizer
from typer.testing import CliRunner

from jobs.codecs.world import WorldCodec
from jobs.embedded import BASE_DIR, CODEC_DIR
from jobs.export.gguf import file as gguf_file
from jobs.export.gguf.file import write_gguf
from jobs.families.layout import LAYOUT_FILE, Layout, TokenStream
from jobs.families.new_base import FACTS_FILE, make_base, new_rows
from jobs.families.registry import load_base
from jobs.problems import InputError
from jobs.spec.trial import DecodingSpec, PromptSpec
from orchestrator.cli import app
from tests.backbones import write_checkpoint
from tests.embedded_voice import EMBEDDED_HOST

LAYOUT = BASE_DIR / LAYOUT_FILE
TOKENS = len(Layout.read(BASE_DIR).added_tokens())
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


@pytest.mark.parametrize(("tied", "spare"), [(True, 0), (False, 0), (False, 7)])
def test_the_layouts_tokens_get_rows_and_what_was_known_keeps_its_own(
    tmp_path: Path, tied: bool, spare: int
):
    source = write_checkpoint(tmp_path / "plain", "llama", tied=tied, speech=False, spare=spare)
    made = make_base(str(source), LAYOUT, tmp_path / "base", "spread", None)
    assert (made.added_tokens, made.added_rows) == (TOKENS, TOKENS - spare)
    before, after = weights(source), weights(tmp_path / "base")
    known = len(before[EMBEDDING]) - spare
    assert before.keys() == after.keys()
    for name in before:
        kept = slice(known) if name in (EMBEDDING, HEAD) else slice(None)
        assert torch.equal(after[name][kept], before[name][kept])
    for name in {EMBEDDING, HEAD} & after.keys():
        old, new = before[name][:known], after[name][known:]
        assert len(new) == TOKENS
        torch.testing.assert_close(new.std(0), old.std(0), rtol=0.25, atol=0)
        torch.testing.assert_close(new.mean(0), old.mean(0), rtol=0, atol=0.03)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    TokenStream(Layout.read(tmp_path / "base"), tokenizer)
    text = "seven and some more"
    assert tokenizer.encode(text) == AutoTokenizer.from_pretrained(source).encode(text)
    assert json.loads((tmp_path / "base" / FACTS_FILE).read_text())["digest"] == made.digest


def test_it_is_a_base_that_speaks_and_the_same_each_time(tmp_path: Path):
    source = write_checkpoint(tmp_path / "plain", "qwen3", speech=False)
    arguments = ["make-base", str(source), "--layout", str(LAYOUT), "--rows", "centroids"]
    digests = []
    for name in ("one", "other"):
        out = tmp_path / name
        done = CliRunner().invoke(app, [*arguments, "--codec", "embedded", "-o", str(out)])
        assert done.exit_code == 0, done.output
        assert f"{TOKENS} tokens added" in done.output
        base = load_base(EMBEDDED_HOST.model_copy(update={"source": str(out)}))
        prompt = PromptSpec(id="p", text="two five")
        (clip,) = base.speak(base.model, [prompt], DecodingSpec(max_tokens=9))
        assert clip.rate == base.sample_rate
        digests.append(base.digest)
    assert digests[0] == digests[1]


def test_codes_that_sound_alike_have_rows_that_are_alike():
    codec = WorldCodec.load(CODEC_DIR)
    known = torch.randn(50, 256, generator=torch.Generator().manual_seed(0)) * 3 + 1
    codes = [-1, *range(codec.codebook_size)]
    rows = new_rows(known, len(codes), codes, codec.codebook)[1:].numpy()
    free = new_rows(known, len(codes), codes, None)[1:].numpy()
    pairs = np.random.default_rng(0).integers(0, codec.codebook_size, (2000, 2))
    one, other = pairs[pairs[:, 0] != pairs[:, 1]].T
    apart = np.linalg.norm(codec.codebook[one] - codec.codebook[other], axis=1)
    by_centroids = np.linalg.norm(rows[one] - rows[other], axis=1)
    by_chance = np.linalg.norm(free[one] - free[other], axis=1)
    assert np.corrcoef(apart, by_centroids)[0, 1] > 0.9
    assert abs(np.corrcoef(apart, by_chance)[0, 1]) < 0.1
    np.testing.assert_allclose(rows.mean(0), known.mean(0), atol=0.01)
    np.testing.assert_allclose(rows.std(0), known.std(0), rtol=0.03)


@pytest.mark.parametrize("architecture", ["llama", pytest.param("qwen2", marks=pytest.mark.full)])
def test_a_gguf_file_becomes_the_checkpoint_that_it_was_written_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
):
    source = write_checkpoint(tmp_path / "whole", architecture)
    add_tokens = gguf_file._add_tokens

    def with_a_beginning(writer: GGUFWriter, tokens: gguf_file.Tokens, config: Any) -> None:
        add_tokens(writer, tokens, config)
        writer.add_bos_token_id(tokens.end_id + 1)  # as every file of Llama has one

    monkeypatch.setattr(gguf_file, "_add_tokens", with_a_beginning)
    write_gguf(source, tmp_path / "m.gguf", "f32")
    made = make_base(str(tmp_path / "m.gguf"), LAYOUT, tmp_path / "base", "spread", None)
    assert (made.added_tokens, made.added_rows) == (0, 0)
    before, after = weights(source), weights(tmp_path / "base")
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0)
    prompts = [PromptSpec(id="p", text="two five nine")]
    spoken = []
    for directory in (source, tmp_path / "base"):
        base = load_base(EMBEDDED_HOST.model_copy(update={"source": str(directory)}))
        (clip,) = base.speak(base.model, prompts, DecodingSpec(max_tokens=20))
        spoken.append(clip.audio.tolist())
    assert spoken[0] == spoken[1]


def test_all_that_is_wrong_is_said_and_nothing_written(tmp_path: Path):
    (tmp_path / "there").mkdir()
    (tmp_path / "layout.json").write_text("{}")
    with pytest.raises(InputError) as caught:
        make_base(
            str(tmp_path / "no"), tmp_path / "layout.json", tmp_path / "there", "spread", None
        )
    told = " ".join(map(str, caught.value.problems))
    assert all(what in told for what in ("where nothing is", "must be a layout", "config.json"))
    source = write_checkpoint(tmp_path / "plain", "llama", speech=False)
    with pytest.raises(InputError, match=r"rows by centroids need the codec .* none was named"):
        make_base(str(source), LAYOUT, tmp_path / "base", "centroids", None)
    small = json.loads(LAYOUT.read_text()) | {"codebook_size": 7}
    (tmp_path / "small.json").write_text(json.dumps(small))
    with pytest.raises(InputError, match="1024 codes, and the layout 7"):
        make_base(str(source), tmp_path / "small.json", tmp_path / "base", "centroids", CODEC_DIR)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "layout.json",
        "plain",
        "small.json",
        "there",
    ]


def test_a_checkpoint_that_knows_no_speech_is_refused_with_the_way_out(tmp_path: Path):
    source = write_checkpoint(tmp_path / "plain", "llama", speech=False)
    shutil.copyfile(LAYOUT, source / LAYOUT_FILE)
    with pytest.raises(ValueError, match=r"1039 are missing: .*`voxsweep make-base` makes a base"):
        load_base(EMBEDDED_HOST.model_copy(update={"source": str(source)}))
