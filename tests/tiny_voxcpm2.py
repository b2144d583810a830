"""A tiny random VoxCPM2 base as it lies on a disk, with the hops of the released one.

No two widths are equal, so that no projection is the identity by chance, and those of activations
are multiples of 64, as in the released base (see ``tests/tiny_qwen3_tts.py``). What it says is
noise; its AudioVAE is random too.
"""

import json
import warnings
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from jobs.clips import PreparedClip
from jobs.families.voxcpm2.model import CODEC_WEIGHTS, WEIGHTS
from jobs.families.voxcpm2.text import TOKENIZER_FILE
from jobs.vendor import voxcpm

network = voxcpm().model.voxcpm2
CHANNELS = 8
PATCH = 4
LM, ENCODER, DIT = 128, 64, 192
"""Widths of the language models, the local encoder and the diffusion decoder."""
_CORPUS = [
    *["zero one two three four five six seven eight nine"] * 4,
    *["សួស្តី ពិភពលោក [km]"] * 4,
    *["안녕하세요 세계 [ko]"] * 4,
    *["你好世界世界"] * 8,
]


def config(**changes: Any) -> dict[str, Any]:
    """Of the shape that the released config.json has."""
    return {
        "architecture": "voxcpm2",
        "lm_config": lm_config(),
        "patch_size": PATCH,
        "feat_dim": CHANNELS,
        "residual_lm_num_layers": 1,
        "residual_lm_no_rope": True,
        "scalar_quantization_latent_dim": 32,
        "scalar_quantization_scale": 9,
        "encoder_config": side(ENCODER, 256, 1),
        "dit_config": {
            **side(DIT, 320, 2),
            "cfm_config": {"sigma_min": 1e-6, "solver": "euler", "t_scheduler": "log-norm"},
        },
        "audio_vae_config": {
            "encoder_dim": 2,
            "encoder_rates": [2, 5, 8, 8],
            "latent_dim": CHANNELS,
            "decoder_dim": 64,
            "decoder_rates": [8, 6, 5, 2, 2, 2],
            "sample_rate": 16000,
            "out_sample_rate": 48000,
        },
        "max_length": 256,
        "device": "cpu",
        "dtype": "float32",
        **changes,
    }


def lm_config(**changes: Any) -> dict[str, Any]:
    """Of the base language model; the released one is not trained with muP either."""
    return {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_size": LM,
        "intermediate_size": 384,
        "max_position_embeddings": 512,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "kv_channels": 16,
        "rope_scaling": {
            "type": "longrope",
            "long_factor": [1.0] * 8,
            "short_factor": [1.0] * 8,
            "original_max_position_embeddings": 512,
        },
        "vocab_size": 384,
        "use_mup": False,
        "scale_emb": 12.0,
        "dim_model_base": 256,
        "scale_depth": 1.4,
        **changes,
    }


def side(width: int, inner: int, blocks: int) -> dict[str, Any]:
    """Of the local encoder or of the diffusion decoder."""
    return {
        "hidden_dim": width,
        "ffn_dim": inner,
        "num_heads": 4,
        "num_layers": blocks,
        "kv_channels": 16,
    }


def write_tiny_voxcpm2(directory: Path, seed: int = 0, **changes: Any) -> Path:
    """Write a base: network, tokenizer and AudioVAE; returns ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(directory / TOKENIZER_FILE)
    written = config(**changes)
    (directory / "config.json").write_text(json.dumps(written))
    model = official_model(written, seed)
    own = model.state_dict()
    split: dict[str, dict[str, torch.Tensor]] = {WEIGHTS: {}, CODEC_WEIGHTS: {}}
    for name, tensor in own.items():
        is_codec = name.startswith("audio_vae.")
        kept = split[CODEC_WEIGHTS if is_codec else WEIGHTS]
        kept[name.removeprefix("audio_vae.")] = tensor.clone().contiguous()
    for name, tensors in split.items():
        save_file(tensors, directory / name, metadata={"format": "pt"})
    return directory


def official_model(written: dict[str, Any], seed: int = 0) -> Any:
    """The package's network for a config.json, with random weights that make a difference."""
    torch.manual_seed(seed)
    read = network.VoxCPMConfig.model_validate(written)
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore", FutureWarning)  # its old weight_norm
        vae = network.AudioVAEV2(read.audio_vae_config)
        model = network.VoxCPM2Model(read, NO_TOKENIZER, vae, device="cpu")
    for name, tensor in model.named_parameters():
        if tensor.dim() == 2 and "audio_vae" not in name:
            tensor.data.mul_(2.0)
    return model.eval()


NO_TOKENIZER = SimpleNamespace(vocab={})
"""One that is never asked."""


def random_clips(
    patches: tuple[int, ...] = (5, 9, 6), languages: tuple[str, ...] = ()
) -> list[PreparedClip]:
    """Clips of random latents, of unequal lengths in texts and patches."""
    draw = np.random.default_rng(7)
    texts = ("seven", "four five nine", "two two")
    return [
        PreparedClip(
            id=f"{i:05d}",
            text=texts[i % len(texts)],
            split="train",
            codes=draw.normal(size=(count, PATCH * CHANNELS)).astype(np.float32),
            word_starts=None,
            language=languages[i % len(languages)] if languages else None,
        )
        for i, count in enumerate(patches)
    ]


def _write_tokenizer(path: Path) -> None:
    """Of the kind that the released base has: a BPE with ▁ for a space, and single bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Replace("▁", " ")
    special = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    trainer = trainers.BpeTrainer(vocab_size=380, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.save(str(path))
