"""Speaking: patch by patch, all prompts of all voices in one batch.

As the package's ``_inference`` and ``UnifiedCFM.solve_euler``, which speak one prompt at a time.
Each prompt draws its noise from a stream of its own, on the CPU.

Notation: b prompts, n patches, p latents in a patch, c channels of a latent, m the diffusion
decoder's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from jobs.families.base import RowShare
from jobs.families.sampling import row_generator, voice_sizes
from jobs.families.voxcpm2 import objective
from jobs.families.voxcpm2.decoder import ClipCache, decode
from jobs.spec.trial import DecodingSpec

_MIN_PATCHES = 4
"""The package's ``min_len`` of 2 heeds a stop after the patch of index 3 at the earliest."""
_NO_FLOW = 0.04
"""Share of the steps at the start that guidance skips (the package's CFG-Zero*), at least one."""


@dataclass(frozen=True)
class GeneratedPatches:
    """What was generated for one prompt."""

    patches: Tensor
    """(n, p, c), on the CPU."""
    reached_end: bool
    """False where the cap came first."""


@torch.no_grad()  # inference mode would spoil the weights that ZeRO stage 3 gathers
def generate(
    model: Any,  # noqa: ANN401 (the package's own)
    prompts: Sequence[Sequence[int]],
    names: Sequence[str],
    caps: Sequence[int],
    decoding: DecodingSpec,
    voices: int,
    share: RowShare,
) -> list[GeneratedPatches]:
    """Generate what follows each of ``prompts``, in ids. A prompt leaves the batch at its end.

    Args:
        model: with whatever adapters own its rows.
        prompts: of each voice as many as of the others, one voice after another.
        names: what each prompt's noise is drawn by, with the seed.
        caps: patches of each at most.
        decoding: the seed, the steps of the diffusion and the strength of its guidance.
        voices: how many.
        share: tells the adapters which rows are whose.
    """
    device = model.base_lm.embed_tokens.weight.device
    lengths = [len(prompt) for prompt in prompts]
    streams = [row_generator(decoding.seed, name) for name in names]
    caches = [(ClipCache(), ClipCache()) for _ in prompts]
    rows = list(range(len(prompts)))
    """Those that are still spoken."""

    def step(read: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
        """Both language models on what comes next: ``sizes`` positions of each of ``rows``; None
        of them is a patch in the first step, and all are in those after it."""
        first = not caches[rows[0]][0].length
        counts = _by_voice(sizes, rows, len(prompts), voices)
        with share(counts):
            hidden = decode(model.base_lm, read, sizes, [caches[row][0] for row in rows])
        if not first:
            hidden = objective.quantised(model.fsq_layer, hidden)
        beside = torch.zeros_like(read) if first else read
        with share(counts):
            fused = model.fusion_concat_proj(torch.cat([hidden, beside], dim=-1))
            residual = decode(model.residual_lm, fused, sizes, [caches[row][1] for row in rows])
        return hidden, residual

    ids = torch.tensor([token for prompt in prompts for token in prompt], device=device)
    hidden, residual = step(objective.embed(model, ids), lengths)
    last = torch.tensor(list(accumulate(lengths)), device=device) - 1
    hidden, residual = hidden[last], residual[last]
    shape = (model.patch_size, model.feat_dim)
    before = torch.zeros(len(prompts), *shape, device=device)
    spoken: list[list[Tensor]] = [[] for _ in prompts]
    reached_end = [False for _ in prompts]
    made = 0
    while True:
        counts = voice_sizes(rows, len(prompts), voices)
        mu = objective.projected(model, hidden, residual, counts, share)
        noise = torch.stack([torch.randn(shape[::-1], generator=streams[row]) for row in rows])
        with share(counts):
            flowed = solve(model, mu, before.transpose(1, 2), noise.to(device), decoding)
        patches = flowed.transpose(1, 2)
        stops = objective.stop_logits(model, hidden).argmax(dim=-1).tolist()
        made += 1
        going = []
        for at, (row, patch) in enumerate(zip(rows, patches.cpu(), strict=True)):
            spoken[row].append(patch)
            reached_end[row] = stops[at] == 1 and made >= _MIN_PATCHES
            if not reached_end[row] and made < caps[row]:
                going.append(at)
        if not going:
            return [
                GeneratedPatches(torch.stack(each), ended)
                for each, ended in zip(spoken, reached_end, strict=True)
            ]
        rows = [rows[at] for at in going]
        before = patches[torch.tensor(going, device=device)]
        heard = objective.hear(model, before, voice_sizes(rows, len(prompts), voices), share)
        hidden, residual = step(heard, [1] * len(rows))


def solve(
    model: Any,  # noqa: ANN401 (the package's own)
    mu: Tensor,
    before: Tensor,
    noise: Tensor,
    decoding: DecodingSpec,
) -> Tensor:
    """Patches (b, c, p), fp32, from ``noise`` (b, c, p), by Euler steps from noise to sound.

    A patch's rows with and without conditions are neighbours, so that they are one voice's.

    Args:
        model: has the diffusion decoder.
        mu: its conditions, (b, 2 * m).
        before: the patches before, (b, c, p), fp32.
        noise: standard normal, fp32.
        decoding: the number of steps, and the strength of the guidance.
    """
    steps, dtype = decoding.inference_timesteps, mu.dtype
    even = torch.linspace(1, 0, steps + 1, device=mu.device)
    times = even + torch.cos(torch.pi / 2 * even) - 1 + even
    both = torch.stack([mu, torch.zeros_like(mu)], dim=1).flatten(0, 1)
    cond = before.repeat_interleave(2, dim=0).to(dtype)
    still = torch.zeros(len(both), device=mu.device)
    skipped = max(1, int((steps + 1) * _NO_FLOW))
    sound = noise
    for number, (time, after) in enumerate(pairwise(times)):
        if number < skipped:
            continue
        flow = model.feat_decoder.estimator(
            sound.repeat_interleave(2, dim=0).to(dtype), both, time.expand(len(both)), cond, still
        )
        guided, free = flow.float().unflatten(0, (-1, 2)).unbind(1)
        # How far the two agree: the free flow is scaled to what of the guided one lies along it.
        along = (guided * free).sum(dim=(1, 2)) / (free.square().sum(dim=(1, 2)) + 1e-8)
        scaled = free * along[:, None, None]
        sound = sound - (time - after) * (scaled + decoding.cfg_value * (guided - scaled))
    return sound


def _by_voice(sizes: Sequence[int], rows: Sequence[int], of: int, voices: int) -> list[int]:
    """How many of the positions are each voice's; ``sizes`` of each of ``rows``."""
    counts = [0] * voices
    for row, size in zip(rows, sizes, strict=True):
        counts[row * voices // of] += size
    return counts
