"""What is known of a base without loading it: its layers for adapters, its texts, its rate."""

import re
from collections.abc import Callable
from pathlib import Path

from jobs.families.description import (
    TokenCounter,
    block_count,
    local_directory,
    read_config,
    token_counter,
)
from jobs.families.size import BaseSize, decoder_stack
from jobs.families.targets import BLOCK_PARTS, block_layers
from jobs.spec.trial import HostSpec

MODEL_TYPE = "qwen3_tts"
"""The architecture that the family runs, as ``config.json`` names it."""
_STACKS = {"talker": "talker.model", "predictor": "talker.code_predictor.model"}
_BOTH = "|".join(map(re.escape, _STACKS.values()))
TARGETS = {
    target: rf"(?:{stacks})\.layers\.\d+\.{module}\.(?:{'|'.join(meant)})"
    for part, (module, names) in BLOCK_PARTS.items()
    for target, stacks, meant in (
        *((f"{stack}.{part}", re.escape(prefix), names) for stack, prefix in _STACKS.items()),
        *((name, _BOTH, (name,)) for name in names),
    )
}
"""What ``training.targets`` may name, with what the whole name of a layer matches.

The talker and the code predictor have layers of the same names, so a bare name such as ``q_proj``
is one in both. A group names one of them: ``talker.attention``, ``talker.mlp``,
``predictor.attention``, ``predictor.mlp``. Embeddings, heads, projections and the speaker encoder
are never adapted.
"""


SAMPLE_RATE = 24_000
"""Hz of the speech tokenizer of every 12 Hz base."""
_FRAME_RATE = 12.5
"""Frames a second, likewise."""


def open_text(spec: HostSpec) -> TokenCounter | None:
    """How the base directory that ``spec`` names reads texts; None for one that is elsewhere.

    Raises:
        ValueError, OSError: its tokenizer is missing, or is none.
    """

    def read(directory: Path) -> Callable[[str], list[int]]:
        from transformers import AutoTokenizer  # seconds to import

        # As the package loads it.
        tokenizer = AutoTokenizer.from_pretrained(directory, fix_mistral_regex=True)
        return lambda text: list(tokenizer(text)["input_ids"])

    return token_counter(spec, read)


def layer_names(spec: HostSpec) -> list[str] | None:
    """The layers of the base that may be adapted; None if it is not on this machine.

    Raises:
        FileNotFoundError: the base has no ``config.json``.
        ValueError: it is of another architecture.
    """
    source = local_directory(spec.source)
    if source is None:
        return None
    config, path = read_config(source, MODEL_TYPE), str(source / "config.json")
    talker = config.get("talker_config") or {}
    predictor = talker.get("code_predictor_config") or {}
    blocks = {
        "talker": block_count(talker, f"{path}: talker_config", default=20),
        "predictor": block_count(predictor, f"{path}: code_predictor_config", default=5),
    }
    return [name for key, count in blocks.items() for name in block_layers(_STACKS[key], count)]


def base_size(spec: HostSpec) -> BaseSize | None:
    """Of the base of ``spec``, from its ``config.json``; None where that is not known here.

    Its codec is not counted: the size of that is in a file of its own.

    Raises:
        FileNotFoundError: the base has no ``config.json``.
        ValueError: it is malformed, or of another architecture.
    """
    source = local_directory(spec.source)
    if source is None:
        return None
    config = read_config(source, MODEL_TYPE)
    try:
        talker = config["talker_config"]
        predictor, books = talker["code_predictor_config"], talker["num_code_groups"]
        stacks = (
            decoder_stack(_STACKS["talker"], talker, per_token=1.0, per_frame=1.0),
            decoder_stack(_STACKS["predictor"], predictor, per_token=0.0, per_frame=books),
        )
        width, inner = talker["hidden_size"], predictor["hidden_size"]
        read = talker["text_hidden_size"]
        text = talker["text_vocab_size"] * read + read * (read + width)
        # The first codebook's table and head, and those of the others.
        codes = 2 * talker["vocab_size"] * width + width * inner
        codes += (books - 1) * predictor["vocab_size"] * (width + inner)
    except KeyError:
        return None
    return BaseSize(
        stacks=stacks,
        others={},
        weights=sum(each.weights for each in stacks) + text + codes,
        codec=0,
        frame_rate=_FRAME_RATE,
    )


def sample_rate(spec: HostSpec) -> int:
    """Hz of all audio that a base of the family takes in."""
    return SAMPLE_RATE


speech_rate = sample_rate
