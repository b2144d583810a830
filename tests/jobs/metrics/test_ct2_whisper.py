"""A model of CTranslate2 writes what the same one in safetensors writes."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration, WhisperTokenizerFast

from jobs.metrics.catalogue import ScorerUnavailable, build_scorers, metric_of
from jobs.metrics.ct2_whisper import CT2_WEIGHTS, load_ct2_whisper
from jobs.metrics.whisper import Whisper
from jobs.spec.metric import MetricSpec
from tests.jobs.metrics.tiny_models import LANGUAGES, write_whisper

RATE = 16_000
_CODES = {np.float32: 0, np.int8: 1, np.int16: 2, np.float16: 4}


def variables(network):
    """The weights as CTranslate2's converter names and fuses them."""
    state = {name: of.detach().numpy() for name, of in network.state_dict().items()}
    out = {}

    def norm(old, new):
        out[f"{new}/gamma"], out[f"{new}/beta"] = state[f"{old}.weight"], state[f"{old}.bias"]

    def linear(new, *olds):
        out[f"{new}/weight"] = np.concatenate([state[f"{old}.weight"] for old in olds])
        none = np.zeros(network.config.d_model, dtype=np.float32)
        out[f"{new}/bias"] = np.concatenate([state.get(f"{old}.bias", none) for old in olds])

    for side, heads in (("encoder", 2), ("decoder", 2)):
        out[f"{side}/num_heads"] = np.array(heads, dtype=np.int16)
        old = f"model.{side}"
        out[f"{side}/position_encodings/encodings"] = state[f"{old}.embed_positions.weight"]
        norm(f"{old}.layer_norm", f"{side}/layer_norm")
        layer, new = f"{old}.layers.0", f"{side}/layer_0"
        own, other = f"{layer}.self_attn", f"{layer}.encoder_attn"
        norm(f"{own}_layer_norm", f"{new}/self_attention/layer_norm")
        linear(f"{new}/self_attention/linear_0", *(f"{own}.{x}_proj" for x in "qkv"))
        linear(f"{new}/self_attention/linear_1", f"{own}.out_proj")
        if side == "decoder":
            norm(f"{other}_layer_norm", f"{new}/attention/layer_norm")
            linear(f"{new}/attention/linear_0", f"{other}.q_proj")
            linear(f"{new}/attention/linear_1", *(f"{other}.{x}_proj" for x in "kv"))
            linear(f"{new}/attention/linear_2", f"{other}.out_proj")
        norm(f"{layer}.final_layer_norm", f"{new}/ffn/layer_norm")
        linear(f"{new}/ffn/linear_0", f"{layer}.fc1")
        linear(f"{new}/ffn/linear_1", f"{layer}.fc2")
    linear("encoder/conv1", "model.encoder.conv1")
    linear("encoder/conv2", "model.encoder.conv2")
    out["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    return out


def write_ct2(directory: Path, source: Path, kind=np.float32, version=6, spec="WhisperSpec"):
    """The model in ``source`` as a directory of CTranslate2."""
    directory.mkdir()
    network = WhisperForConditionalGeneration.from_pretrained(source)

    def text(of):
        return struct.pack("<H", len(of) + 1) + of.encode() + b"\0"

    with (directory / CT2_WEIGHTS).open("wb") as file:
        out = variables(network)
        file.write(struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(out)))
        for name, of in out.items():
            data = of.astype(kind) if of.ndim else of
            file.write(text(name) + struct.pack(f"<B{data.ndim}I", data.ndim, *data.shape))
            file.write(struct.pack("<BI", _CODES[data.dtype.type], data.nbytes) + data.tobytes())
        alias = text("decoder/projection/weight") + text("decoder/embeddings/weight")
        file.write(struct.pack("<I", 1) + alias)
    tokens = WhisperTokenizerFast.from_pretrained(source)
    tokens.backend_tokenizer.save(str(directory / "tokenizer.json"))
    made = network.generation_config
    config = {
        "suppress_ids": made.suppress_tokens,
        "suppress_ids_begin": made.begin_suppress_tokens,
        "lang_ids": tokens.convert_tokens_to_ids([f"<|{name}|>" for name in LANGUAGES]),
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def asked(model, language="en"):
    return MetricSpec(name="whisper_word_error", model=str(model), language=language)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_whisper(tmp_path_factory.mktemp("hub") / "whisper")


@pytest.fixture(scope="module")
def model(source, tmp_path_factory):
    directory = write_ct2(tmp_path_factory.mktemp("hub") / "ct2", source)
    (directory / "preprocessor_config.json").write_bytes(
        (source / "preprocessor_config.json").read_bytes()
    )
    return directory


def test_every_weight_is_the_same(source, model):
    ours = load_ct2_whisper(model)[1].state_dict()
    theirs = WhisperForConditionalGeneration.from_pretrained(source).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(("language", "seconds"), [("en", 1.0), ("km", 3.0)])
def test_it_writes_the_same(source, model, language, seconds):
    audio = np.random.default_rng(3).standard_normal(round(seconds * RATE)).astype(np.float32) / 10
    (ours,), (theirs,) = (build_scorers([asked(of, language)]) for of in (model, source))
    assert theirs.transcribe(audio, language).strip()
    ours._model.generation_config.max_length = theirs._model.generation_config.max_length
    assert ours.transcribe(audio, language) == theirs.transcribe(audio, language)
    assert ours.language_problem("fr") == theirs.language_problem("fr") != ""


def test_the_version_follows_its_files(source, model, tmp_path):
    half = write_ct2(tmp_path / "half", source, np.float16)
    versions = [metric_of(asked(of)).version for of in (source, model, half)]
    assert len(set(versions)) == 3
    assert versions[1].startswith("2 model.bin:")
    assert Whisper(asked(half))._model.dtype == torch.float32


def test_without_a_preprocessor_the_mel_bins_are_the_weights(source, tmp_path):
    processor, network = load_ct2_whisper(write_ct2(tmp_path / "bare", source))
    assert processor.feature_extractor.feature_size == network.config.num_mel_bins == 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 5}, "must have CTranslate2's version 6, got 5"),
        ({"spec": "TransformerSpec"}, "must hold a WhisperSpec, got 'TransformerSpec'"),
        ({"kind": np.int8}, "weight is quantised; convert the model again with --quantization"),
    ],
)
def test_what_cannot_be_read_is_named(source, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        load_ct2_whisper(write_ct2(tmp_path / "model", source, **changes))


def test_a_tokenizer_must_be_there(source, tmp_path):
    directory = write_ct2(tmp_path / "model", source)
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ScorerUnavailable, match=r"needs .*tokenizer\.json; complete the directory"):
        build_scorers([asked(directory)])
