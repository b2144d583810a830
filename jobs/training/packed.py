"""Several adapters on the rows of one linear layer, each with its own rank, strength and dropout.

Notation: t rows of all adapters together, n rows of one, i input and o output features, r rank.

For its rows every adapter adds ``dropout(x) A^T B^T * scale`` to what the frozen layer gives. The
base weight is used once for all rows; an adapter's products are taken over its own rows alone, so
that they are those of the adapter by itself, to the last bit where a matrix product does not depend
on how many rows it has beside them. The operations and their order are PEFT's.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jobs.training.packing import AdapterUse


class Part(NamedTuple):
    """One adapter's rows in one layer."""

    start: int
    stop: int
    scale: float
    """lora_scale * alpha / rank."""
    keep: float
    """The share of inputs that dropout keeps; 1 is no dropout."""
    dropout: torch.Generator | None


class Rows:
    """The owners of the rows of the current forward pass; shared by all layers of a model."""

    def __init__(self) -> None:
        self._owners: tuple[AdapterUse, ...] = ()
        self._counts: tuple[int, ...] = ()
        self._split: dict[int, list[tuple[AdapterUse, int, int]]] = {}
        """A cache by the number of rows, for the layers of one pass."""

    @contextmanager
    def owned_by(self, owners: Sequence[AdapterUse]) -> Iterator[None]:
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
            self._split.clear()

    def contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """For a part of the pass that begins here, and for computing that part again later.

        The second one sets the owners, their shares and the positions of their dropout's streams
        as they are now, and puts back what it found.
        """
        streams = [owner.dropout for owner in self._owners if owner.dropout is not None]
        states = [stream.get_state() for stream in streams]
        return nullcontext(), self._again(self._owners, self._counts, streams, states)

    @contextmanager
    def _again(
        self,
        owners: tuple[AdapterUse, ...],
        counts: tuple[int, ...],
        streams: Sequence[torch.Generator],
        states: Sequence[Tensor],
    ) -> Iterator[None]:
        found = self._owners, self._counts, [stream.get_state() for stream in streams]
        self._owners, self._counts = owners, counts
        self._split.clear()
        for stream, state in zip(streams, states, strict=True):
            stream.set_state(state)
        try:
            yield
        finally:
            self._owners, self._counts, after = found
            self._split.clear()
            for stream, state in zip(streams, after, strict=True):
                stream.set_state(state)

    def split(self, rows: int) -> list[tuple[AdapterUse, int, int]]:
        """Each owner with its first row and the one after its last, of ``rows`` in all.

        Neighbours of one owner are taken together; an owner without rows is left out.

        Raises:
            ValueError: the rows cannot be shared out.
        """
        if not self._owners:
            return []
        if rows in self._split:
            return self._split[rows]
        total = sum(self._counts)
        if len(self._counts) != len(self._owners) or not total or rows % total:
            raise ValueError(
                f"{rows} rows cannot be shared out as {self._counts} among {len(self._owners)}"
            )
        found: list[tuple[AdapterUse, int, int]] = []
        stop = 0
        for owner, shares in groupby(
            zip(self._owners, self._counts, strict=True), key=itemgetter(0)
        ):
            start, stop = stop, stop + sum(count for _, count in shares) * (rows // total)
            if start < stop:
                found.append((owner, start, stop))
        self._split[rows] = found
        return found


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
        rows = x.to(added.dtype)
        mask = _mask(parts, rows)
        dropped = rows if mask is None else rows * mask
        hidden = []
        for part, a, b in zip(parts, weights[::2], weights[1::2], strict=True):
            hidden.append(dropped[part.start : part.stop] @ a.t())
            torch.mm(hidden[-1], b.t(), out=added[part.start : part.stop])
        ctx.parts = parts
        ctx.covered = covered
        ctx.save_for_backward(x, mask, *weights, *hidden)
        return _scaled(added, parts, out=added).add_(result).to(result.dtype)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401 (as above)
        gradient: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """(t, o) to the gradients of forward's arguments."""
        count = len(ctx.parts)
        x, mask, *saved = ctx.saved_tensors
        weights, hidden = saved[: 2 * count], saved[2 * count :]
        dtype = weights[0].dtype
        rows = x.to(dtype)
        dropped = rows if mask is None else rows * mask
        scaled = _scaled(gradient.to(dtype), ctx.parts)
        x_gradient = None
        if ctx.needs_input_grad[1]:
            x_gradient = torch.empty_like(rows) if ctx.covered else torch.zeros_like(rows)
        found: list[Tensor | None] = []
        for part, a, b, h in zip(ctx.parts, weights[::2], weights[1::2], hidden, strict=True):
            own = scaled[part.start : part.stop]
            h_gradient = own @ b
            found += [h_gradient.t() @ dropped[part.start : part.stop], own.t() @ h]
            if x_gradient is not None:
                torch.mm(h_gradient, a, out=x_gradient[part.start : part.stop])
        if x_gradient is not None:
            x_gradient = (x_gradient if mask is None else x_gradient.mul_(mask)).to(x.dtype)
        return gradient, x_gradient, None, *found


def _mask(parts: Sequence[Part], rows: Tensor) -> Tensor | None:
    """Dropout's mask (t, i): 0, or 1 / keep. None where nothing is dropped.

    As torch's own dropout draws it on a CPU.
    """
    if all(part.dropout is None or part.keep == 1.0 for part in parts):
        return None
    drops = [part for part in parts if part.dropout is not None]
    covered = sum(part.stop - part.start for part in drops) == len(rows)
    mask = torch.empty_like(rows) if covered else torch.ones_like(rows)
    for part in drops:
        mask[part.start : part.stop].bernoulli_(part.keep, generator=part.dropout)
    keeps = {part.keep for part in drops}
    if covered and len(keeps) == 1:
        return mask.div_(keeps.pop())
    for part in drops:
        mask[part.start : part.stop].div_(part.keep)
    return mask


def _scaled(tensor: Tensor, parts: Sequence[Part], out: Tensor | None = None) -> Tensor:
    """Each part's rows times its scale, in ``out``; rows of no part are left undefined."""
    scales = {part.scale for part in parts}
    if len(scales) == 1:
        return torch.mul(tensor, scales.pop(), out=out)
    out = torch.empty_like(tensor) if out is None else out
    for part in parts:
        rows = slice(part.start, part.stop)
        torch.mul(tensor[rows], part.scale, out=out[rows])
    return out
