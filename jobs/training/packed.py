"""Several adapters on the rows of one linear layer, each with its own rank, strength and dropout.

Notation: t rows of all adapters together, n rows of one, i input and o output features, r rank.

For its rows every adapter adds ``dropout(x) A^T B^T * scale`` to what the frozen layer gives. The
base weight is used once for all rows; an adapter's products are taken over its own rows alone, so
that they are those of the adapter by itself, to the last bit where a matrix product does not depend
on how many rows it has beside them. The operations and their order are PEFT's.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Owner:
    """Whose rows they are, and how they are treated."""

    slot: str | None
    """None is the base: nothing is added."""
    lora_scale: float = 1.0
    dropout: torch.Generator | None = None
    """Where dropout draws from; None is no dropout."""


@dataclass(frozen=True)
class Part:
    """One adapter's rows in one layer."""

    start: int
    stop: int
    scale: float
    """lora_scale * alpha / rank."""
    keep: float
    """The share of inputs that dropout keeps; 1 is no dropout."""
    dropout: torch.Generator | None


class Rows:
    """Which rows of the forward pass under way are whose; one for all layers of a model."""

    def __init__(self) -> None:
        self._owners: tuple[Owner, ...] = ()
        self._counts: tuple[int, ...] = ()

    @contextmanager
    def owned_by(self, owners: Sequence[Owner]) -> Iterator[None]:
        """For the block, rows belong to these owners, in the shares that :meth:`share` gives."""
        self._owners = tuple(owners)
        try:
            yield
        finally:
            self._owners = ()

    @contextmanager
    def share(self, counts: Sequence[int]) -> Iterator[None]:
        """See :data:`jobs.families.base.RowShare`; one count an owner."""
        self._counts = tuple(counts)
        try:
            yield
        finally:
            self._counts = ()

    def split(self, rows: int) -> Iterator[tuple[Owner, int, int]]:
        """Each owner with its first row and the one after its last, of ``rows`` in all.

        Raises:
            ValueError: the rows cannot be shared out.
        """
        total = sum(self._counts)
        if not self._owners:
            return
        if len(self._counts) != len(self._owners) or not total or rows % total:
            raise ValueError(
                f"{rows} rows cannot be shared out as {self._counts} among {len(self._owners)}"
            )
        start = 0
        for owner, count in zip(self._owners, self._counts, strict=True):
            stop = start + count * (rows // total)
            yield owner, start, stop
            start = stop


def add_adapters(
    result: Tensor, x: Tensor, parts: Sequence[Part], weights: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """What a linear layer gives with adapters on some of its rows.

    Args:
        result: what the frozen layer gives, (..., o).
        x: its input, (..., i).
        parts: the rows of each adapter, in order, none in two.
        weights: A (r, i) and B (o, r) of each adapter.

    Returns:
        As ``result`` in shape and dtype.
    """
    flat = [tensor for pair in weights for tensor in pair]
    summed: Tensor = _AddAdapters.apply(  # type: ignore[no-untyped-call]
        result.flatten(0, -2), x.flatten(0, -2), parts, *flat
    )
    return summed.view(result.shape)


class _AddAdapters(torch.autograd.Function):
    """One node for all adapters of a layer. The input's gradient leaves it apart from that of the
    frozen layer, so that autograd adds the two up in the order in which it does so for PEFT."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch has no type for what is put on it)
        result: Tensor,
        x: Tensor,
        parts: Sequence[Part],
        *weights: Tensor,
    ) -> Tensor:
        """(t, o) and (t, i) to (t, o)."""
        covered = sum(part.stop - part.start for part in parts) == len(result)
        make = torch.empty if covered else torch.zeros
        added = make(result.shape, dtype=weights[0].dtype, device=result.device)
        masks, hidden = [], []
        for part, a, b in zip(parts, weights[::2], weights[1::2], strict=True):
            rows = x[part.start : part.stop].to(a.dtype)
            mask = _draw(part, rows)
            hidden.append((rows if mask is None else rows * mask) @ a.t())
            masks.append(mask)
            own = added[part.start : part.stop]
            torch.mm(hidden[-1], b.t(), out=own)
            own.mul_(part.scale)
        ctx.parts = parts
        ctx.covered = covered
        ctx.save_for_backward(x, *weights, *hidden, *masks)
        return added.add_(result).to(result.dtype)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 (as above)
        gradient: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """(t, o) to the gradients of forward's arguments."""
        count = len(ctx.parts)
        x, *saved = ctx.saved_tensors
        weights, hidden, masks = saved[: 2 * count], saved[2 * count : -count], saved[-count:]
        x_gradient = None
        if ctx.needs_input_grad[1]:
            x_gradient = torch.empty_like(x) if ctx.covered else torch.zeros_like(x)
        found: list[Tensor | None] = []
        for part, a, b, h, mask in zip(
            ctx.parts, weights[::2], weights[1::2], hidden, masks, strict=True
        ):
            own = gradient[part.start : part.stop].to(a.dtype) * part.scale
            rows = x[part.start : part.stop].to(a.dtype)
            h_gradient = own @ b
            found += [h_gradient.t() @ (rows if mask is None else rows * mask), own.t() @ h]
            if x_gradient is not None:
                rows_gradient = h_gradient @ a
                x_gradient[part.start : part.stop] = (
                    rows_gradient if mask is None else rows_gradient.mul_(mask)
                )
        return gradient, x_gradient, None, *found


def _draw(part: Part, rows: Tensor) -> Tensor | None:
    """Dropout's mask (n, i): 0, or 1 / keep. As torch's own dropout draws it."""
    if part.dropout is None or part.keep == 1.0:
        return None
    return torch.empty_like(rows).bernoulli_(part.keep, generator=part.dropout).div_(part.keep)
