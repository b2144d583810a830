"""The four defects of the official fine-tuning script, each put into the objective.

See docs/qwen3-tts.md. Generation is left alone: it is the package's.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jobs.families.base import Batch
from jobs.families.qwen3_tts import objective
from jobs.families.qwen3_tts.model import CodeTables


def shift_codebook_0_twice(patch: pytest.MonkeyPatch) -> None:
    """Logits at j are trained on the label at j + 2."""
    right = objective.codebook_0_losses

    def wrong(talker: Any, hidden: Tensor, batch: Batch) -> Tensor:
        return right(talker, hidden, {**batch, "target_at": batch["target_at"] - 1})

    patch.setattr(objective, "codebook_0_losses", wrong)


def shift_codebooks(patch: pytest.MonkeyPatch) -> None:
    """Head k is trained on codebook k + 2, and the last head on nothing."""

    def wrong(talker: Any, tables: CodeTables, before: Tensor, codes: Tensor) -> Tensor:
        predictor = talker.code_predictor
        read = torch.cat([before[:, None], tables(codes[:, :-1])], dim=1)
        states = predictor.model(
            inputs_embeds=predictor.small_to_mtp_projection(read), use_cache=False
        ).last_hidden_state
        heads = list(enumerate(predictor.lm_head, start=1))[:-1]
        costs = [
            nn.functional.cross_entropy(head(states[:, i]), codes[:, i + 1], reduction="none")
            for i, head in heads
        ]
        return torch.stack(costs).sum(dim=0)

    patch.setattr(objective, "acoustic_losses", wrong)


def leak_the_frame(patch: pytest.MonkeyPatch) -> None:
    """The predictor reads the hidden state at the frame, which has read the frame's codes."""
    right = objective.loss_sums

    def wrong(talker: Any, tables: Any, pad: int, batches: Any, share: Any) -> list[Tensor]:
        leaky = [{**batch, "scored_from": batch["scored_from"] + 1} for batch in batches]
        return right(talker, tables, pad, leaky, share)

    patch.setattr(objective, "loss_sums", wrong)


def forget_the_projection(patch: pytest.MonkeyPatch) -> None:
    """Text embeddings are read as they are; only 1.7B, whose sizes are equal, gets that far."""
    right = objective.embed

    def project(talker: Any, ids: Tensor) -> Tensor:
        return talker.get_text_embeddings()(ids)

    def wrong(talker: Any, tables: Any, pad: int, batch: Batch) -> Tensor:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(objective, "project", project)
            return right(talker, tables, pad, batch)

    # Generation has a name of its own for the right one.
    patch.setattr(objective, "embed", wrong)


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    each.__name__: each
    for each in (shift_codebook_0_twice, shift_codebooks, leak_the_frame, forget_the_projection)
}
