"""A warm process that holds one frozen Base and trains adapters on it, one slot at a time."""

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

from jobs.data.batches import BatchPlan, MicroBatch
from jobs.data.prepared import PreparedClip
from jobs.families.base import Base
from jobs.families.layout import Example
from jobs.metrics.base import SpokenClip
from jobs.spec import DecodingSpec, PromptSpec, TrialSpec
from jobs.training.adapter import Adapter
from jobs.training.checkpoint import SlotState, read_state, write_state
from jobs.training.engine import Engine
from jobs.training.epochs import DivergedError, EpochLosses
from jobs.training.schedule import learning_rate


class Host:
    """Holds a Base and prepared data; attach a trial, advance it epoch by epoch, detach it.

    With several ranks every rank has a Host and calls the same methods in the same order;
    ``start_distributed`` comes first.
    """

    def __init__(self, base: Base, clips: Sequence[PreparedClip]) -> None:
        self.base = base
        examples = base.examples(clips)
        pairs = list(zip(clips, examples, strict=True))
        self._training = [example for clip, example in pairs if clip.split == "train"]
        self._validation = [example for clip, example in pairs if clip.split == "validation"]
        self._slot: Slot | None = None

    def attach(self, trial: TrialSpec, checkpoint: Path | None = None) -> None:
        """Put a fresh adapter for ``trial`` in the slot, or the one in ``checkpoint``."""
        self.detach()
        self._slot = Slot(self.base, self._training, self._validation, trial, checkpoint)

    def detach(self) -> None:
        """Empty the slot; the base is as it was before."""
        if self._slot is not None:
            self._slot.close()
            self._slot = None

    def advance(self) -> EpochLosses:
        """Train the slot for one epoch, then validate it.

        Raises:
            DivergedError: the loss stopped being finite.
        """
        return self._attached.advance()

    def save(self, directory: Path | None, losses: EpochLosses) -> None:
        """Write the slot as a checkpoint into ``directory``; ranks other than 0 give None."""
        self._attached.save(directory, losses)

    def speak(
        self, prompts: Sequence[PromptSpec], decoding: DecodingSpec, lora_scale: float
    ) -> list[SpokenClip]:
        """Say the prompts with the slot's adapter at ``lora_scale``; an empty slot is the base."""
        if self._slot is None:
            return self.base.speak(self.base.model, prompts, decoding)
        return self._slot.speak(prompts, decoding, lora_scale)

    @property
    def _attached(self) -> "Slot":
        if self._slot is None:
            raise RuntimeError("a trial must be attached before it is advanced or saved")
        return self._slot


class Slot:
    """One adapter being trained: weights, optimiser, schedule, random stream, data cursor."""

    def __init__(
        self,
        base: Base,
        training: Sequence[Example],
        validation: Sequence[Example],
        trial: TrialSpec,
        checkpoint: Path | None,
    ) -> None:
        spec = trial.training
        self._base, self._training, self._validation = base, training, validation
        self._spec = spec
        self._plan = BatchPlan(len(training), spec.batch_size, spec.accumulation, spec.seed)
        torch.manual_seed(_stream_seed(spec.seed, "adapter"))
        self._adapter = Adapter.attach(base.model, spec)
        if checkpoint is not None:
            self._adapter.load_weights(checkpoint)
        self._engine = Engine(self._adapter.model, self._adapter.parameters(), spec, trial.engine)
        # New layers come in training mode, and a slot from a checkpoint may speak before it trains.
        self._adapter.model.eval()
        self._state = SlotState(seed=spec.seed, epoch=0, steps=0)
        if checkpoint is not None:
            moments, self._state = read_state(checkpoint)
            self._engine.load_moments(moments, self._state.steps)

    def close(self) -> None:
        self._engine.close()
        self._adapter.detach()

    def advance(self) -> EpochLosses:
        started = time.monotonic()
        epoch, first = self._state.epoch + 1, self._state.steps
        losses, rates = [], []
        with _training_mode(self._adapter.model):
            for step, micro_batches in enumerate(self._plan.epoch(epoch), start=first):
                rates.append(learning_rate(self._spec, step, self._total_steps))
                losses.append(self._step(step, micro_batches, rates[-1]))
        self._state = SlotState(self._spec.seed, epoch, first + len(losses))
        return EpochLosses(
            epoch=epoch,
            training_loss=sum(total for total, _ in losses) / sum(count for _, count in losses),
            validation_loss=self._validation_loss(),
            step_losses=tuple(total / count for total, count in losses),
            learning_rates=tuple(rates),
            seconds=time.monotonic() - started,
            finished_at=time.time(),
        )

    def save(self, directory: Path | None, losses: EpochLosses) -> None:
        weights, moments = self._engine.weights(), self._engine.moments()
        if directory is not None:
            self._adapter.save(directory, weights)
            write_state(directory, moments, self._state, losses)

    def speak(
        self, prompts: Sequence[PromptSpec], decoding: DecodingSpec, lora_scale: float
    ) -> list[SpokenClip]:
        self._adapter.set_scale(lora_scale)
        try:
            return self._base.speak(self._engine.model, prompts, decoding)
        finally:
            self._adapter.set_scale(1.0)

    @property
    def _total_steps(self) -> int:
        return self._plan.steps_per_epoch * self._spec.epochs

    def _step(
        self, step: int, micro_batches: Sequence[MicroBatch], rate: float
    ) -> tuple[float, int]:
        """One optimiser step; returns the summed loss over its targets and how many there were.

        The loss is normalised over the targets of the whole step, so that it does not depend on
        how the step is cut into micro-batches and ranks.
        """
        torch.manual_seed(_stream_seed(self._spec.seed, f"step {step}, rank {dist.get_rank()}"))
        clips = [self._training[index] for batch in micro_batches for index in batch]
        targets = self._base.targets(clips)
        total = torch.zeros(())
        for position, batch in enumerate(micro_batches, start=1):
            loss = self._rank_loss(batch)
            total += loss.detach().cpu()
            self._engine.micro_step(loss / targets, rate, last=position == len(micro_batches))
        dist.all_reduce(total)
        if not math.isfinite(total):
            raise DivergedError(f"the loss must be finite, got {total.item()} at step {step + 1}")
        return total.item(), targets

    def _rank_loss(self, batch: MicroBatch) -> Tensor:
        """The summed loss of this rank's clips of a micro-batch.

        A rank without clips still runs one, at weight 0, because the ranks of a partitioned base
        have to make every forward and backward pass together.
        """
        mine = batch[dist.get_rank() :: dist.get_world_size()]
        examples = [self._training[index] for index in mine or batch[:1]]
        loss = self._base.loss_sum(self._engine.model, self._base.collate(examples))
        return loss if mine else loss * 0.0

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Mean over all validation targets. One clip at a time, in order, summed in float64: the
        value then does not depend on any batch size.

        Not in inference mode: what ZeRO stage 3 gathers in it is of no use to the next epoch.
        """
        losses = [
            self._base.loss_sum(self._engine.model, self._base.collate([example])).double().item()
            for example in self._validation
        ]
        return math.fsum(losses) / self._base.targets(self._validation)


@contextmanager
def _training_mode(model: torch.nn.Module) -> Iterator[None]:
    """Dropout is on inside, and off outside."""
    model.train()
    try:
        yield
    finally:
        model.eval()


def _stream_seed(seed: int, use: str) -> int:
    """A seed for one use of a trial's random stream, independent of every other use's."""
    digest = hashlib.sha256(f"{seed}: {use}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
