"""ZeRO stage 0: the base is whole on every rank, and one DeepSpeed engine serves all slots."""

from collections.abc import Mapping

import deepspeed
import torch
from torch import Tensor, nn
from torch import distributed as dist

from jobs.spec.trial import TrainingSpec
from jobs.training.engine.base import (
    MOMENTS,
    MicroStep,
    Parameters,
    adamw,
    initial_state,
    set_learning_rate,
)

_CONFIG = {
    "train_micro_batch_size_per_gpu": 1,
    # Slots accumulate over numbers of micro-batches of their own; see _SlotOptimiser.
    "gradient_accumulation_steps": 1,
    # It is 1.0 when it is not written, over the parameters of all slots together.
    "gradient_clipping": 0.0,
    "zero_optimization": {"stage": 0},
    "steps_per_print": 10**9,
}


class ReplicatedEngine:
    """Any number of slots, each with its own AdamW, clipping and accumulation.

    Slots come and go while the engine stays: at stage 0 DeepSpeed looks the model's parameters up
    anew at every step.
    """

    def __init__(self, model: nn.Module) -> None:
        # DeepSpeed wants an optimiser with a parameter of the model before there is any slot.
        anchor = nn.Parameter(torch.zeros(1, device=next(model.parameters()).device))
        model.register_parameter("engine_anchor", anchor)
        self._slots = _SlotOptimisers(anchor)
        self.model, _, _, _ = deepspeed.initialize(
            model=model, optimizer=self._slots, config=_CONFIG
        )
        # DeepSpeed's own looks for gradients in every module; they are in the slots' parameters.
        self.model.zero_grad = self._slots.drop_gradients
        # It would add gradients up over ranks after every micro-batch; see _SlotOptimiser.take.
        self.model.enable_backward_allreduce = False

    def open(self, slot: str, parameters: Parameters, training: TrainingSpec) -> None:
        self._slots.by_name[slot] = _SlotOptimiser(parameters, training)

    def close(self, slot: str) -> None:
        del self._slots.by_name[slot]

    def backward(self, loss: Tensor, steps: Mapping[str, MicroStep]) -> None:
        self.model.backward(loss)

    def drop_gradients(self) -> bool:
        self._slots.drop_gradients()
        return True

    def step(self, steps: Mapping[str, MicroStep]) -> dict[str, Exception]:
        self._slots.due, self._slots.failed = steps, {}
        self.model.step()
        return self._slots.failed

    def weights(self, slot: str) -> dict[str, Tensor]:
        parameters = self._slots.by_name[slot].parameters
        return {name: p.detach().cpu().clone() for name, p in parameters.items()}

    def moments(self, slot: str) -> dict[str, Tensor]:
        optimiser = self._slots.by_name[slot]
        return {
            f"{key}/{name}": optimiser.adamw.state[p][key].cpu().clone()
            for key in MOMENTS
            for name, p in optimiser.parameters.items()
        }

    def load_moments(self, slot: str, moments: Mapping[str, Tensor], steps: int) -> None:
        optimiser = self._slots.by_name[slot]
        for name, parameter in optimiser.parameters.items():
            state = optimiser.adamw.state[parameter]
            state["step"].fill_(steps)
            for key in MOMENTS:
                state[key].copy_(moments[f"{key}/{name}"])


class _SlotOptimisers(torch.optim.Optimizer):
    """The optimiser that DeepSpeed knows; it steps the slots that are due.

    A plain optimiser over all slots would move those without rows as well, by momentum, because
    DeepSpeed puts zeros where a gradient is missing.
    """

    def __init__(self, anchor: nn.Parameter) -> None:
        super().__init__([anchor], {})
        self.by_name: dict[str, _SlotOptimiser] = {}
        self.due: Mapping[str, MicroStep] = {}
        self.failed: dict[str, Exception] = {}
        """Of those that were due."""

    def drop_gradients(self) -> None:
        """Drop the gradients of every slot, due or not."""
        for slot in self.by_name.values():
            for parameter in slot.parameters.values():
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # never called with one
        for slot, micro_step in self.due.items():
            try:
                self.by_name[slot].take(micro_step)
            except Exception as error:
                if dist.get_world_size() > 1:
                    raise  # the other ranks may have stepped this slot, and wait for the next
                self.failed[slot] = error  # step() returns it: this slot alone fails


class _SlotOptimiser:
    """AdamW of one slot, with its gradients until a step is complete.

    They are kept here because DeepSpeed clears the parameters' own after every micro-batch.
    """

    def __init__(self, parameters: Parameters, training: TrainingSpec) -> None:
        self.parameters = dict(parameters)
        self.adamw = adamw(parameters, training)
        # At its first step AdamW would do this by itself, when other slots have moved.
        self.adamw.state.update({p: initial_state(p) for p in parameters.values()})
        self._clip = training.clip
        self._gradients: list[Tensor] = []

    def take(self, step: MicroStep) -> None:
        """Add the gradients up over micro-batches; when they are complete add them up over ranks,
        clip and step."""
        # A layer that the loss did not go through has none: half of a base may rest.
        found = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters.values()
        ]
        if self._gradients:
            torch._foreach_add_(self._gradients, found)
        else:
            self._gradients = found
        if not step.last:
            return
        if dist.get_world_size() > 1:
            # Of this slot alone: where its values are in a ring decides in what order they are
            # added up, and must not depend on the neighbours.
            values = nn.utils.parameters_to_vector(self._gradients)
            dist.all_reduce(values)
            nn.utils.vector_to_parameters(values, self._gradients)
        for parameter, gradient in zip(self.parameters.values(), self._gradients, strict=True):
            parameter.grad = gradient
        self._gradients = []
        if self._clip:
            nn.utils.clip_grad_norm_(self.parameters.values(), self._clip)
        set_learning_rate(self.adamw, step.learning_rate)
        self.adamw.step()
