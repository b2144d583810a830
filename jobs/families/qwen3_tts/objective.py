"""The objective: what ``generate`` would have to do to say the clip, as one forward pass.

Codebook 0 of a frame is predicted by the talker at the position before it, codec_bos for the first,
and the end of speech at the last frame; labels are shifted once. Codebooks 1 to 15 of a frame are
predicted by the code predictor, which reads the talker's hidden state at the position before the
frame (at the frame itself the talker has read all its codes), then the frame's codes 0, 1, ...; at
its position i, head i - 1 predicts codebook i, and nothing is shifted.

Notation: b utterances, s positions, d the talker's hidden size; t, f, k as in ``batch``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jobs.families.base import Batch, RowShare
from jobs.families.qwen3_tts.model import CodeTables
from jobs.families.segments import Segments

WHOLE_ROW: dict[str, Any] = {"attention_mask": torch.empty(1, 1, 1, 1)}
"""Keeps the package from making a mask that is not read: one of four dimensions is left alone."""
CAUSAL: dict[str, Any] = {"attention_mask": {"full_attention": None}}
"""Likewise for the code predictor, where every position sees those before it."""


def embed(talker: Any, tables: CodeTables, pad_id: int, batch: Batch) -> Tensor:  # noqa: ANN401
    """What the talker reads, (b, s, d): both channels, projected, added up; zero where padding is.

    ``pad_id`` is tts_pad, the text channel of a frame.
    """
    mask = batch["attention_mask"]
    text = project(talker, batch["text"])
    row = text.new_zeros(mask.numel(), text.shape[-1]).index_copy(0, batch["text_at"], text)
    codec = talker.get_input_embeddings()(batch["codec"])
    row = row.index_add(0, batch["codec_at"], codec)
    row = row.index_add(0, batch["speaker_at"], batch["speaker"].to(row.dtype))
    if len(batch["codes"]):
        frames = tables(batch["codes"]).sum(dim=1) + project(talker, mask.new_tensor([pad_id]))
        row = row.index_copy(0, batch["frame_at"], frames)
    return row.view(*mask.shape, -1)


def project(talker: Any, ids: Tensor) -> Tensor:  # noqa: ANN401 (the package's own)
    """Text ids (n,) as the talker reads them, (n, d)."""
    projected: Tensor = talker.text_projection(talker.get_text_embeddings()(ids))
    return projected


def hidden_states(
    talker: Any,  # noqa: ANN401 (the package's own)
    embedded: Sequence[Tensor],
    segments: Segments,
) -> list[Tensor]:
    """The talker's last hidden states of several batches (b, s, d), each as (b * s, d)."""
    row = torch.cat([batch.flatten(0, 1) for batch in embedded])[None]
    output = talker.model(
        inputs_embeds=row,
        position_ids=segments.position_ids,
        segments=segments,
        use_cache=False,
        **WHOLE_ROW,
    )
    return [states.flatten(0, 1) for states in segments.split(output.last_hidden_state)]


def codebook_0_losses(talker: Any, hidden: Tensor, batch: Batch) -> Tensor:  # noqa: ANN401
    """Negative log-likelihood of each target, (t,): the head is applied where a target is."""
    logits = talker.codec_head(hidden[batch["target_at"]])
    return nn.functional.cross_entropy(logits.float(), batch["target"], reduction="none")


def acoustic_losses(
    talker: Any,  # noqa: ANN401 (the package's own)
    tables: CodeTables,
    before: Tensor,
    codes: Tensor,
) -> Tensor:
    """Negative log-likelihood of codebooks 1 to k - 1 of each frame, summed, (f,).

    Args:
        talker: holds the code predictor.
        tables: the embeddings of the codes.
        before: the talker's hidden state at the position before each frame, (f, d).
        codes: the frames, (f, k).
    """
    predictor = talker.code_predictor
    read = torch.cat([before[:, None], tables(codes[:, :-1])], dim=1)
    states = predictor.model(
        inputs_embeds=predictor.small_to_mtp_projection(read), use_cache=False, **CAUSAL
    ).last_hidden_state
    losses = [
        nn.functional.cross_entropy(head(states[:, i]).float(), codes[:, i], reduction="none")
        for i, head in enumerate(predictor.lm_head, start=1)
    ]
    return torch.stack(losses).sum(dim=0)


def loss_sums(
    talker: Any,  # noqa: ANN401 (the package's own)
    tables: CodeTables,
    pad_id: int,
    batches: Sequence[Batch],
    share: RowShare,
) -> list[Tensor]:
    """Each batch's loss, summed over its targets, in one pass of the talker and one of the code
    predictor. The two see the batches' rows in different proportions."""
    segments = Segments([batch["attention_mask"] for batch in batches])
    embedded = [embed(talker, tables, pad_id, batch) for batch in batches]
    with share(segments.sizes):
        hidden = hidden_states(talker, embedded, segments)
    pairs = list(zip(batches, hidden, strict=True))
    sums = [codebook_0_losses(talker, states, batch).sum() for batch, states in pairs]
    counts = [len(batch["scored"]) for batch in batches]
    if not sum(counts):
        return sums
    before = torch.cat([states[batch["scored_from"]] for batch, states in pairs])
    codes = torch.cat([batch["codes"][batch["scored"]] for batch in batches])
    with share(counts):
        losses = acoustic_losses(talker, tables, before, codes)
    weighted = losses * torch.cat([batch["scored_weight"] for batch in batches])
    parts = torch.split(weighted, counts)
    return [loss + part.sum() for loss, part in zip(sums, parts, strict=True)]


CHECKED_CLIPS = 8
"""Clips that :func:`check_fit` needs: each has a hundred targets or so."""
_WELL_BELOW = 0.8
"""The largest ratio of the two that passes; 0.55 was read on real weights."""


@torch.no_grad()
def check_fit(model: nn.Module, tables: CodeTables, pad_id: int, batches: Sequence[Batch]) -> None:
    """See that the base predicts codebook 0 of ``batches``, one clip each, in this layout.

    A base that was trained on it predicts the next code much better than the one after: the real
    0.6B base has 6.05 and 11.03 nats (issue 371 of the package); after the official fine-tuning,
    which trains on the code after the next, 6.29 and 1.87.

    Raises:
        ValueError: the clips do not fit the base.
    """
    next_code, after_next = 0.0, 0.0
    for batch in batches:

        def work(talker: nn.Module, batch: Batch = batch) -> list[Tensor]:
            embedded = embed(talker, tables, pad_id, batch)
            segments = Segments([batch["attention_mask"]])
            (hidden,) = hidden_states(talker, [embedded], segments)
            later = {**batch, "target_at": batch["target_at"] - 1}
            return [codebook_0_losses(talker, hidden, b).sum() for b in (batch, later)]

        losses: list[Tensor] = model(work)
        next_code += losses[0].item()
        after_next += losses[1].item()
    if next_code > _WELL_BELOW * after_next:
        targets = sum(len(batch["target"]) for batch in batches)
        raise ValueError(
            "the untouched base must predict the next code of the clips well: its cross-entropy "
            f"must be at most {_WELL_BELOW:.0%} of that for the code after the next, got "
            f"{next_code / targets:.2f} against {after_next / targets:.2f}. Texts that are not "
            "what is said, another speech tokenizer, weights that were never trained or were "
            "fine-tuned with shifted labels all look so"
        )
