"""A GGUF file read again: its tensors against the merged weights, its tokens against the base's."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, TokenType
from gguf.quants import dequantize
from numpy.typing import NDArray

from jobs.export.formats import QUANTIZED, Quantization
from jobs.export.gguf.file import Tokens, kind_of, read_config, weights
from jobs.export.load_back import Check, count_differences
from jobs.families.layout import Layout

_BLOCK = 32
"""Weights that share a step in Q8_0."""
_STEPS = {GGMLQuantizationType.Q8_0: (127, 0.5), GGMLQuantizationType.Q4_0: (8, 1.0)}
"""The largest multiple of a step, and how much of a step rounding may change: Q4_0 has one level
less above 0 than below."""
_HALF_BITS, _HALF_LEAST = 2.0**-11, 2.0**-25
"""How much of a step is lost where it is rounded to fp16, and at least."""


def read_again(path: Path, merged: Path, quantization: Quantization) -> list[Check]:
    """Compare ``path`` with the directory that it was written from."""
    reader = GGUFReader(path)
    return [*_tensor_checks(reader, merged, quantization), *_token_checks(reader, merged)]


def _tensor_checks(reader: GGUFReader, merged: Path, quantization: Quantization) -> Iterator[Check]:
    found = {tensor.name: tensor for tensor in reader.tensors}
    alike, rounded, quantized = 0, 0.0, 0.0
    expected = dict(weights(merged, read_config(merged)))
    for name, weight in expected.items():
        kind = kind_of(name, weight, quantization)
        tensor = found.get(name)
        if tensor is None or tensor.tensor_type != kind:
            continue
        alike += 1
        read = dequantize(tensor.data, tensor.tensor_type).reshape(weight.shape)
        if kind in _STEPS:
            quantized = max(quantized, _share_of_the_bound(read, weight, kind))
        else:
            exact = weight.astype(np.float16) if kind == GGMLQuantizationType.F16 else weight
            rounded = max(rounded, np.abs(read - exact.astype(np.float32)).max().item())
    wrong = max(len(expected), len(found)) - alike
    yield Check(f"tensors of {len(expected)} that are missing or of another type", wrong, 0)
    yield Check("weights that are not quantized, after rounding to their type", rounded, 0)
    if quantization in QUANTIZED:
        yield Check("quantized weights, by what rounding may change of each", quantized, 1)


def _share_of_the_bound(
    read: NDArray[np.float32], weight: NDArray[np.float32], kind: GGMLQuantizationType
) -> float:
    """The largest change of a weight, by the largest that its type may make in its block.

    That is a part of a step, and what the step itself loses in fp16, times the largest multiple.
    """
    largest, part = _STEPS[kind]
    blocks = weight.reshape(-1, _BLOCK).astype(np.float64)
    step = np.abs(blocks).max(axis=1, keepdims=True) / largest
    bound = part * step + largest * np.maximum(step * _HALF_BITS, _HALF_LEAST)
    changed = np.abs(read.reshape(-1, _BLOCK) - blocks)
    return float((changed / bound).max())


def _token_checks(reader: GGUFReader, merged: Path) -> Iterator[Check]:
    expected = Tokens.read(merged, read_config(merged)["vocab_size"])
    texts = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    end = reader.fields["tokenizer.ggml.eos_token_id"].contents()
    yield Check("tokens whose text differs", count_differences(texts, expected.texts), 0)
    yield Check("tokens whose type differs", count_differences(types, expected.types), 0)
    yield Check("merges that differ", count_differences(merges, expected.merges), 0)
    yield Check("token that ends a clip, 1 if it differs", int(end != expected.end_id), 0)
    type_of = dict(zip(texts, types, strict=False))  # NeuCodec has 65,536 tokens: one pass
    speech = {token for token in Layout.read(merged).added_tokens() if token in type_of}
    unwritten = sum(type_of[token] != TokenType.USER_DEFINED for token in speech)
    yield Check("tokens of speech that llama.cpp would not write out", unwritten, 0)
