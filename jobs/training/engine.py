"""DeepSpeed, in one place: starting it, one engine per adapter, its optimiser state in full.

DeepSpeed's own checkpoints are pickles and load only on the same number of ranks. Here the state
is gathered to full tensors, which are saved as safetensors and load on any number.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
from torch import Tensor, nn
from torch import distributed as dist
from torch._C._distributed_c10d import HashStore, TCPStore

from jobs.spec import EngineSpec, TrainingSpec

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state per parameter, beside the step count that all parameters share."""

_LINEAR = nn.functional.linear
"""As it is before ZeRO stage 3 replaces it, for the whole process."""

logging.getLogger("DeepSpeed").setLevel(logging.ERROR)


def start_distributed(rank: int = 0, world_size: int = 1, address: str | None = None) -> None:
    """Join the process group, once a process; ``address`` is ``host:port`` of rank 0.

    Without an address, a launcher's variables say which rank this is; without those too, it is
    the only one. Uses NCCL on GPUs, gloo elsewhere.
    """
    if dist.is_initialized():
        return
    skip_shared_memory_op()
    # DeepSpeed insists on it; a process of ours sees one device at most, which is number 0.
    os.environ.setdefault("LOCAL_RANK", "0")
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if address is None and "MASTER_ADDR" in os.environ:
        dist.init_process_group(backend)
    else:
        store = (
            HashStore()
            if address is None
            else TCPStore(*_split(address), world_size, is_master=rank == 0)
        )
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    deepspeed.init_distributed(dist_backend=backend, verbose=False)


def skip_shared_memory_op() -> None:
    """Keep DeepSpeed from compiling its CPU all-reduce when it starts.

    The compiler runs for minutes, and when it is killed its lock file makes every later start wait
    for ever without a word. gloo does the same job.
    """
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


class Engine:
    """Trains the parameters of one adapter; every rank calls every method.

    ``model`` is what DeepSpeed wraps: call it for the forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        training: TrainingSpec,
        spec: EngineSpec,
    ) -> None:
        self._parameters = dict(parameters)
        self._stage = spec.zero_stage
        self._clip = training.clip
        self._attributes = _attributes(model)
        optimiser = torch.optim.AdamW(
            list(parameters.values()),
            lr=training.learning_rate,
            betas=training.betas,
            weight_decay=training.weight_decay,
        )
        self.model, self._optimiser, _, _ = deepspeed.initialize(
            model=model, optimizer=optimiser, config=_config(training, spec)
        )

    def micro_step(self, loss: Tensor, learning_rate: float, *, last: bool) -> None:
        """Backward, and the optimiser's step when this is the ``last`` micro-batch of one.

        ``loss`` is this rank's share of the step's loss: shares add up over micro-batches and
        ranks, where DeepSpeed would take the mean over ranks.
        """
        self.model.set_gradient_accumulation_boundary(last)
        self.model.backward(loss * dist.get_world_size())
        if last and self._stage == 0 and self._clip:
            nn.utils.clip_grad_norm_(self._parameters.values(), self._clip)
        for group in self._torch_optimiser.param_groups:
            group["lr"] = learning_rate
        self.model.step()

    def weights(self) -> dict[str, Tensor]:
        """Every parameter in full, fp32, on the CPU."""
        if self._stage == 0:
            return {n: p.detach().cpu().clone() for n, p in self._parameters.items()}
        return {n: safe_get_full_fp32_param(p).cpu() for n, p in self._parameters.items()}

    def moments(self) -> dict[str, Tensor]:
        """AdamW's state in full, fp32, on the CPU: ``exp_avg/NAME`` and ``exp_avg_sq/NAME``."""
        return {
            f"{key}/{name}": self._moment(parameter, key).detach().cpu().clone()
            for key in MOMENTS
            for name, parameter in self._parameters.items()
        }

    def load_moments(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """The inverse of :meth:`moments`, with the number of optimiser steps that were taken."""
        self._create_state(steps)
        for key in MOMENTS:
            for name, parameter in self._parameters.items():
                self._set_moment(parameter, key, moments[f"{key}/{name}"])

    def close(self) -> None:
        """Free what the engine holds; the model is as it was before, but for what was trained."""
        self.model.destroy()
        if self._stage == 3:
            _put_together(self._attributes)
            nn.functional.linear = _LINEAR

    @property
    def _torch_optimiser(self) -> torch.optim.Optimizer:
        optimiser: torch.optim.Optimizer = (
            self._optimiser if self._stage == 0 else self._optimiser.optimizer
        )
        return optimiser

    def _create_state(self, steps: int) -> None:
        """AdamW makes its state in its first step; after a resume there is none yet."""
        for parameter in self._stepped_parameters():
            self._torch_optimiser.state[parameter] = {
                "step": torch.tensor(float(steps)),
                **{key: torch.zeros_like(parameter) for key in MOMENTS},
            }
        if self._stage in (1, 2):
            # Ties DeepSpeed's view of each parameter's share to the state just made.
            self._optimiser._lazy_init_hp_params_optimizer_state()

    def _stepped_parameters(self) -> list[Tensor]:
        """What the torch optimiser really steps: the adapter's parameters, or ZeRO's flat shares.

        Stage 3 gives its shares to the optimiser only while it steps.
        """
        if self._stage == 3:
            return list(self._optimiser.fp32_partitioned_groups_flat)
        return [p for group in self._torch_optimiser.param_groups for p in group["params"]]

    def _moment(self, parameter: nn.Parameter, key: str) -> Tensor:
        if self._stage == 0:
            moment: Tensor = self._torch_optimiser.state[parameter][key]
            return moment
        gathered: Tensor = safe_get_full_optimizer_state(parameter, key)
        return gathered

    def _set_moment(self, parameter: nn.Parameter, key: str, value: Tensor) -> None:
        if self._stage == 0:
            self._torch_optimiser.state[parameter][key].copy_(value)
        elif self._stage == 3:
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

    Its ``gradient_clipping`` is 1.0 when it is not written, over all parameters it knows. At
    stage 0 it is switched off and :meth:`Engine.micro_step` clips; at the others only DeepSpeed
    sees whole gradients, and its parameters are those of the one adapter.
    Accumulation is 1 here because :meth:`Engine.micro_step` says which micro-batch ends a step:
    the last step of an epoch may have fewer, and DeepSpeed would divide by a constant.
    """
    return {
        "train_micro_batch_size_per_gpu": -(-training.batch_size // spec.ranks),
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0 if spec.zero_stage == 0 else training.clip or 0.0,
        "zero_optimization": {"stage": spec.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
