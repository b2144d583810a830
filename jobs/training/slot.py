"""The training of one adapter: data order, learning rate, dropout stream, losses."""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch import distributed as dist

from jobs.data.order.batches import BatchPlan, MicroBatch
from jobs.data.order.mix import Mix
from jobs.families.base import LossTerms
from jobs.families.layout import Example
from jobs.spec.trial import TrainingSpec
from jobs.training.engine.base import MicroStep
from jobs.training.epochs import EpochLosses, SlotState, StepTaken


@dataclass(frozen=True)
class Turn:
    """The part of a slot in one pass: a micro-batch of its own."""

    examples: Sequence[Example]
    """This rank's."""
    weight: float
    """1; or 0 for a rank without clips, which runs one all the same, because the ranks of a
    partitioned base have to make every forward and backward pass together."""
    step_examples: Sequence[Example]
    """All of the optimiser step, over all ranks and micro-batches."""
    step: MicroStep


class Slot:
    """The schedule of one adapter's training; its tensors are the engine's.

    A turn counts after :meth:`record_turn`; until then :meth:`turn` gives the same again.
    """

    def __init__(
        self,
        training: TrainingSpec,
        examples: Sequence[Example],
        device: torch.device,
        mix: Mix | None = None,
    ) -> None:
        self.training = training
        self.dropout = torch.Generator(device)
        """Positioned for the next turn."""
        self.terms = LossTerms(
            training.acoustic_weight, training.acoustic_share, training.stop_weight, self.dropout
        )
        self._examples = examples
        self._plan = BatchPlan(
            len(examples),
            training.batch_size,
            training.accumulation,
            training.seed,
            mix,
            training.batch_tokens,
            [len(example) for example in examples],
        )
        self.resume(SlotState(training.seed, epoch=0, steps=0))

    def resume(self, state: SlotState) -> None:
        """Continue from this state."""
        self._epoch = state.epoch
        self._steps_before = state.steps - len(state.taken)
        every = self.training.checkpoint_steps
        self._steps = list(
            self._plan.epoch(state.epoch + 1)
            if every is None
            else self._plan.steps_from(self._steps_before, every)
        )
        self._taken = [*state.taken]
        self._seconds = state.seconds
        self._micro = 0
        self._stream: Tensor | None = None
        """The dropout's position between two micro-batches of one step."""
        self._total: Tensor | None = None

    @property
    def epoch_is_over(self) -> bool:
        """Whether the next turn would belong to the next epoch."""
        return len(self._taken) == len(self._steps)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self._epoch

    @property
    def is_within_step(self) -> bool:
        """Whether an optimiser step is under way."""
        return self._micro > 0

    @property
    def state(self) -> SlotState:
        """The state to resume from. Raises RuntimeError within a step."""
        if self._micro:
            raise RuntimeError(
                "a checkpoint is taken between optimiser steps, but one is under way: "
                f"{self._micro} of {len(self._steps[len(self._taken)])} micro-batches are taken"
            )
        steps = self._steps_before + len(self._taken)
        return SlotState(self.training.seed, self._epoch, steps, tuple(self._taken), self._seconds)

    def turn(self) -> Turn:
        """The next micro-batch."""
        micro_batches = self._steps[len(self._taken)]
        step = self._steps_before + len(self._taken)
        if self._micro == 0:
            seed = stream_seed(self.training.seed, f"step {step}, rank {dist.get_rank()}")
            self.dropout.manual_seed(seed)
        else:
            assert self._stream is not None
            self.dropout.set_state(self._stream)
        batch = micro_batches[self._micro]
        mine = batch[dist.get_rank() :: dist.get_world_size()]
        return Turn(
            self._pick(mine or batch[:1]),
            weight=1.0 if mine else 0.0,
            step_examples=self._pick(tuple(i for each in micro_batches for i in each)),
            step=MicroStep(
                learning_rate(self.training, step, self._horizon),
                last=self._micro == len(micro_batches) - 1,
            ),
        )

    @cached_property
    def _horizon(self) -> int:
        """Optimiser steps of the whole training; under a token budget all epochs are laid out."""
        spec = self.training
        if not spec.depends_on_horizon:
            return 0
        return spec.steps or self._plan.steps(spec.checkpoints)

    def step_total(self, loss: Tensor) -> Tensor:
        """This rank's summed loss of the step under way, with the turn's ``loss``."""
        return loss if self._total is None else self._total + loss

    def record_turn(
        self,
        turn: Turn,
        loss: Tensor,
        total: Sequence[float] | None,
        targets: int,
        seconds: float,
    ) -> None:
        """Record a turn that was taken, and its seconds of the host.

        ``total`` is the summed loss over the ``targets`` of the step, by its parts, where the turn
        completes it.
        """
        self._seconds += seconds
        if turn.step.last:
            assert total is not None
            parts = tuple(total) if len(total) > 1 else ()
            rate = turn.step.learning_rate
            self._taken.append(StepTaken(math.fsum(total), targets, rate, parts))
            self._micro, self._stream, self._total = 0, None, None
        else:
            self._total = self.step_total(loss)
            self._micro += 1
            self._stream = self.dropout.get_state()

    def end_epoch(
        self,
        validation_loss: float,
        group_losses: Mapping[str, float],
        seconds: float,
        *,
        parts: Sequence[str] = (),
        figures: Mapping[str, float] | None = None,
        clips: Mapping[str, tuple[float, float]] | None = None,
    ) -> EpochLosses:
        """Close the epoch, with its validation and that one's seconds of the host.

        ``parts`` are the names of the loss's parts, ``figures`` what else the validation found, and
        ``clips`` are as :attr:`EpochLosses.clip_losses`.
        """
        taken = self._taken
        targets = sum(step.targets for step in taken)
        by_part = zip(*(step.parts for step in taken), strict=True)
        losses = EpochLosses(
            epoch=self._epoch + 1,
            training_loss=sum(step.loss for step in taken) / targets,
            validation_loss=validation_loss,
            step_losses=tuple(step.loss / step.targets for step in taken),
            learning_rates=tuple(step.learning_rate for step in taken),
            seconds=self._seconds + seconds,
            finished_at=time.time(),
            group_losses=group_losses,
            training_parts={
                name: sum(sums) / targets for name, sums in zip(parts, by_part, strict=True)
            },
            validation_figures=figures or {},
            clip_losses=clips or {},
        )
        steps = self._steps_before + len(taken)
        self.resume(SlotState(self.training.seed, losses.epoch, steps))
        return losses

    def _pick(self, indices: MicroBatch) -> list[Example]:
        return [self._examples[index] for index in indices]


def learning_rate(spec: TrainingSpec, step: int, total_steps: int) -> float:
    """The rate of optimiser step ``step`` (0-based) of a training of ``total_steps``.

    Warm-up rises linearly to ``spec.learning_rate`` over ``spec.warmup_steps``; after it the rate
    is constant, or falls to 0 at ``total_steps`` along a line or half a cosine.
    """
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    left = (total_steps - step) / max(total_steps - spec.warmup_steps, 1)
    match spec.schedule:
        case "constant":
            return spec.learning_rate
        case "linear":
            return spec.learning_rate * left
        case "cosine":
            return spec.learning_rate * 0.5 * (1 - math.cos(math.pi * left))


def stream_seed(seed: int, use: str) -> int:
    """A seed for one use of a trial's random stream, independent of every other use's."""
    digest = hashlib.sha256(f"{seed}: {use}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
