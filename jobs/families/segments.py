"""Several batches in one forward pass of a Hugging Face decoder, each attending within itself.

All tokens lie in one row, so that every linear layer is one matrix product. Attention alone looks
across tokens; it is computed batch by batch, on the shape that the batch has when it comes alone,
because a sum over more padding rounds differently.

Notation: b clips in a batch, s its tokens, t the tokens of all batches, h heads, d head size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "voxsweep_segments"


class Segments:
    """Where each batch lies in the row."""

    def __init__(self, attention_masks: Sequence[Tensor]) -> None:
        """Each mask is (b, s): 1 where a token is, 0 where padding is, which is on the right."""
        self._shapes = [(mask.shape[0], mask.shape[1]) for mask in attention_masks]
        self._masks = [_causal_mask(mask) for mask in attention_masks]
        positions = [torch.arange(m.shape[1], device=m.device) for m in attention_masks]
        rows = [p.repeat(mask.shape[0]) for p, mask in zip(positions, attention_masks, strict=True)]
        self.position_ids = torch.cat(rows)[None]
        """(1, t)"""
        self.attention_mask = self.position_ids.new_empty(1, 1, 0, 0)
        """For the model, which makes none of its own where it is given one of four dimensions. Our
        attention takes each batch's."""

    @property
    def sizes(self) -> list[int]:
        """Tokens of each batch, padding included."""
        return [clips * length for clips, length in self._shapes]

    def split(self, row: Tensor) -> list[Tensor]:
        """(1, t, ...) as one (b, s, ...) a batch."""
        parts = torch.split(row[0], self.sizes)
        return [
            part.view(*shape, *part.shape[1:])
            for part, shape in zip(parts, self._shapes, strict=True)
        ]

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        dropout: float,
        scaling: float | None,
    ) -> Tensor:
        """Attention of ``query`` (1, h, t, d) over ``key`` and ``value``: (1, t, h, d)."""
        heads = [self.split(tensor.transpose(1, 2)) for tensor in (query, key, value)]
        outputs = []
        for q, k, v, mask in zip(*heads, self._masks, strict=True):
            output, _ = sdpa_attention_forward(
                module,
                q.transpose(1, 2),
                k.transpose(1, 2),
                v.transpose(1, 2),
                mask,
                dropout=dropout,
                scaling=scaling,
            )
            outputs.append(output.flatten(0, 1))
        return torch.cat(outputs)[None]


def segmented(model: nn.Module) -> nn.Module:
    """Have a Hugging Face decoder take ``segments``; without them it attends as SDPA does."""
    assert isinstance(model, PreTrainedModel)
    model.set_attn_implementation(_NAME)
    return model


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    segments: Segments | None = None,
    **kwargs: Any,  # noqa: ANN401 (what else Hugging Face hands down)
) -> tuple[Tensor, None]:
    if segments is not None:
        return segments.attend(module, query, key, value, dropout, scaling), None
    output, _ = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
    )
    return output, None


def _causal_mask(mask: Tensor) -> Tensor | None:
    """(b, 1, s, s), true where a query may look; None where that is all that came before it."""
    if bool(mask.all()):
        return None
    length = mask.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return before & mask.bool()[:, None, None, :]


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)
