"""What is known of a base without loading it: its layers for adapters, its texts, its rates."""

import re
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

from jobs.families.description import (
    HUB,
    TokenCounter,
    block_count,
    local_directory,
    read_config,
    token_counter,
)
from jobs.families.size import BaseSize, Stack
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
RELEASED = "openbmb/VoxCPM2"
"""The id of the released base on the hub."""
_RELEASED_SIDE = {
    "hidden_dim": 1024,
    "ffn_dim": 4096,
    "num_heads": 16,
    "num_layers": 12,
    "kv_channels": 128,
}
_RELEASED_CONFIG = {
    "lm_config": {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 2,
        "kv_channels": 128,
        "vocab_size": 73448,
    },
    "patch_size": 4,
    "feat_dim": 64,
    "residual_lm_num_layers": 8,
    "scalar_quantization_latent_dim": 512,
    "encoder_config": _RELEASED_SIDE,
    "dit_config": _RELEASED_SIDE,
}
"""Of its ``config.json`` what :func:`base_size` reads, for where it was not downloaded."""
_CODEC_WEIGHTS = 94_213_954
"""Of AudioVAE V2 as released."""
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


def base_size(spec: HostSpec) -> BaseSize | None:
    """Of the base of ``spec``, from its ``config.json``; None where that is not known here.

    Raises:
        ValueError: the file is malformed.
    """
    source = local_directory(spec.source)
    if source is not None:
        return _size(read_config(source, ARCHITECTURE, key="architecture"))
    return _size(_RELEASED_CONFIG) if spec.source == HUB + RELEASED else None


def _size(config: Mapping[str, Any]) -> BaseSize | None:
    """None where a number is missing."""
    try:
        lm, patch = config["lm_config"], config["patch_size"]
        width, heads, keys = lm["hidden_size"], lm["num_attention_heads"], lm["num_key_value_heads"]
        # What the base model reads of a patch is one position; the local encoder adds one of its
        # own to its latents, the diffusion decoder a time, two conditions and the patch before.
        sides = {
            "feat_encoder.encoder": (config["encoder_config"], patch + 1, False),
            DIT: (config["dit_config"], 2 * patch + 3, True),
        }
        stacks = [
            Stack(
                name=name,
                blocks=blocks,
                width=width,
                inner=lm["intermediate_size"],
                queries=heads * lm["kv_channels"],
                keys=keys * lm["kv_channels"],
                per_token=1.0,
                per_frame=1.0,
            )
            for name, blocks in (
                ("base_lm", lm["num_hidden_layers"]),
                ("residual_lm", config["residual_lm_num_layers"]),
            )
        ] + [
            Stack(
                name=name,
                blocks=side["num_layers"],
                width=side["hidden_dim"],
                inner=side["ffn_dim"],
                queries=side["num_heads"] * side["kv_channels"],
                keys=keys * side["kv_channels"],
                per_token=0.0,
                per_frame=float(positions),
                learns=learns,
                is_diffusion=name == DIT,
            )
            for name, (side, positions, learns) in sides.items()
        ]
        encoder, dit = (side["hidden_dim"] for side, _, _ in sides.values())
        channels, levels = config["feat_dim"], config["scalar_quantization_latent_dim"]
        rates = (config.get("audio_vae_config") or {}).get("encoder_rates", (2, 5, 8, 8))
        vocabulary = lm["vocab_size"]
    except KeyError:
        return None
    others = dict(
        zip(
            PROJECTIONS,
            ((encoder, width), (width, dit), (width, dit), (2 * width, width)),
            strict=True,
        )
    )
    # Tables and layers outside of blocks: text, quantiser, stopping, latents in and out, times.
    rest = width * (vocabulary + 2 * levels + width) + channels * (encoder + 3 * dit) + 4 * dit**2
    return BaseSize(
        stacks=tuple(stacks),
        others=others,
        weights=sum(each.weights for each in stacks) + sum(map(prod, others.values())) + rest,
        codec=_CODEC_WEIGHTS,
        frame_rate=SAMPLE_RATE / prod(rates) / patch,
    )


def sample_rate(spec: HostSpec) -> int:
    """Hz of the recordings that a base of the family learns from."""
    return SAMPLE_RATE


def speech_rate(spec: HostSpec) -> int:
    """Hz of what a base of the family speaks."""
    return SPEECH_RATE
