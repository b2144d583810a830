"""Picking the next token of every row, each row from its own random stream."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from jobs.spec import DecodingSpec


class Sampler:
    """Greedy at temperature 0, else top-k sampling.

    A row's draws depend on the seed and the row's name alone, so a prompt says the same whichever
    others share its batch.
    """

    def __init__(self, decoding: DecodingSpec, names: Sequence[str]) -> None:
        self._decoding = decoding
        self._generators = [_generator(decoding.seed, name) for name in names]

    def pick(self, logits: Tensor) -> Tensor:
        """The next token of each row: ``logits`` (b, v) to ids (b,)."""
        if self._decoding.temperature == 0:
            return logits.argmax(dim=-1)
        likeliest = logits.topk(min(self._decoding.top_k, logits.shape[-1]), dim=-1)
        scores = likeliest.values / self._decoding.temperature + self._noise(likeliest.values)
        return likeliest.indices.gather(-1, scores.argmax(dim=-1, keepdim=True))[:, 0]

    def _noise(self, like: Tensor) -> Tensor:
        """Gumbel noise: the argmax of logits plus it is a draw from their softmax."""
        rows = [torch.rand(like.shape[-1], generator=g) for g in self._generators]
        uniform = torch.stack(rows).clamp(min=torch.finfo(torch.float32).tiny)
        return -(-uniform.log()).log().to(like.device)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
