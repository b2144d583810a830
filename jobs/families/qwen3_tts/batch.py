"""Utterances as the tensors that one forward pass reads.

Notation: b utterances, s positions of the longest, n of all prompts together, F frames, k
codebooks, t targets of codebook 0, f frames whose other codebooks are scored. A position of the
batch is a number from 0 to b * s - 1, row by row.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from jobs.families.base import Batch, LossTerms
from jobs.families.qwen3_tts.layout import NOTHING, SpeechExample, Utterance


def pad_utterances(
    utterances: Sequence[Utterance], device: torch.device, *, left: bool = False
) -> Batch:
    """What the talker reads: prompts and frames, padded on the right, or on the ``left``.

    ``attention_mask`` (b, s); ``text``, ``text_at`` (n,); ``codec``, ``codec_at`` (<= n,);
    ``speaker`` (b, hidden), ``speaker_at`` (b,); ``codes`` (F, k), ``frame_at`` (F,): ids, vectors
    and where each goes. The text channel of a frame is always tts_pad, and is not listed.
    """
    lengths = [len(u.prompt.text_ids) + len(u.codes) for u in utterances]
    longest = max(lengths)
    mask = torch.zeros(len(utterances), longest, dtype=torch.long)
    starts = []
    for row, length in enumerate(lengths):
        first = longest - length if left else 0
        mask[row, first : first + length] = 1
        starts.append(row * longest + first)
    text: list[int] = []
    text_at: list[int] = []
    codec: list[int] = []
    codec_at: list[int] = []
    frame_at: list[int] = []
    for start, utterance in zip(starts, utterances, strict=True):
        prompt = utterance.prompt
        size = len(prompt.text_ids)
        text += prompt.text_ids
        text_at += range(start, start + size)
        for position, token in enumerate(prompt.codec_ids, start):
            if token != NOTHING:
                codec.append(token)
                codec_at.append(position)
        frame_at += range(start + size, start + size + len(utterance.codes))
    places = zip(starts, utterances, strict=True)
    batch = {
        "attention_mask": mask,
        "text": torch.tensor(text),
        "text_at": torch.tensor(text_at),
        "codec": torch.tensor(codec),
        "codec_at": torch.tensor(codec_at),
        "speaker": torch.stack([u.speaker for u in utterances]),
        "speaker_at": torch.tensor([start + u.prompt.speaker_at for start, u in places]),
        "codes": torch.from_numpy(np.concatenate([u.codes for u in utterances])).long(),
        "frame_at": torch.tensor(frame_at, dtype=torch.long),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


def collate(examples: Sequence[SpeechExample], terms: LossTerms, device: torch.device) -> Batch:
    """What :func:`pad_utterances` gives, and what is predicted from where.

    ``target_at``, ``target`` (t,): the hidden state at the position before a label predicts it, the
    end of speech included. ``scored`` (f,): numbers of the frames, of 0 to F - 1, whose codebooks 1
    to k - 1 are predicted; ``scored_from`` (f,): the position before each; ``scored_weight`` (f,).

    The end of speech itself is never read: nothing is predicted from it.
    """
    batch = dict(pad_utterances([example.utterance for example in examples], device))
    longest = batch["attention_mask"].shape[1]
    target_at: list[int] = []
    target: list[int] = []
    scored: list[Tensor] = []
    weight: list[float] = []
    frames = 0
    for row, example in enumerate(examples):
        count = len(example.utterance.codes)
        first = row * longest + len(example.utterance.prompt.text_ids) - 1
        target_at += range(first, first + count + 1)
        target += example.labels[-(count + 1) :]
        drawn = _drawn(count, terms, device)
        scored.append(frames + drawn)
        weight += [_weight(example, len(drawn), terms)] * len(drawn)
        frames += count
    chosen = torch.cat(scored)
    return batch | {
        "target_at": torch.tensor(target_at, device=device),
        "target": torch.tensor(target, device=device),
        "scored": chosen,
        "scored_from": batch["frame_at"][chosen] - 1,
        "scored_weight": torch.tensor(weight, dtype=torch.float32, device=device),
    }


def _drawn(count: int, terms: LossTerms, device: torch.device) -> Tensor:
    """Which of a clip's frames are scored, in order; all clips draw, so that streams stay alike."""
    if terms.acoustic_weight == 0:
        return torch.zeros(0, dtype=torch.long, device=device)
    kept = max(1, round(terms.acoustic_share * count))
    if kept == count:
        return torch.arange(count, device=device)
    order = torch.rand(count, generator=terms.draw, device=device).argsort()
    return order[:kept].sort().values


def _weight(example: SpeechExample, drawn: int, terms: LossTerms) -> float:
    """Of one frame's summed loss, so that a clip's sum over its targets is L0 + weight * L1.

    L0 is the mean over the N + 1 targets of codebook 0, L1 that over the codes of the other
    codebooks, estimated from the frames that were drawn. Loss sums are divided by the number of
    targets of codebook 0, over however many clips: hence N + 1 here.
    """
    codes = example.utterance.codes
    others = int(codes.shape[1]) - 1
    return terms.acoustic_weight * (len(codes) + 1) / (others * max(drawn, 1))
