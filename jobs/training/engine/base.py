"""The protocol of a training engine: one replicates the base on all ranks, one partitions it."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from jobs.spec.trial import TrainingSpec
from jobs.training.token_rows import DELTA

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state per parameter, beside the step count that all parameters share."""

Parameters = Mapping[str, nn.Parameter]
"""A slot's, by name."""


class MicroStep(NamedTuple):
    """The part of one micro-batch in its slot's optimiser step."""

    learning_rate: float
    last: bool
    """Whether it completes the step."""


_RATIO = "loraplus_lr_ratio"
"""The key of a parameter group with what multiplies its learning rate."""


def adamw(parameters: Parameters, training: TrainingSpec) -> torch.optim.AdamW:
    """A slot's optimiser. Fused is one pass over the memory, where the default makes ten.

    Under LoRA+ the B of every layer are a group with a learning rate of their own. Trained rows do
    not decay: they are values, which begin as the base's, and not differences that begin at 0.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in parameters.items():
        ratio = training.loraplus_lr_ratio if "lora_B" in name else 1.0
        decay = 0.0 if DELTA in name else training.weight_decay
        group = {"params": [], _RATIO: ratio, "weight_decay": decay}
        groups.setdefault((ratio, decay), group)["params"].append(parameter)
    return torch.optim.AdamW(
        list(groups.values()),
        lr=training.learning_rate,
        betas=training.betas,
        fused=True,
    )


def initial_state(parameter: Tensor) -> dict[str, Tensor]:
    """AdamW's state of a parameter before its first step, which would make it."""
    return {
        "step": torch.tensor(0.0, device=parameter.device),
        **{key: torch.zeros_like(parameter) for key in MOMENTS},
    }


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step of an optimiser that :func:`adamw` made."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group[_RATIO]


class Engine(Protocol):
    """Trains the adapters of slots; every rank calls every method."""

    @property
    def model(self) -> nn.Module:
        """The module to call for a forward pass."""

    def open(self, slot: str, parameters: Parameters, training: TrainingSpec) -> None:
        """Make an optimiser for a slot, with all the memory that its steps take."""

    def close(self, slot: str) -> None:
        """Free what the engine holds for a slot; its parameters stay as they are, in full."""

    def backward(self, loss: Tensor, steps: Mapping[str, MicroStep]) -> None:
        """Compute the gradients of a forward pass over the slots of ``steps``.

        ``loss`` is this rank's share of the sum of the slots' losses: shares add up over
        micro-batches and ranks, where DeepSpeed would take the mean over ranks.
        """

    def drop_gradients(self) -> bool:
        """Drop what a failed forward or backward pass left; whether the pass can be made again."""

    def step(self, steps: Mapping[str, MicroStep]) -> dict[str, Exception]:
        """Accumulate the gradients of the slots of ``steps``; step those whose step is complete.

        Returns:
            The slots that failed, each by itself: their weights are undefined, and the other slots
            have moved.

        Raises:
            Exception: which slots have moved is not known.
        """

    def weights(self, slot: str) -> dict[str, Tensor]:
        """Every parameter in full, fp32, on the CPU."""

    def moments(self, slot: str) -> dict[str, Tensor]:
        """AdamW's state in full, fp32, on the CPU: ``exp_avg/NAME`` and ``exp_avg_sq/NAME``."""

    def load_moments(self, slot: str, moments: Mapping[str, Tensor], steps: int) -> None:
        """Restore what :meth:`moments` gave, after this many optimiser steps."""
