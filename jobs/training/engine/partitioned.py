"""ZeRO stages 1 to 3: the ranks partition base, gradients or optimiser, for one slot."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import deepspeed
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
from torch import Tensor, nn
from torch import distributed as dist

from jobs.spec.trial import EngineSpec, TrainingSpec
from jobs.training.engine.base import (
    MOMENTS,
    MicroStep,
    Parameters,
    adamw,
    initial_state,
    set_learning_rate,
)

_LINEAR = nn.functional.linear
"""The original: ZeRO stage 3 replaces it for the whole process."""


class _Opened(NamedTuple):
    """A slot and its DeepSpeed engine."""

    name: str
    parameters: Parameters
    model: Any
    """DeepSpeed's engine."""
    optimiser: Any
    """DeepSpeed's, around the slot's own."""
    attributes: Mapping[nn.Module, set[str]]
    """Of the base's modules, before DeepSpeed."""


class PartitionedEngine:
    """One slot at a time, each with a DeepSpeed engine of its own.

    Parameters are partitioned when DeepSpeed starts, so a slot cannot join later, and clipping and
    accumulation are DeepSpeed's, over all that it trains: hence packs of one.
    """

    def __init__(self, model: nn.Module, spec: EngineSpec) -> None:
        self._base = model
        self._spec = spec
        self._opened: _Opened | None = None

    @property
    def model(self) -> nn.Module:
        if self._opened is None:
            return self._base
        model: nn.Module = self._opened.model
        return model

    def open(self, slot: str, parameters: Parameters, training: TrainingSpec) -> None:
        if self._opened is not None:
            raise RuntimeError(
                f"ZeRO stage {self._spec.zero_stage} trains one slot at a time, and "
                f"{self._opened.name} is there: detach it before {slot} is attached"
            )
        attributes = {module: set(vars(module)) for module in self._base.modules()}
        model, optimiser, _, _ = deepspeed.initialize(
            model=self._base,
            optimizer=adamw(parameters, training),
            config=_config(training, self._spec),
        )
        self._opened = _Opened(slot, dict(parameters), model, optimiser, attributes)
        self._create_state(self._opened)

    def close(self, slot: str) -> None:
        opened = self._get(slot)
        opened.model.destroy()
        # It leaves these, by which the model would keep every engine that it ever had.
        opened.model.module_forward_pre_hook.remove()
        opened.model.module_forward_post_hook.remove()
        if self._spec.zero_stage == 3:
            _gather_modules(opened.attributes)
            nn.functional.linear = _LINEAR
        self._opened = None

    def backward(self, loss: Tensor, steps: Mapping[str, MicroStep]) -> None:
        ((slot, step),) = steps.items()
        model = self._get(slot).model
        model.set_gradient_accumulation_boundary(step.last)
        model.backward(loss * dist.get_world_size())

    def drop_gradients(self) -> bool:
        # DeepSpeed may have added up some of them already, and at stage 3 holds gathered layers.
        return False

    def step(self, steps: Mapping[str, MicroStep]) -> dict[str, Exception]:
        for slot, step in steps.items():
            opened = self._get(slot)
            set_learning_rate(opened.optimiser.optimizer, step.learning_rate)
            opened.model.step()
        return {}

    def weights(self, slot: str) -> dict[str, Tensor]:
        parameters = self._get(slot).parameters
        return {name: safe_get_full_fp32_param(p).cpu() for name, p in parameters.items()}

    def moments(self, slot: str) -> dict[str, Tensor]:
        return {
            f"{key}/{name}": safe_get_full_optimizer_state(parameter, key).cpu().clone()
            for key in MOMENTS
            for name, parameter in self._get(slot).parameters.items()
        }

    def load_moments(self, slot: str, moments: Mapping[str, Tensor], steps: int) -> None:
        opened = self._get(slot)
        # In place: DeepSpeed's view of each parameter's share was tied to this state for good.
        for state in opened.optimiser.optimizer.state.values():
            state["step"].fill_(steps)
        for key in MOMENTS:
            for name, parameter in opened.parameters.items():
                self._set_moment(parameter, key, moments[f"{key}/{name}"])

    def _get(self, slot: str) -> _Opened:
        assert self._opened is not None
        assert self._opened.name == slot
        return self._opened

    def _create_state(self, opened: _Opened) -> None:
        """AdamW would make its state in its first step."""
        optimiser = opened.optimiser
        # What the torch optimiser really steps: ZeRO's flat shares. Stage 3 gives its shares to
        # the optimiser only while it steps.
        if self._spec.zero_stage == 3:
            shares = list(optimiser.fp32_partitioned_groups_flat)
        else:
            shares = [p for group in optimiser.optimizer.param_groups for p in group["params"]]
        for share in shares:
            optimiser.optimizer.state[share] = initial_state(share)
        if self._spec.zero_stage in (1, 2):
            # Ties DeepSpeed's view of each parameter's share to the state just made.
            optimiser._lazy_init_hp_params_optimizer_state()

    def _set_moment(self, parameter: nn.Parameter, key: str, value: Tensor) -> None:
        if self._spec.zero_stage == 3:
            deepspeed.utils.safe_set_local_optimizer_state(
                parameter, _local_partition(parameter, value), key
            )
        else:
            deepspeed.utils.safe_set_full_optimizer_state(
                parameter, value.to(parameter.device), key
            )


def _gather_modules(attributes: Mapping[nn.Module, set[str]]) -> None:
    """Undo what ZeRO stage 3 did to the modules, each given with the names it held before.

    DeepSpeed leaves every parameter partitioned, and on every module its functions that gather
    them, which the next engine would call instead of its own.
    """
    parameters = {
        p for module in attributes for p in dict.values(module._parameters) if p is not None
    }
    with deepspeed.zero.GatheredParameters(parameters):
        whole = {
            p: nn.Parameter(p.detach().clone(), requires_grad=p.requires_grad) for p in parameters
        }
    for module, names in attributes.items():
        module._parameters = {
            name: None if parameter is None else whole[parameter]
            for name, parameter in dict.items(module._parameters)
        }
        for name in set(vars(module)) - names:
            delattr(module, name)


def _local_partition(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """This rank's part of ``value`` in ZeRO stage 3: equal parts, the last one padded."""
    size: int = parameter.ds_tensor.ds_numel  # type: ignore[attr-defined]
    padded = value.new_zeros(size * dist.get_world_size())
    padded[: value.numel()] = value.flatten()
    return padded.narrow(0, size * dist.get_rank(), size)


def _config(training: TrainingSpec, spec: EngineSpec) -> dict[str, Any]:
    """DeepSpeed's configuration.

    Its ``gradient_clipping`` is 1.0 when it is not written; here only DeepSpeed sees whole
    gradients, and all it trains is the one adapter.
    Accumulation is 1 because :meth:`PartitionedEngine.backward` says which micro-batch ends a step:
    the last step of an epoch may have fewer, and DeepSpeed would divide by a constant.
    """
    return {
        "train_micro_batch_size_per_gpu": -(-training.batch_size // spec.ranks),
        "gradient_accumulation_steps": 1,
        "gradient_clipping": training.clip or 0.0,
        "zero_optimization": {"stage": spec.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
