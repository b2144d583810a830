"""A training step of VoxCPM2 against a plain implementation of the same objective.

Command: python benchmarks/voxcpm2_step.py [--quick] [--json]

Claim: a step is at least 1.5 times as fast as the plain one at the tiny size. Both losses are the
plain one's to 1e-4, which is tested before anything is timed.
Baseline: the package's own forward pass, as its script calls it: every clip encoded by the AudioVAE
at every step, clips padded to the longest, the local encoder and the diffusion decoder run on every
position, text and padding among them. Same weights, adapters (PEFT's), optimiser, clips and noise.
The same with latents prepared shows what is left without the encoding.
Where it loses: measured at the released base's widths with one block of each stack, where the
AudioVAE is that of the release; the ratio of the whole base is not measured. Texts that are short
beside their sound leave fewer positions to spare: the second shape has those.
Times are of the process's CPU, interleaved, medians of 9; one at the released widths. GPU: not
measured.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from types import SimpleNamespace
from typing import Any

if os.environ.get("OMP_NUM_THREADS") != "1":
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from jobs.families.base import Batch, LossTerms, frozen, linear_layers, unshared
from jobs.families.targets import chosen_layers
from jobs.families.voxcpm2 import layout, objective
from jobs.families.voxcpm2.description import TARGETS
from jobs.vendor import voxcpm

NETWORK = voxcpm().model.voxcpm2
RATE = 16_000
HOP = 640
PATCH = 4
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
SECONDS = (3.0, 5.0, 2.0, 4.0)
"""Of the clips of a micro-batch."""


def lm(hidden: int, inner: int, blocks: int, heads: int, size: int) -> dict[str, Any]:
    half = size // 2
    return {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "max_position_embeddings": 1024,
        "num_attention_heads": heads,
        "num_hidden_layers": blocks,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "kv_channels": size,
        "rope_scaling": {
            "type": "longrope",
            "long_factor": [1.0] * half,
            "short_factor": [1.0] * half,
            "original_max_position_embeddings": 1024,
        },
        "vocab_size": 1000,
        "use_mup": False,
        "scale_emb": 12.0,
        "dim_model_base": 256,
        "scale_depth": 1.4,
    }


def side(hidden: int, inner: int, blocks: int, heads: int, size: int) -> dict[str, Any]:
    return {
        "hidden_dim": hidden,
        "ffn_dim": inner,
        "num_layers": blocks,
        "num_heads": heads,
        "kv_channels": size,
    }


SMALL_CODEC = {"encoder_dim": 16, "decoder_dim": 64}
SHAPES: dict[str, tuple[dict[str, Any], int]] = {
    "tiny": (
        {
            "lm_config": lm(128, 384, 2, 4, 16),
            "residual_lm_num_layers": 1,
            "encoder_config": side(64, 256, 1, 4, 16),
            "dit_config": {**side(192, 320, 2, 4, 16), "cfm_config": {}},
            "audio_vae_config": SMALL_CODEC,
        },
        40,
    ),
    "tiny, texts of 4 ids": (
        {
            "lm_config": lm(128, 384, 2, 4, 16),
            "residual_lm_num_layers": 1,
            "encoder_config": side(64, 256, 1, 4, 16),
            "dit_config": {**side(192, 320, 2, 4, 16), "cfm_config": {}},
            "audio_vae_config": SMALL_CODEC,
        },
        4,
    ),
    "released widths, one block of each": (
        {
            "lm_config": lm(2048, 6144, 1, 16, 128),
            "residual_lm_num_layers": 1,
            "encoder_config": side(1024, 4096, 1, 16, 128),
            "dit_config": {**side(1024, 4096, 1, 16, 128), "cfm_config": {}},
            "audio_vae_config": {},
        },
        40,
    ),
}
"""What is not as released, and the ids of a text."""


def make_model(shape: str) -> tuple[nn.Module, nn.Module]:
    """Random, frozen, with a fresh adapter on the attention of all stacks; and its AudioVAE."""
    config = NETWORK.VoxCPMConfig.model_validate(
        {
            "patch_size": PATCH,
            "feat_dim": 64,
            "residual_lm_no_rope": True,
            "max_length": 1024,
            "device": "cpu",
            "dtype": "float32",
            **SHAPES[shape][0],
        }
    )
    torch.manual_seed(0)
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore", FutureWarning)
        codec = NETWORK.AudioVAEV2(config.audio_vae_config).eval()
        model = NETWORK.VoxCPM2Model(config, SimpleNamespace(vocab={}), codec, device="cpu")
    del model.audio_vae
    names = chosen_layers(ATTENTION, None, TARGETS, linear_layers(model))
    frozen(model)
    inject_adapter_in_model(LoraConfig(r=8, lora_alpha=16, target_modules=names), model)
    model.fsq_layer.train()  # without which the package's own passes no gradient on
    return model, codec


def sounds() -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(int(RATE * seconds), generator=draw) for seconds in SECONDS]


def encode(codec: nn.Module, sound: Tensor) -> Tensor:
    """Patches (n, p, c) of a sound, as the package's packer makes them."""
    size = HOP * PATCH
    padded = torch.nn.functional.pad(sound, (0, -len(sound) % size))
    with torch.no_grad():
        latents = codec.encode(padded[None], RATE)[0].t()
    return latents.reshape(-1, PATCH, latents.shape[-1])


def plain_loss(
    model: nn.Module,
    patches: list[Tensor],
    text: list[list[int]],
    batch: Batch,
) -> Tensor:
    """The package's forward pass on a batch that is padded here and now.

    Its noise is ours, put where its patches are.
    """
    lengths = [len(ids) + 1 + len(each) + 1 for ids, each in zip(text, patches, strict=True)]
    shape = (len(text), max(lengths))
    tokens, audio = torch.zeros(shape, dtype=torch.long), torch.zeros(*shape, *patches[0].shape[1:])
    is_text, is_audio, labels = (torch.zeros(shape) for _ in range(3))
    for row, (ids, each) in enumerate(zip(text, patches, strict=True)):
        start, stop = len(ids) + 1, len(ids) + 1 + len(each)
        tokens[row, :start] = torch.tensor([*ids, layout.AUDIO_START])
        tokens[row, stop] = layout.AUDIO_START + 1
        audio[row, start:stop] = each
        is_text[row, :start] = is_text[row, stop] = is_audio[row, start:stop] = 1
        labels[row, stop - 1] = 1
    rows, at = shape[0] * shape[1], is_audio.flatten().nonzero().flatten()

    def spread(values: Tensor) -> Tensor:
        return torch.rand(rows, *values.shape[1:]).index_copy(0, at, values)

    time_, noise = spread(batch["time"]), spread(batch["noise"]).transpose(1, 2)
    decoder = model.feat_decoder
    dropped, decoder.training_cfg_rate = decoder.training_cfg_rate, 0.0
    decoder.sample_r_t = lambda *_, **__: (time_, time_)
    drawn, torch.randn_like = torch.randn_like, lambda x: noise
    try:
        found = model(tokens, is_text, audio, is_audio, is_audio, position_ids=None, labels=labels)
    finally:
        torch.randn_like, decoder.training_cfg_rate = drawn, dropped
    total: Tensor = found["loss/diff"] + found["loss/stop"]
    return total


def measure(shape: str, repeats: int) -> dict[str, Any]:
    """Both losses, and the median CPU seconds of a step of each."""
    model, codec = make_model(shape)
    count = SHAPES[shape][1]
    draw = np.random.default_rng(2)
    text = [draw.integers(200, 1000, size=count).tolist() for _ in SECONDS]
    recorded = sounds()
    patches = [encode(codec, sound) for sound in recorded]
    examples = [
        layout.example(ids, each.flatten(1).numpy(), str(i))
        for i, (ids, each) in enumerate(zip(text, patches, strict=True))
    ]
    patch = layout.PatchShape(PATCH, 64, 0.0)
    terms = LossTerms(draw=torch.Generator().manual_seed(3))
    targets = sum(map(len, patches))

    def draw_batch() -> Batch:
        return layout.collate(examples, terms, patch, torch.device("cpu"))

    def ours(batch: Batch) -> Tensor:
        (sums,) = objective.loss_sums(model, [batch], unshared)
        return sums.sum() / targets

    def plain(batch: Batch) -> Tensor:
        return plain_loss(model, [encode(codec, sound) for sound in recorded], text, batch)

    def prepared(batch: Batch) -> Tensor:
        return plain_loss(model, patches, text, batch)

    ways = {"ours": ours, "plain": plain, "plain, latents prepared": prepared}
    first = draw_batch()
    with torch.no_grad():
        losses = [ours(first).item(), plain(first).item()]
    if abs(losses[0] - losses[1]) > 1e-4 * abs(losses[1]):
        raise AssertionError(f"the losses must be equal, got {losses}")
    trained = [each for each in model.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, loss in ways.items():
            took = _step(loss, draw_batch, optimiser)
            if turn:  # the first of each also allocates
                seconds[name].append(took)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {
        "losses": losses,
        "seconds": medians,
        "ratios": {name: round(each / medians["ours"], 2) for name, each in medians.items()},
    }


def _step(
    loss: Callable[[Batch], Tensor],
    draw_batch: Callable[[], Batch],
    optimiser: torch.optim.Optimizer,
) -> float:
    started = time.process_time()
    optimiser.zero_grad()
    loss(draw_batch()).backward()
    optimiser.step()
    return time.process_time() - started


def _repeats(shape: str, quick: bool) -> int:
    return (3 if quick else 9) if shape.startswith("tiny") else 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="the tiny shape alone, 3 steps")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shapes = ["tiny"] if options.quick else list(SHAPES)
    found: dict[str, dict[str, Any]] = {}
    for shape in shapes:
        found[shape] = measure(shape, _repeats(shape, options.quick))
        if not options.json:
            for name, seconds in found[shape]["seconds"].items():
                ratio = found[shape]["ratios"][name]
                print(f"{shape}: {name} {seconds:.3f} s, {ratio:.2f}x", flush=True)
    passed = found["tiny"]["ratios"]["plain"] >= 1.5
    if options.json:
        result = {"name": "voxcpm2_step", "claim": "1.5x tiny", "passed": passed, "shapes": found}
        print(json.dumps(result))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
