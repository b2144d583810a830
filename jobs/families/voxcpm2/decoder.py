"""The package's causal decoder over clips that lie end to end, each of which sees itself alone.

Every linear layer is one product over all positions; attention is computed clip by clip, on the
shape that a clip has when it comes alone. There is no padding, so a clip's states do not depend on
its batch.

Notation: t positions of all clips, d width, h heads, k heads of keys and values, e size of a head.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from jobs.vendor import voxcpm

_rotate = voxcpm().modules.minicpm4.model.apply_rotary_pos_emb


class ClipCache:
    """Keys and values of one clip's positions so far, by block."""

    def __init__(self) -> None:
        self._blocks: list[tuple[Tensor, Tensor]] = []

    @property
    def length(self) -> int:
        """Positions."""
        return self._blocks[0][0].shape[1] if self._blocks else 0

    def extend(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of the next positions, (k, length, e); returns all."""
        if block == len(self._blocks):
            self._blocks.append((keys, values))
        else:
            before = self._blocks[block]
            self._blocks[block] = (
                torch.cat([before[0], keys], dim=1),
                torch.cat([before[1], values], dim=1),
            )
        return self._blocks[block]


def decode(
    lm: Any,  # noqa: ANN401 (the package's MiniCPMModel)
    row: Tensor,
    lengths: Sequence[int],
    caches: Sequence[ClipCache] | None = None,
) -> Tensor:
    """The last hidden states (t, d) of ``row`` (t, d).

    Args:
        lm: the decoder.
        row: its input.
        lengths: positions of each clip; they add up to t.
        caches: of each clip, what came before, to which the positions are added; None where
            nothing did. A clip then goes on by one position.
    """
    starts = [0] * len(lengths) if caches is None else [cache.length for cache in caches]
    rotary = None
    if lm.rope_emb is not None:
        positions = [
            torch.arange(start, start + length, device=row.device)
            for start, length in zip(starts, lengths, strict=True)
        ]
        rotary = lm.rope_emb(torch.cat(positions))
    bounds = list(pairwise(accumulate(lengths, initial=0)))
    for number, block in enumerate(lm.layers):
        attention = block.self_attn
        read = block.input_layernorm(row)
        query = _heads(attention.q_proj(read), attention.head_dim)
        key = _heads(attention.k_proj(read), attention.head_dim)
        value = _heads(attention.v_proj(read), attention.head_dim)
        if rotary is not None:
            query, key = _rotate(query, key, *rotary)
        seen = []
        for clip, (start, stop) in enumerate(bounds):
            keys, values = key[:, start:stop], value[:, start:stop]
            if caches is not None:
                keys, values = caches[clip].extend(number, keys, values)
            seen.append(
                scaled_dot_product_attention(
                    query[None, :, start:stop].contiguous(),
                    keys[None].contiguous(),
                    values[None].contiguous(),
                    is_causal=stop - start > 1,
                    enable_gqa=True,
                )[0]
            )
        mixed = torch.cat(seen, dim=1).transpose(0, 1).flatten(1)
        row = row + _scaled(block, attention.o_proj(mixed))
        row = row + _scaled(block, block.mlp(block.post_attention_layernorm(row)))
    states: Tensor = lm.norm(row)
    return states


def _heads(row: Tensor, size: int) -> Tensor:
    """(t, h * e) as (h, t, e)."""
    return row.view(len(row), -1, size).transpose(0, 1)


def _scaled(block: Any, added: Tensor) -> Tensor:  # noqa: ANN401 (the package's own)
    """What a block adds, by the depth where the base was trained so (muP)."""
    if not block.use_mup:
        return added
    scaled: Tensor = added * (block.scale_depth / block.num_hidden_layers**0.5)
    return scaled
