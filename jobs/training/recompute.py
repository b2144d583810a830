"""Gradient checkpointing: a block keeps its input alone, and is computed again for its gradients.

It changes no bit: what is computed again has the inputs, the owners of rows and the dropout that it
had, and autograd adds gradients up in the same order.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from jobs.training.packed import Rows


def recompute_blocks(model: nn.Module, rows: Rows) -> None:
    """Let every block of ``model`` keep its input alone in passes that lead to gradients.

    Raises:
        ValueError: the model has no blocks that Hugging Face marks as ones that can do this.
    """
    blocks = [each for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]
    if not blocks:
        raise ValueError(
            "engine.gradient_checkpointing needs a model of Hugging Face's blocks "
            f"({GradientCheckpointingLayer.__name__}), and {type(model).__name__} has none; "
            "set it to false"
        )
    for block in blocks:
        block.forward = partial(_run, block.forward, rows)


def _run(
    forward: Callable[..., Tensor],
    rows: Rows,
    *args: Any,  # noqa: ANN401 (what the block takes)
    **kwargs: Any,  # noqa: ANN401 (as above)
) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # A frozen base draws nothing from torch's own generators.
    output: Tensor = checkpoint(
        forward,
        *args,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=rows.contexts,
        **kwargs,
    )
    return output
