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

from jobs.families.base import Batch, RowShare
from jobs.families.qwen3_tts.model import CodeTables
from jobs.families.qwen3_tts.objective import CAUSAL, embed, project
from jobs.families.sampling import Sampler, voice_sizes

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
    voices: int,
    share: RowShare,
) -> list[GeneratedCodes]:
    """Generate what follows each of ``prompts``, which ``batch.pad_utterances`` padded on the left.

    An utterance leaves the batch when it has ended.

    Args:
        talker: with whatever adapters own its rows.
        tables: the embeddings of the codes.
        pad_id: tts_pad, the text channel of a frame.
        prompts: no frames among them.
        caps: frames of each at most.
        sampler: a random stream for each.
        voices: of which each has as many of ``prompts`` as the others, one voice after another.
        share: tells the adapters which rows are whose.
    """
    end = talker.config.codec_eos_token_id
    size = talker.config.vocab_size
    ids = torch.arange(size, device=prompts["text"].device)
    forbidden = (ids >= size - _CONTROL_IDS) & (ids != end)
    pad = project(talker, prompts["text"].new_tensor([pad_id]))
    mask, cache = prompts["attention_mask"], DynamicCache()
    read = embed(talker, tables, pad_id, prompts)
    rows = list(range(len(caps)))
    """Those that are still spoken."""
    frames: list[list[Tensor]] = [[] for _ in rows]
    reached_end = [False for _ in rows]
    made = 0
    while True:
        # Padding is on the left, so a row's positions start where its prompt does.
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -read.shape[1] :]
        with share(voice_sizes(rows, len(caps), voices)):
            hidden = talker.model(
                inputs_embeds=read,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
        logits = talker.codec_head(hidden).float().masked_fill(forbidden, -torch.inf)
        if made < _MIN_FRAMES:
            logits[:, end] = -torch.inf
        first = sampler.pick(logits)
        going = []
        for at, (row, token) in enumerate(zip(rows, first.tolist(), strict=True)):
            reached_end[row] = token == end
            if token != end and made < caps[row]:
                going.append(at)
        if not going:
            return [
                GeneratedCodes(torch.stack(codes), ended)
                for codes, ended in zip(frames, reached_end, strict=True)
            ]
        if len(going) < len(rows):
            rows = [rows[at] for at in going]
            kept = torch.tensor(going, device=mask.device)
            hidden, first, mask = hidden[kept], first[kept], mask[kept]
            cache.batch_select_indices(kept)
            sampler.keep(going)
        with share(voice_sizes(rows, len(caps), voices)):
            codes = predict_codes(talker, tables, hidden, first, sampler)
        for row, frame in zip(rows, codes.cpu(), strict=True):
            frames[row].append(frame)
        made += 1
        read = (tables(codes).sum(dim=1) + pad)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)


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
