"""Tiny random checkpoints as they lie on a disk, with the embedded base's tokenizer and layout."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig

from jobs.embedded import BASE_DIR
from jobs.families.codec_lm_text import ARCHITECTURES
from jobs.families.layout import LAYOUT_FILE, Layout

HIDDEN = 64


def write_checkpoint(
    directory: Path, architecture: str, *, tied: bool = False, speech: bool = True, spare: int = 0
) -> Path:
    """A new ``directory`` with a model, its tokenizer and, with ``speech``, the layout.

    Without ``speech`` the tokenizer knows none of the layout's tokens, as that of a model of text.
    ``spare`` rows are of no token.
    """
    directory.mkdir(parents=True)
    tokenizer = json.loads((BASE_DIR / "tokenizer.json").read_text())
    if speech:
        shutil.copyfile(BASE_DIR / LAYOUT_FILE, directory / LAYOUT_FILE)
    else:
        unknown = set(Layout.read(BASE_DIR).added_tokens())
        kept = [each for each in tokenizer["added_tokens"] if each["content"] not in unknown]
        first = len(tokenizer["model"]["vocab"])
        tokenizer["added_tokens"] = [each | {"id": first + i} for i, each in enumerate(kept)]
    size = len(tokenizer["model"]["vocab"]) + len(tokenizer["added_tokens"])
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    named = json.loads((BASE_DIR / "tokenizer_config.json").read_text())
    del named["added_tokens_decoder"]
    if not speech:
        named["eos_token"] = "<|endoftext|>"
    (directory / "tokenizer_config.json").write_text(json.dumps(named))
    torch.manual_seed(0)
    model = tiny_model(architecture, size + spare, tied=tied)
    # It writes speech: of bytes that are no whole character, llama.cpp's server tells not all.
    model.get_output_embeddings().weight.data[: len(tokenizer["model"]["vocab"]) + 2] *= 0.05
    model.save_pretrained(directory)
    return directory


def tiny_model(architecture: str, vocabulary: int, *, tied: bool) -> Any:
    config = AutoConfig.for_model(
        architecture,
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=128 if architecture == "qwen3" else HIDDEN // 4,
        tie_word_embeddings=tied,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.2,
    )
    return getattr(transformers, ARCHITECTURES[architecture])(config)
