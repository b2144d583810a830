"""Do these clips fit this base? Asked of the base as it is, before anything is trained.

A base that was trained on this layout predicts the next code much better than the one after it. Of
the real 0.6B base 6.05 and 11.03 were read (issue 371 of the package); after the official
fine-tuning, which trains on the code after the next, it was 6.29 and 1.87.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs.families.base import Batch
from jobs.families.qwen3_tts import objective
from jobs.families.qwen3_tts.model import CodeTables
from jobs.families.segments import Segments

CLIPS = 8
"""Enough: each has a hundred targets or so."""
_WELL_BELOW = 0.8
"""The largest ratio of the two that passes; 0.55 was read on real weights."""


class Shifts(NamedTuple):
    """Mean cross-entropy of codebook 0, in nats."""

    one: float
    """Each code predicted from the position before it."""
    two: float
    """From the one before that."""


def check_fit(found: Shifts) -> None:
    """See that the base predicts its clips as one that was trained on this layout.

    Raises:
        ValueError: the clips do not fit the base.
    """
    if found.one > _WELL_BELOW * found.two:
        raise ValueError(
            "the untouched base must predict the next code of the clips well: its cross-entropy "
            f"must be at most {_WELL_BELOW:.0%} of that for the code after the next, got "
            f"{found.one:.2f} against {found.two:.2f}. Texts that are not what is said, another "
            "speech tokenizer, weights that were never trained or were fine-tuned with shifted "
            "labels all look so"
        )


@torch.no_grad()
def shifts(model: nn.Module, tables: CodeTables, pad_id: int, batches: Iterable[Batch]) -> Shifts:
    """How well ``model`` predicts codebook 0 of ``batches``, one clip each, at both shifts.

    ``tables`` and ``pad_id`` are as for :func:`jobs.families.qwen3_tts.objective.embed`.
    """
    sums, count = [0.0, 0.0], 0
    for batch in batches:

        def work(talker: nn.Module, batch: Batch = batch) -> list[Tensor]:
            embedded = objective.embed(talker, tables, pad_id, batch)
            segments = Segments([batch["attention_mask"]])
            (hidden,) = objective.hidden_states(talker, [embedded], segments)
            later = {**batch, "target_at": batch["target_at"] - 1}
            return [objective.codebook_0_losses(talker, hidden, b).sum() for b in (batch, later)]

        losses: list[Tensor] = model(work)
        sums = [total + loss.item() for total, loss in zip(sums, losses, strict=True)]
        count += len(batch["target"])
    return Shifts(sums[0] / count, sums[1] / count)
