"""What is known of a base without loading it: its layers for adapters, its texts, its rates."""

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
from jobs.families.targets import BLOCK_PARTS, block_layers
from jobs.spec.trial import HostSpec

ARCHITECTURE = "voxcpm2"
"""As ``config.json`` names it, under ``architecture``."""
_LM = r"(?:base_lm|residual_lm)"
DIT = "feat_decoder.estimator.decoder"
_DIT = re.escape(DIT)
PROJECTIONS = ("enc_to_lm_proj", "lm_to_dit_proj", "res_to_dit_proj", "fusion_concat_proj")
"""Between the networks, in the order of the package's own list."""
TARGETS = {
    "projections": "|".join(PROJECTIONS),
    **{
        target: rf"{stacks}\.layers\.\d+\.{module}\.(?:{'|'.join(meant)})"
        for part, (module, names) in BLOCK_PARTS.items()
        for target, stacks, meant in (
            (f"lm.{part}", _LM, names),
            (f"dit.{part}", _DIT, names),
            *((name, f"(?:{_LM}|{_DIT})", (name,)) for name in names),
        )
    },
}
"""What ``training.targets`` may name, with what the whole name of a layer matches.

A bare name such as ``q_proj`` is that layer in the two language models and in the diffusion
decoder, never in the local encoder, which has layers of the same names and is not adapted, as
upstream. A group names one side: ``lm.attention``, ``lm.mlp``, ``dit.attention``, ``dit.mlp``.
"""
SAMPLE_RATE = 16_000
"""Hz that the encoder of AudioVAE V2 takes in."""
SPEECH_RATE = 48_000
"""Hz that its decoder gives."""


def open_text(spec: HostSpec) -> TokenCounter | None:
    """How the base directory that ``spec`` names reads texts; None for one that is elsewhere.

    Raises:
        ValueError, OSError: its tokenizer is missing, or is none.
    """

    def read(directory: Path) -> Callable[[str], list[int]]:
        from jobs.families.voxcpm2.text import TextIds  # tokenizers takes a moment

        return TextIds.read(directory)

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
    config = read_config(source, ARCHITECTURE, key="architecture")
    path = source / "config.json"
    lm, dit = config.get("lm_config") or {}, config.get("dit_config") or {}
    blocks = {
        "base_lm": block_count(lm, f"{path}: lm_config", default=0),
        "residual_lm": block_count(config, str(path), default=8, key="residual_lm_num_layers"),
        DIT: block_count(dit, f"{path}: dit_config", default=4, key="num_layers"),
    }
    stacks = [name for stack, count in blocks.items() for name in block_layers(stack, count)]
    return [*stacks, *PROJECTIONS]


def sample_rate(spec: HostSpec) -> int:
    """Hz of the recordings that a base of the family learns from."""
    return SAMPLE_RATE


def speech_rate(spec: HostSpec) -> int:
    """Hz of what a base of the family speaks."""
    return SPEECH_RATE
