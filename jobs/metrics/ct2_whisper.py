"""Whisper from a directory of CTranslate2, as faster-whisper takes it, run by transformers.

``model.bin`` is CTranslate2's binary format, version 6: names, shapes and plain numbers, nothing
that could run (``python/ctranslate2/specs/model_spec.py`` of github.com/OpenNMT/CTranslate2). Its
16-bit floats become 32-bit ones, so a transcript is that of the same weights in safetensors.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

CT2_WEIGHTS = "model.bin"
_VERSION = 6
_NUMBERS = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
"""CTranslate2's DataType, without bfloat16, which numpy lacks."""
_FLOATS = (np.float32, np.float16)
_ENGLISH_ONLY = 51_864
"""Tokens of the models that know English alone; the others have more (openai/whisper)."""
_TASKS = ("transcribe", "translate")


def load_ct2_whisper(directory: Path) -> tuple[Any, Any]:
    """The processor and the network, a WhisperProcessor and a WhisperForConditionalGeneration.

    Raises:
        FileNotFoundError: there is no ``tokenizer.json``.
        ValueError: ``model.bin`` is no Whisper, of another version, or of numbers that are no
            floats (int8, bfloat16).
    """
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizerFast,
    )

    path = directory / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"a Whisper of CTranslate2 needs {path}; complete the directory")
    read = _read(directory / CT2_WEIGHTS)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    vocabulary, width = read["decoder/embeddings/weight"].shape
    end = "<|endoftext|>"
    tokens: Any = WhisperTokenizerFast(
        tokenizer_file=str(path), unk_token=end, bos_token=end, eos_token=end, pad_token=end
    )
    ids = {
        name: tokens.convert_tokens_to_ids(f"<|{name}|>")
        for name in ("endoftext", "startoftranscript", "startofprev", "notimestamps")
    }
    common = {
        "bos_token_id": ids["endoftext"],
        "eos_token_id": ids["endoftext"],
        "pad_token_id": ids["endoftext"],
        "decoder_start_token_id": ids["startoftranscript"],
    }
    shape = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=read["encoder/conv1/weight"].shape[1],
        d_model=width,
        max_source_positions=len(read["encoder/position_encodings/encodings"]),
        max_target_positions=len(read["decoder/position_encodings/encodings"]),
        encoder_layers=len([*_layers(read, "encoder")]),
        decoder_layers=len([*_layers(read, "decoder")]),
        encoder_attention_heads=int(read["encoder/num_heads"]),
        decoder_attention_heads=int(read["decoder/num_heads"]),
        encoder_ffn_dim=len(read["encoder/layer_0/ffn/linear_0/weight"]),
        decoder_ffn_dim=len(read["decoder/layer_0/ffn/linear_0/weight"]),
        suppress_tokens=None,  # the generation's
        begin_suppress_tokens=None,
        **common,
    )
    network: Any = WhisperForConditionalGeneration(shape)
    missing, unexpected = network.load_state_dict(_renamed(read), strict=False)
    # The output layer is the embedding.
    if lost := [*(set(missing) - {"proj_out.weight"}), *unexpected]:
        what = f"must hold every weight of a Whisper and no other, but {sorted(lost)[:5]} differ"
        raise ValueError(f"{directory / CT2_WEIGHTS} {what}; convert the model again")
    multilingual = vocabulary != _ENGLISH_ONLY
    languages = {
        tokens.convert_ids_to_tokens(at): at for at in config.get("lang_ids", ()) if multilingual
    }
    tasks = {name: tokens.convert_tokens_to_ids(f"<|{name}|>") for name in _TASKS}
    network.generation_config = GenerationConfig(
        is_multilingual=multilingual,
        no_timestamps_token_id=ids["notimestamps"],
        prev_sot_token_id=ids["startofprev"],
        max_initial_timestamp_index=50,
        max_length=shape.max_target_positions,
        suppress_tokens=config.get("suppress_ids"),
        begin_suppress_tokens=config.get("suppress_ids_begin"),
        **common,
        **({"lang_to_id": languages, "task_to_id": tasks} if multilingual else {}),
    )
    if (directory / "preprocessor_config.json").is_file():
        extract = WhisperFeatureExtractor.from_pretrained(directory, local_files_only=True)
    else:
        extract = WhisperFeatureExtractor(feature_size=shape.num_mel_bins)
    return WhisperProcessor(extract, tokens), network.eval()


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Every variable of the file, by name."""
    with path.open("rb") as file:
        version = _number(file, "I")
        if version != _VERSION:
            raise ValueError(f"{path} must have CTranslate2's version {_VERSION}, got {version}")
        if (kind := _text(file)) != "WhisperSpec":
            raise ValueError(f"{path} must hold a WhisperSpec, got {kind!r}")
        _number(file, "I")  # the revision
        return dict(_variable(file, path) for _ in range(_number(file, "I")))


def _variable(file: BinaryIO, path: Path) -> tuple[str, NDArray[Any]]:
    name = _text(file)
    shape = [_number(file, "I") for _ in range(_number(file, "B"))]
    kind = _NUMBERS.get(_number(file, "B"))
    data = file.read(_number(file, "I"))
    if kind is None or (shape and name.endswith("weight") and kind not in _FLOATS):
        raise ValueError(
            f"{path} must hold floats of 16 or 32 bits, and {name} is quantised; convert the model "
            "again with --quantization float16"
        )
    return name, np.frombuffer(data, kind).reshape(shape)


def _number(file: BinaryIO, kind: str) -> int:
    number: int = struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))[0]
    return number


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "H")).rstrip(b"\0").decode()


def _layers(read: Mapping[str, NDArray[Any]], side: str) -> Iterator[str]:
    """The prefixes of the blocks of ``encoder`` or ``decoder``, in their order."""
    number = 0
    while f"{side}/layer_{number}/ffn/linear_0/weight" in read:
        yield f"{side}/layer_{number}"
        number += 1


def _renamed(read: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The weights under transformers' names, as 32-bit tensors."""
    import torch

    found = {"model.decoder.embed_tokens.weight": read["decoder/embeddings/weight"]}
    for side in ("encoder", "decoder"):
        positions = read[f"{side}/position_encodings/encodings"]
        found[f"model.{side}.embed_positions.weight"] = positions
    for old, modules in _modules(read):
        for part, new in _PARTS.items():
            if (values := read.get(f"{old}/{part}")) is not None:
                # Layers that read the same input are one, row below row.
                for module, rows in zip(modules, np.split(values, len(modules)), strict=True):
                    if not (new == "bias" and module.endswith("k_proj")):  # which has none
                        found[f"{module}.{new}"] = rows
    return {name: torch.from_numpy(of.astype(np.float32)) for name, of in found.items()}


_PARTS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
"""A layer norm has the latter two."""


def _modules(read: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, Sequence[str]]]:
    """Each module of the file with those of transformers that it is made of."""
    yield from ((f"encoder/conv{n}", [f"model.encoder.conv{n}"]) for n in (1, 2))
    for side in ("encoder", "decoder"):
        yield f"{side}/layer_norm", [f"model.{side}.layer_norm"]
        for number, old in enumerate(_layers(read, side)):
            new = f"model.{side}.layers.{number}"
            own, other = f"{new}.self_attn", f"{new}.encoder_attn"
            yield f"{old}/self_attention/layer_norm", [f"{own}_layer_norm"]
            yield f"{old}/self_attention/linear_0", [f"{own}.{x}_proj" for x in "qkv"]
            yield f"{old}/self_attention/linear_1", [f"{own}.out_proj"]
            yield f"{old}/attention/layer_norm", [f"{other}_layer_norm"]
            yield f"{old}/attention/linear_0", [f"{other}.q_proj"]
            yield f"{old}/attention/linear_1", [f"{other}.{x}_proj" for x in "kv"]
            yield f"{old}/attention/linear_2", [f"{other}.out_proj"]
            yield f"{old}/ffn/layer_norm", [f"{new}.final_layer_norm"]
            yield from ((f"{old}/ffn/linear_{n}", [f"{new}.fc{n + 1}"]) for n in (0, 1))
