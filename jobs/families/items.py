"""Losses of examples one by one, which the answers to text items are."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice

import torch
from torch import nn

from jobs.clips import ItemAnswer
from jobs.families.base import FrozenBase, RowShare, TextBase, unshared
from jobs.families.layout import Example
from jobs.spec.items import TextItem

Owned = Callable[[int], AbstractContextManager[None]]
"""Tells the adapters whose so many batches of a pass are."""

_PASS_TOKENS = 1024
"""Of a pass; more gains nothing on a CPU, and the logits take memory."""


def unowned(batches: int) -> AbstractContextManager[None]:
    """The :data:`Owned` of a model that carries no adapters."""
    return nullcontext()


@torch.no_grad()
def example_losses(
    base: FrozenBase,
    model: nn.Module,
    examples: Sequence[Example],
    share: RowShare = unshared,
    owned: Owned = unowned,
) -> list[tuple[float, ...]]:
    """Of each example, the loss summed over its targets, by its parts.

    An example is a batch of its own, without padding, and the passes are the same for every
    adapter: the value depends on no batch size and no neighbour. Not in inference mode: what ZeRO
    stage 3 gathers in it is of no use to the next epoch.
    """
    sums: list[tuple[float, ...]] = []
    for together in _in_passes(examples):
        batches = [base.collate([example]) for example in together]
        with owned(len(batches)):
            losses = base.loss_sums(model, batches, share)
        sums += map(tuple, torch.stack([loss.reshape(-1) for loss in losses]).tolist())
    return sums


def answer_items(
    base: FrozenBase,
    model: nn.Module,
    items: Sequence[TextItem],
    share: RowShare = unshared,
    owned: Owned = unowned,
) -> list[ItemAnswer]:
    """What one adapter, or the base alone, makes of text items.

    Raises:
        TypeError: the base is none that reads text items; a sweep's spec is refused before.
    """
    if not isinstance(base, TextBase):
        raise TypeError(f"a base that answers text items has text_example, got {type(base)}")
    pairs = [pair for item in items for pair in item.continuations]
    losses = example_losses(base, model, [base.text_example(*pair) for pair in pairs], share, owned)
    found = iter(-sum(parts) for parts in losses)
    return [ItemAnswer(item, tuple(islice(found, len(item.continuations)))) for item in items]


def _in_passes(examples: Sequence[Example]) -> list[list[Example]]:
    """In order, as many to a pass as its tokens allow, and at least one."""
    passes: list[list[Example]] = []
    room = 0
    for example in examples:
        if not passes or len(example) > room:
            passes.append([])
            room = _PASS_TOKENS
        passes[-1].append(example)
        room -= len(example)
    return passes
