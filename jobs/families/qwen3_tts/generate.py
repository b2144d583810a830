"""Speaking: frame by frame, all prompts of all voices in one batch.

The package has Hugging Face's ``generate`` run once a frame for the 15 codes of the code predictor;
here the predictor is called directly, which picks the same codes in less time. What a frame is
picked from is otherwise the package's: no end in the first frames, no control ids.

Notation: b utterances, s positions of the longest prompt, v vocabulary of the talker, k codebooks,
d the talker's hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from jobs.families.base import Batch
from jobs.families.qwen3_tts.model import CodeTables
from jobs.families.qwen3_tts.objective import CAUSAL, embed, project
from jobs.families.sampling import Sampler

_MIN_FRAMES = 2
"""The package's ``min_new_tokens``."""
_CONTROL_IDS = 1024
"""The last ids of the talker's vocabulary name no code; the package never picks one but the end."""


@dataclass(frozen=True)
class GeneratedCodes:
    """What was generated for one prompt."""

    codes: Tensor
    """(N, k), on the CPU."""
    reached_end: bool
    """False where the cap came first."""


@torch.no_grad()  # inference mode would spoil the weights that ZeRO stage 3 gathers
def generate(
    talker: Any,  # noqa: ANN401 (the package's own)
    tables: CodeTables,
    pad_id: int,
    prompts: Batch,
    caps: Sequence[int],
    sampler: Sampler,
) -> list[GeneratedCodes]:
    """Generate what follows each of ``prompts``, which ``batch.pad_utterances`` padded on the left.

    Args:
        talker: with whatever adapters own its rows.
        tables: the embeddings of the codes.
        pad_id: tts_pad, the text channel of a frame.
        prompts: no frames among them.
        caps: frames of each at most.
        sampler: a random stream for each.
    """
    end = talker.config.codec_eos_token_id
    size = talker.config.vocab_size
    ids = torch.arange(size, device=prompts["text"].device)
    forbidden = (ids >= size - _CONTROL_IDS) & (ids != end)
    pad = project(talker, prompts["text"].new_tensor([pad_id]))
    mask, cache = prompts["attention_mask"], DynamicCache()
    read = embed(talker, tables, pad_id, prompts)
    frames: list[Tensor] = []
    lengths: dict[int, int] = {}
    reached_end: set[int] = set()
    while True:
        # Padding is on the left, so a row's positions start where its prompt does.
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -read.shape[1] :]
        hidden = talker.model(
            inputs_embeds=read,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        logits = talker.codec_head(hidden).float().masked_fill(forbidden, -torch.inf)
        if len(frames) < _MIN_FRAMES:
            logits[:, end] = -torch.inf
        first = sampler.pick(logits)
        for row, (token, cap) in enumerate(zip(first.tolist(), caps, strict=True)):
            if row not in lengths and (token == end or len(frames) >= cap):
                lengths[row] = len(frames)
                reached_end |= {row} if token == end else set()
        if len(lengths) == len(caps):
            break
        codes = predict_codes(talker, tables, hidden, first, sampler)
        frames.append(codes.cpu())
        read = (frame_vectors(talker, tables, codes).sum(dim=1) + pad)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    made = torch.stack(frames, dim=1)
    return [
        GeneratedCodes(made[row, : lengths[row]], row in reached_end) for row in range(len(caps))
    ]


def predict_codes(
    talker: Any,  # noqa: ANN401 (the package's own)
    tables: CodeTables,
    before: Tensor,
    first: Tensor,
    sampler: Sampler,
) -> Tensor:
    """A frame's codes (b, k), ``first`` (b,) being that of codebook 0.

    ``before`` (b, d) is the talker's hidden state before the frame.
    """
    predictor, cache = talker.code_predictor, DynamicCache()
    codes = [first]
    read = torch.stack([before, talker.get_input_embeddings()(first)], dim=1)
    for book, head in enumerate(predictor.lm_head, start=1):
        states = predictor.model(
            inputs_embeds=predictor.small_to_mtp_projection(read),
            past_key_values=cache,
            use_cache=True,
            **CAUSAL,
        ).last_hidden_state
        codes.append(sampler.draw(head(states[:, -1]).float()))
        read = tables(codes[-1][:, None], first=book)
    return torch.stack(codes, dim=1)


def frame_vectors(talker: Any, tables: CodeTables, codes: Tensor) -> Tensor:  # noqa: ANN401
    """The vectors of a frame's ``codes`` (b, k), (b, k, d).

    Codebook 0 has the talker's own table: a row that has ended may hold the end of speech there.
    """
    own = talker.get_input_embeddings()(codes[:, :1])
    return torch.cat([own, tables(codes[:, 1:], first=1)], dim=1)
