"""A directory of merged weights as one GGUF file."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from numpy.typing import NDArray
from safetensors import safe_open

from jobs.export.formats import Quantization
from jobs.families.layout import Layout
from jobs.problems import InputError, Problem

MODEL = "gpt2"
"""llama.cpp's name for byte-level BPE."""
PRE_TOKENIZER = "qwen2"
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2's tokenizer cuts a text before its merges: what llama.cpp does by the name above."""


@dataclass(frozen=True)
class Tokens:
    """The vocabulary of a base by id, as llama.cpp reads it.

    Speech tokens are USER_DEFINED and not CONTROL, though they look like it: llama.cpp turns no
    control token into text, so a tool that reads the text, as NeuTTS does, would find no speech.
    """

    texts: tuple[str, ...]
    types: tuple[TokenType, ...]
    merges: tuple[str, ...]
    end_id: int
    """Ends a clip."""

    @classmethod
    def read(cls, base: Path, size: int) -> Self:
        """Of a base's directory, whose model knows ``size`` tokens.

        Raises:
            InputError: llama.cpp has no tokenizer like the base's.
        """
        path = base / "tokenizer.json"
        tokenizer = json.loads(path.read_text(encoding="utf-8"))
        _check(tokenizer, path)
        layout = Layout.read(base)
        texts = [f"[PAD{number}]" for number in range(size)]
        types = [TokenType.UNUSED] * size
        for text, number in tokenizer["model"]["vocab"].items():
            texts[number], types[number] = text, TokenType.NORMAL
        speech = set(layout.added_tokens())
        for added in tokenizer["added_tokens"]:
            control = added["special"] and added["content"] not in speech
            texts[added["id"]] = added["content"]
            types[added["id"]] = TokenType.CONTROL if control else TokenType.USER_DEFINED
        # As one string; newer files have a pair of them.
        merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
        return cls(tuple(texts), tuple(types), tuple(merges), texts.index(layout.end))


def _check(tokenizer: dict[str, Any], path: Path) -> None:
    kind = tokenizer["model"]["type"]
    steps = (tokenizer["pre_tokenizer"] or {}).get("pretokenizers", ())
    split = [step["pattern"].get("Regex") for step in steps if step["type"] == "Split"]
    if kind != "BPE" or split != [_SPLIT]:
        what = (
            "a GGUF file needs a tokenizer that llama.cpp has, BPE that cuts texts as Qwen2's "
            f"does, got {kind} that cuts them by {split}"
        )
        raise InputError([Problem(str(path), what, "Export it as merged.")])


_TYPES = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
_FINER = ("token_embd.weight", "output.weight")
"""What is Q8_0 in a Q4_0 file: llama-quantize takes Q6_K, which gguf cannot write."""
_ARCHITECTURES = {
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "llama": gguf.MODEL_ARCH.LLAMA,
}
"""By the ``model_type`` of a base's ``config.json``."""
_QWEN3_HEAD = 128
_UNSUPPORTED = ("rope_scaling", "use_sliding_window")
"""Settings of a base that llama.cpp has no equivalent of."""


def write_gguf(merged: Path, path: Path, quantization: Quantization) -> None:
    """Write the base in the directory ``merged``, whose weights are fp32, to ``path``.

    Raises:
        InputError: llama.cpp cannot run it as it is.
    """
    config = read_config(merged)
    tokens = Tokens.read(merged, config["vocab_size"])
    writer = GGUFWriter(path, gguf.MODEL_ARCH_NAMES[_ARCHITECTURES[config["model_type"]]])
    _add_model(writer, config, quantization)
    _add_tokens(writer, tokens, config)
    for name, weight in weights(merged, config):
        kind = kind_of(name, weight, quantization)
        writer.add_tensor(name, gguf.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_config(merged: Path) -> dict[str, Any]:
    """Of a base's directory.

    Raises:
        InputError: it asks for what llama.cpp does not do.
    """
    path = merged / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if unsupported := [key for key in _UNSUPPORTED if config.get(key)]:
        what = f"a GGUF file of this kind has no {' and no '.join(unsupported)}, and the base has"
        raise InputError([Problem(str(path), what, "Export it as merged.")])
    if config["model_type"] == "qwen3" and _head_size(config) != _QWEN3_HEAD:
        what = f"head_dim must be {_QWEN3_HEAD} of Qwen3, as transformers' reader of GGUF assumes"
        problem = Problem(str(path), f"{what}, got {_head_size(config)}", "Export it as merged.")
        raise InputError([problem])
    return config


def weights(merged: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Each tensor by llama.cpp's name for it; a tied head is not there twice."""
    architecture = _ARCHITECTURES[config["model_type"]]
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    for file in sorted(merged.glob("*.safetensors")):
        with safe_open(file, framework="np") as tensors:
            for key in sorted(tensors.keys()):
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                assert name is not None, key
                weight = tensors.get_tensor(key)
                if config["model_type"] == "llama":
                    weight = _rotated_in_pairs(key, weight, config)
                yield name, weight


def _rotated_in_pairs(
    key: str, weight: NDArray[np.float32], config: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Queries and keys as llama.cpp has them of Llama alone: it rotates neighbours, 2 i and 2 i +
    1 of a head of d, where Hugging Face rotates i and i + d / 2."""
    found = re.search(r"\.([qk])_proj\.", key)
    if found is None:
        return weight
    heads = config["num_attention_heads" if found[1] == "q" else "num_key_value_heads"]
    halves = weight.reshape(heads, 2, -1, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


def _head_size(config: Mapping[str, Any]) -> int:
    size: int = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return size


def kind_of(
    name: str, weight: NDArray[np.float32], quantization: Quantization
) -> GGMLQuantizationType:
    """How a tensor is written. Rows that blocks do not divide are F16."""
    if weight.ndim == 1:
        return GGMLQuantizationType.F32
    kind = _TYPES[quantization][0]
    if kind == GGMLQuantizationType.Q4_0 and name in _FINER:
        kind = GGMLQuantizationType.Q8_0
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return GGMLQuantizationType.F16 if weight.shape[-1] % block else kind


def _add_model(writer: GGUFWriter, config: Mapping[str, Any], quantization: Quantization) -> None:
    writer.add_name("voxsweep")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))
    writer.add_rope_dimension_count(_head_size(config))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(_TYPES[quantization][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_tokens(writer: GGUFWriter, tokens: Tokens, config: Mapping[str, Any]) -> None:
    writer.add_tokenizer_model(MODEL)
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens.texts)
    writer.add_token_types(tokens.types)
    writer.add_token_merges(tokens.merges)
    writer.add_eos_token_id(tokens.end_id)
    if config.get("pad_token_id") is not None:
        writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(False)
