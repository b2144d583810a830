"""Do these clips fit this base? Asked of the base as it is, before anything is trained.

A base that was trained on this layout predicts the next code much better than the one after it. Of
the real 0.6B base 6.05 and 11.03 were read (issue 371 of the package); after the official
fine-tuning, which trains on the code after the next, it was 6.29 and 1.87.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from jobs.clips import PreparedClip
from jobs.families.base import Batch
from jobs.families.qwen3_tts import objective
from jobs.families.segments import Segments

if TYPE_CHECKING:
    from jobs.families.qwen3_tts.base import Qwen3TTS

_CLIPS = 8
"""Enough: each has a hundred targets or so."""
_WELL_BELOW = 0.8
"""The largest ratio of the two that passes; 0.55 was read on real weights."""


class Shifts(NamedTuple):
    """Mean cross-entropy of codebook 0, in nats."""

    one: float
    """Each code predicted from the position before it."""
    two: float
    """From the one before that."""


def refusal(base: "Qwen3TTS", clips: Sequence[PreparedClip]) -> str | None:
    """Why the clips do not fit the base; None where they do."""
    found = shifts(base, clips[:_CLIPS])
    if found.one <= _WELL_BELOW * found.two:
        return None
    return (
        "the untouched base must predict the next code of the clips well: its cross-entropy must "
        f"be at most {_WELL_BELOW:.0%} of that for the code after the next, got {found.one:.2f} "
        f"against {found.two:.2f}. Texts that are not what is said, another speech tokenizer, "
        "weights that were never trained or were fine-tuned with shifted labels all look so"
    )


@torch.no_grad()
def shifts(base: "Qwen3TTS", clips: Sequence[PreparedClip]) -> Shifts:
    """How well the base predicts codebook 0 of ``clips`` at both shifts."""
    sums, count = [0.0, 0.0], 0
    for example in base.examples(clips):
        read = base.collate([example])

        def work(talker: nn.Module, read: Batch = read) -> list[Tensor]:
            embedded = objective.embed(talker, base.tables, base.layout.pad_id, read)
            segments = Segments([read["attention_mask"]])
            (hidden,) = objective.hidden_states(talker, [embedded], segments)
            later = {**read, "target_at": read["target_at"] - 1}
            return [objective.codebook_0_losses(talker, hidden, b).sum() for b in (read, later)]

        losses: list[Tensor] = base.model(work)
        sums = [total + loss.item() for total, loss in zip(sums, losses, strict=True)]
        count += base.targets([example])
    return Shifts(sums[0] / count, sums[1] / count)
