"""ZeRO stages 1 to 3: base, gradients or optimiser are cut up among the ranks, for one slot."""

from collections.abc import Mapping
from typing import Any

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
from torch import Tensor, nn
from torch import distributed as dist

from jobs.spec.trial import EngineSpec, TrainingSpec
from jobs.training.engine.base import MOMENTS, MicroStep, Parameters, adamw

_LINEAR = nn.functional.linear
"""As it is before ZeRO stage 3 replaces it, for the whole process."""


class PartitionedEngine:
    """One slot at a time, each with a DeepSpeed engine of its own.

    Parameters are cut up when DeepSpeed starts, so a slot cannot join later, and clipping and
    accumulation are DeepSpeed's, over all that it trains: hence packs of one.
    """

    def __init__(self, model: nn.Module, spec: EngineSpec) -> None:
        self._plain = model
        self._spec = spec
        self._slot: _PartitionedSlot | None = None

    @property
    def model(self) -> nn.Module:
        return self._plain if self._slot is None else self._slot.model

    def open(self, slot: str, parameters: Parameters, training: TrainingSpec) -> None:
        if self._slot is not None:
            raise RuntimeError(
                f"ZeRO stage {self._spec.zero_stage} trains one slot at a time, and "
                f"{self._slot.name} is there: detach it before {slot} is attached"
            )
        self._slot = _PartitionedSlot(slot, self._plain, parameters, training, self._spec)

    def close(self, slot: str) -> None:
        self._opened(slot).close()
        self._slot = None

    def backward(self, loss: Tensor, steps: Mapping[str, MicroStep]) -> None:
        ((slot, step),) = steps.items()
        self._opened(slot).backward(loss, step)

    def step(self, steps: Mapping[str, MicroStep]) -> None:
        for slot, step in steps.items():
            self._opened(slot).step(step)

    def weights(self, slot: str) -> dict[str, Tensor]:
        return self._opened(slot).weights()

    def moments(self, slot: str) -> dict[str, Tensor]:
        return self._opened(slot).moments()

    def load_moments(self, slot: str, moments: Mapping[str, Tensor], steps: int) -> None:
        self._opened(slot).load_moments(moments, steps)

    def _opened(self, slot: str) -> "_PartitionedSlot":
        assert self._slot is not None
        assert self._slot.name == slot
        return self._slot


class _PartitionedSlot:
    """A slot and its engine."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        parameters: Parameters,
        training: TrainingSpec,
        spec: EngineSpec,
    ) -> None:
        self.name = name
        self._parameters = dict(parameters)
        self._stage = spec.zero_stage
        self._attributes = _attributes(model)
        self.model, self._optimiser, _, _ = deepspeed.initialize(
            model=model, optimizer=adamw(parameters, training), config=_config(training, spec)
        )

    def backward(self, loss: Tensor, step: MicroStep) -> None:
        self.model.set_gradient_accumulation_boundary(step.last)
        self.model.backward(loss * dist.get_world_size())

    def step(self, step: MicroStep) -> None:
        for group in self._optimiser.optimizer.param_groups:
            group["lr"] = step.learning_rate
        self.model.step()

    def weights(self) -> dict[str, Tensor]:
        return {n: safe_get_full_fp32_param(p).cpu() for n, p in self._parameters.items()}

    def moments(self) -> dict[str, Tensor]:
        return {
            f"{key}/{name}": safe_get_full_optimizer_state(parameter, key).cpu().clone()
            for key in MOMENTS
            for name, parameter in self._parameters.items()
        }

    def load_moments(self, moments: Mapping[str, Tensor], steps: int) -> None:
        self._create_state(steps)
        for key in MOMENTS:
            for name, parameter in self._parameters.items():
                self._set_moment(parameter, key, moments[f"{key}/{name}"])

    def close(self) -> None:
        self.model.destroy()
        # It leaves these, by which the model would keep every engine that it ever had.
        self.model.module_forward_pre_hook.remove()
        self.model.module_forward_post_hook.remove()
        if self._stage == 3:
            _put_together(self._attributes)
            nn.functional.linear = _LINEAR

    def _create_state(self, steps: int) -> None:
        """AdamW makes its state in its first step; after a resume there is none yet."""
        for parameter in self._stepped_parameters():
            self._optimiser.optimizer.state[parameter] = {
                "step": torch.tensor(float(steps), device=parameter.device),
                **{key: torch.zeros_like(parameter) for key in MOMENTS},
            }
        if self._stage in (1, 2):
            # Ties DeepSpeed's view of each parameter's share to the state just made.
            self._optimiser._lazy_init_hp_params_optimizer_state()

    def _stepped_parameters(self) -> list[Tensor]:
        """What the torch optimiser really steps: ZeRO's flat shares.

        Stage 3 gives its shares to the optimiser only while it steps.
        """
        if self._stage == 3:
            return list(self._optimiser.fp32_partitioned_groups_flat)
        return [p for group in self._optimiser.optimizer.param_groups for p in group["params"]]

    def _set_moment(self, parameter: nn.Parameter, key: str, value: Tensor) -> None:
        if self._stage == 3:
            deepspeed.utils.safe_set_local_optimizer_state(parameter, _share(parameter, value), key)
        else:
            deepspeed.utils.safe_set_full_optimizer_state(
                parameter, value.to(parameter.device), key
            )


def _attributes(model: nn.Module) -> dict[nn.Module, set[str]]:
    """The names of what each module holds."""
    return {module: set(vars(module)) for module in model.modules()}


def _put_together(attributes: Mapping[nn.Module, set[str]]) -> None:
    """Undo what ZeRO stage 3 did to the modules, each given with the names it held before.

    DeepSpeed leaves every parameter cut up, and on every module the functions that gather them,
    which the next engine would call instead of its own.
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


def _share(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """This rank's part of ``value``, as ZeRO stage 3 cuts it: equal parts, the last one padded."""
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
