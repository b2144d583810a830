"""How text and sound become what the model reads, the same for training and for speaking.

A sequence is the ids of a text, the id that begins audio, then the patches of the sound. The
package puts another id after them, from which nothing is predicted: it is left out here. A patch is
a frame of the family: what one step of the language models writes, 0.16 s.

Notation: b clips, t positions of all clips end to end, n patches, p latents in a patch, c channels
of a latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from jobs.clips import Codes
from jobs.families.base import Batch, LossTerms
from jobs.families.layout import IGNORED_LABEL, Example
from jobs.families.voxcpm2 import noise

VERSION = 1
"""Of the layout and of the objective; part of a base's digest."""
AUDIO_START = 101
"""The id before the first patch; the package has it as a constant."""
_SOUND = 0
"""In the ids, where a patch is."""


@dataclass(frozen=True)
class LatentExample(Example):
    """A clip to train on: its ids, a label a patch (1 for the last one), and the patches."""

    clip: str
    """What its noise in validation follows from."""
    patches: Codes = field(compare=False)
    """(n, p * c); ``clip`` says which they are."""


@dataclass(frozen=True)
class PatchShape:
    """Of one patch, and how often its conditions are dropped in training."""

    latents: int
    channels: int
    drop_rate: float


def example(text_ids: Sequence[int], patches: Codes, clip: str) -> LatentExample:
    """A clip of ``patches`` (n, p * c)."""
    prompt = prompt_ids(text_ids)
    count = len(patches)
    return LatentExample(
        input_ids=[*prompt, *[_SOUND] * count],
        labels=[*[IGNORED_LABEL] * len(prompt), *[0] * (count - 1), 1],
        clip=clip,
        patches=patches,
    )


def prompt_ids(text_ids: Sequence[int]) -> list[int]:
    """What comes before the first patch."""
    return [*text_ids, AUDIO_START]


def collate(
    examples: Sequence[LatentExample], terms: LossTerms, shape: PatchShape, device: torch.device
) -> Batch:
    """The clips end to end, without padding.

    ``lengths`` (b,), on the CPU, positions of each clip; ``text``, ``text_at`` (t - n,): ids and
    where each goes; ``patches`` (n, p, c), fp32, ``patch_at`` (n,); ``first`` (n,), whether a patch
    is its clip's first; ``stop`` (n,), 1 where it is the last; ``time`` (n,), ``noise`` (n, p, c)
    and ``kept`` (n,), see :mod:`jobs.families.voxcpm2.noise`; ``stop_weight``, a scalar.
    """
    text: list[int] = []
    text_at: list[int] = []
    patch_at: list[int] = []
    first: list[bool] = []
    start = 0
    for each in examples:
        count, size = len(each.patches), len(each) - len(each.patches)
        text += each.input_ids[:size]
        text_at += range(start, start + size)
        patch_at += range(start + size, start + len(each))
        first += [True, *[False] * (count - 1)]
        start += len(each)
    counts = [len(each.patches) for each in examples]
    one = (shape.latents, shape.channels)
    flat = np.concatenate([np.asarray(each.patches, dtype=np.float32) for each in examples])
    if terms.draw is None:
        drawn = noise.fixed([each.clip for each in examples], counts, one)
    else:
        drawn = noise.drawn(sum(counts), one, shape.drop_rate, terms.draw)
    last = np.cumsum(counts) - 1
    batch = {
        "text": torch.tensor(text),
        "text_at": torch.tensor(text_at),
        "patches": torch.from_numpy(flat).view(-1, *one),
        "patch_at": torch.tensor(patch_at),
        "first": torch.tensor(first),
        "stop": torch.zeros(sum(counts), dtype=torch.long).index_fill_(
            0, torch.from_numpy(last), 1
        ),
        "time": drawn.time,
        "noise": drawn.noise,
        "kept": drawn.kept,
        "stop_weight": torch.tensor(terms.stop_weight),
    }
    placed: dict[str, Tensor] = {name: tensor.to(device) for name, tensor in batch.items()}
    return placed | {"lengths": torch.tensor([len(each) for each in examples])}
