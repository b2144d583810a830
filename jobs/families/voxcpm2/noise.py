"""What flow matching draws for each patch: a time, noise, and whether its conditions are kept.

A time is logistic-normal: the sigmoid of a normal deviate of mean -0.4 and deviation 1, as in the
package's ``UnifiedCFM.sample_r_t``. Training draws anew at every step, and drops the conditions of
some patches, which classifier-free guidance needs. Validation drops none, and has the same noise
for a clip whatever is in its batch and whoever asks: one trial's loss can be compared with
another's. Its times are stratified: a clip of n patches has one in each n-th of their
distribution, in a random order, which halves the deviation of a clip's loss.

Notation: n patches, p latents in a patch, c channels of a latent.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

VALIDATION = "voxcpm2, one draw a clip, times stratified within it, no condition dropped, 1"
"""How validation draws, and the seed of all of it; part of a base's digest, so that trials that
were validated in another way are other trials."""
_MEAN = -0.4


class PatchNoise(NamedTuple):
    """Of n patches."""

    time: Tensor
    """(n,), fp32: 0 is the sound, 1 is noise."""
    noise: Tensor
    """(n, p, c), fp32, standard normal."""
    kept: Tensor
    """(n,), fp32: 0 where the conditions of the language models are dropped, else 1."""


def drawn(
    count: int, shape: tuple[int, int], drop_rate: float, draw: torch.Generator
) -> PatchNoise:
    """For training: all from ``draw``, on its device."""
    normal = torch.randn(count, generator=draw, device=draw.device)
    return PatchNoise(
        torch.sigmoid(normal + _MEAN),
        torch.randn(count, *shape, generator=draw, device=draw.device),
        (torch.rand(count, generator=draw, device=draw.device) > drop_rate).float(),
    )


def fixed(clips: Sequence[str], counts: Sequence[int], shape: tuple[int, int]) -> PatchNoise:
    """For validation: of each clip from its own name, on the CPU, so that every device agrees."""
    times, noises = [], []
    for clip, count in zip(clips, counts, strict=True):
        digest = hashlib.sha256(f"{VALIDATION}: {clip}".encode()).digest()
        draw = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        offset = torch.rand(1, generator=draw, dtype=torch.float64)
        order = torch.randperm(count, generator=draw)
        normal = torch.special.ndtri((order + offset) / count).float()
        times.append(torch.sigmoid(normal + _MEAN))
        noises.append(torch.randn(count, *shape, generator=draw))
    return PatchNoise(torch.cat(times), torch.cat(noises), torch.ones(sum(counts)))
