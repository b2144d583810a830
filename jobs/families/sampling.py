"""Picking the next token of every row, each row from its own random stream."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from jobs.spec.trial import DecodingSpec


class Sampler:
    """Greedy at temperature 0, else top-k and top-p sampling.

    A row's draws depend on the seed and the row's name alone, so a prompt says the same whichever
    others share its batch.
    """

    def __init__(self, decoding: DecodingSpec, names: Sequence[str]) -> None:
        self._decoding = decoding
        self._generators = [row_generator(decoding.seed, name) for name in names]
        self._picked: Tensor | None = None
        """(b, v), which tokens :meth:`pick` gave each row."""

    def pick(self, logits: Tensor) -> Tensor:
        """The next token of each row: ``logits`` (b, v) to ids (b,).

        What a row was given here before is penalised, if the decoding says so.
        """
        penalty = self._decoding.repetition_penalty
        if penalty == 1.0:
            return self.draw(logits)
        if self._picked is None:
            self._picked = torch.zeros_like(logits, dtype=torch.bool)
        less = torch.where(logits < 0, logits * penalty, logits / penalty)
        chosen = self.draw(torch.where(self._picked, less, logits))
        self._picked[torch.arange(len(chosen), device=chosen.device), chosen] = True
        return chosen

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order; their draws stay what they were."""
        self._generators = [self._generators[row] for row in rows]
        if self._picked is not None:
            self._picked = self._picked[torch.tensor(rows, device=self._picked.device)]

    def draw(self, logits: Tensor) -> Tensor:
        """As :meth:`pick`, without a memory of what was picked."""
        if self._decoding.temperature == 0:
            return logits.argmax(dim=-1)
        likeliest = logits.topk(min(self._decoding.top_k, logits.shape[-1]), dim=-1)
        scores = likeliest.values / self._decoding.temperature
        if self._decoding.top_p < 1:
            chances = scores.softmax(dim=-1)
            before = chances.cumsum(dim=-1) - chances
            scores = scores.masked_fill(before >= self._decoding.top_p, -torch.inf)
        scores = scores + self._noise(likeliest.values)
        return likeliest.indices.gather(-1, scores.argmax(dim=-1, keepdim=True))[:, 0]

    def _noise(self, like: Tensor) -> Tensor:
        """Gumbel noise: the argmax of logits plus it is a draw from their softmax."""
        rows = [torch.rand(like.shape[-1], generator=g) for g in self._generators]
        uniform = torch.stack(rows).clamp(min=torch.finfo(torch.float32).tiny)
        return -(-uniform.log()).log().to(like.device)


def voice_sizes(rows: Sequence[int], of: int, voices: int) -> list[int]:
    """How many of ``rows``, numbers below ``of``, are each voice's; all voices have as many.

    >>> voice_sizes([0, 3, 4, 5], of=6, voices=2)
    [1, 3]
    """
    counts = Counter(row * voices // of for row in rows)
    return [counts[voice] for voice in range(voices)]


def capped(tokens: int, decoding: DecodingSpec) -> int:
    """The family's own limit, or the decoding's where that is less."""
    return tokens if decoding.max_tokens is None else min(tokens, decoding.max_tokens)


def row_generator(seed: int, name: str) -> torch.Generator:
    """The random stream of the prompt of this name, on the CPU."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
