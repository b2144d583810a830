"""Which layers ``training.targets`` and ``training.layers_to_transform`` mean. No torch in here.

A base's blocks are numbered from 0. The number of a layer's block is the first in its whole name:
``model.layers.3.mlp.up_proj`` is in block 3. A target whose layers are outside of all blocks means
them whichever blocks are named.
"""

import re
from collections.abc import Mapping, Sequence

from jobs.problems import nearest

_NUMBER = re.compile(r"\.(\d+)\.")

BLOCK_PARTS = {
    "attention": ("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj")),
    "mlp": ("mlp", ("gate_proj", "up_proj", "down_proj")),
}
"""The linear layers of a block of a Qwen or Llama decoder, in its order: module, then names."""

CODEC_LM_TARGETS = {
    name: rf"model\.layers\.\d+\.{module}\.{name}"
    for module, names in BLOCK_PARTS.values()
    for name in names
}
"""What ``training.targets`` may name in ``codec_lm``, with what whole names of layers match."""


def block_layers(stack: str, blocks: int) -> list[str]:
    """The whole names of the linear layers in the blocks of such a decoder named ``stack``."""
    return [
        f"{stack}.layers.{block}.{module}.{name}"
        for block in range(blocks)
        for module, names in BLOCK_PARTS.values()
        for name in names
    ]


def unknown_target(target: str, valid: Mapping[str, str]) -> tuple[str, str]:
    """What is wrong with a target that is not one of ``valid``, and the next step."""
    what = f"{target} is no layer that can be adapted (embeddings and heads stay frozen)"
    return what, nearest(target, valid, list_all=True)


def chosen_layers(
    targets: Sequence[str],
    blocks: Sequence[int] | None,
    patterns: Mapping[str, str],
    names: Sequence[str],
) -> list[str]:
    """Those of ``names`` that a training adapts, in their order.

    Args:
        targets: as ``training.targets``, each a key of ``patterns``.
        blocks: as ``training.layers_to_transform``; None is all.
        patterns: of each target, what the whole name of a layer matches.
        names: of all linear layers of a base.

    Raises:
        ValueError: a target means no layer, or a block has none; the message has all of these.
    """
    unknown = [". ".join(unknown_target(t, patterns)) for t in targets if t not in patterns]
    if unknown:
        raise ValueError(" ".join(unknown))
    meant = {
        target: [name for name in names if re.fullmatch(patterns[target], name)]
        for target in targets
    }
    problems = [f"this base has no {target}" for target in meant if not meant[target]]
    if blocks is not None:
        there = {
            target: {block for name in found if (block := _block(name)) is not None}
            for target, found in meant.items()
        }
        for block in dict.fromkeys(blocks):
            if not any(block in numbers for numbers in there.values()):
                every = set().union(*there.values())
                problems.append(f"the targets are in blocks {_span(every)}, not in {block}")
        for target, numbers in there.items():
            if numbers and numbers.isdisjoint(blocks):
                problems.append(f"{target} is in blocks {_span(numbers)}, not in {list(blocks)}")
    if problems:
        raise ValueError("; ".join(problems))
    chosen = {name for found in meant.values() for name in found}
    wanted = None if blocks is None else {*blocks, None}
    return [name for name in names if name in chosen and (wanted is None or _block(name) in wanted)]


def _block(name: str) -> int | None:
    """The number of the block that a layer is in; None for one outside of all blocks."""
    number = _NUMBER.search(name)
    return None if number is None else int(number[1])


def _span(numbers: set[int]) -> str:
    """The first and the last of consecutive block numbers."""
    return f"{min(numbers)} to {max(numbers)}" if numbers else "layers outside of blocks"
