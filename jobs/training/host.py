"""A warm process that holds one frozen base and trains adapters on it, several in one pass."""

import math
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property

import torch
from torch import Tensor
from torch import distributed as dist

from cluster.storage.base import Storage, StorageKey
from cluster.storage.committed import DamagedError
from jobs.clips import ItemAnswer, PreparedClip, SpokenClip
from jobs.data.order.batches import check_budget
from jobs.data.order.mix import apply_mix, group_indices
from jobs.families.base import FrozenBase, LossTerms, device_of
from jobs.families.items import answer_items, example_losses
from jobs.spec.items import TextItem
from jobs.spec.trial import DecodingSpec, EngineSpec, PromptSpec, TrialSpec
from jobs.training.adapter import Adapters, load_weights
from jobs.training.checkpoint import Checkpoint, Snapshot, read_checkpoint
from jobs.training.engine.start import start_engine
from jobs.training.epochs import DivergedError, EpochLosses, HostBrokenError, SlotGoneError
from jobs.training.packing import AdapterUse
from jobs.training.paired import figures
from jobs.training.recompute import recompute_blocks
from jobs.training.slot import Slot, Turn, stream_seed


class Host:
    """Holds a frozen base and prepared data; attach trials, step any of them together, detach them.

    A slot trains the same whoever shares its passes; a solo trial is a pack of one. One thread
    calls the methods. With several ranks every rank has a Host and calls the same methods in the
    same order; ``start_distributed`` comes first.
    """

    def __init__(
        self,
        base: FrozenBase,
        clips: Sequence[PreparedClip],
        engine: EngineSpec,
        storage: Storage | None = None,
    ) -> None:
        """``storage`` has the checkpoints; without one, a host attaches fresh adapters only."""
        self.base = base
        self._storage = storage
        examples = base.examples(clips)
        pairs = list(zip(clips, examples, strict=True))
        self._training_clips = [clip for clip in clips if clip.split == "train"]
        self._training = [example for clip, example in pairs if clip.split == "train"]
        self._validation = [example for clip, example in pairs if clip.split == "validation"]
        held_out = [clip for clip in clips if clip.split == "validation"]
        self._validation_ids = [clip.id for clip in held_out]
        self._groups = group_indices(held_out)
        self._adapters = Adapters(base)
        if engine.gradient_checkpointing:
            recompute_blocks(base.model, self._adapters.rows)
        self._engine = start_engine(base.model, engine)
        self._slots: dict[str, Slot] = {}

    def attach(self, slot: str, trial: TrialSpec, checkpoint: StorageKey | None = None) -> None:
        """Put a fresh adapter for ``trial`` in a new slot, or the one in ``checkpoint``.

        An error leaves the host unchanged.

        Raises:
            FileNotFoundError: the checkpoint was never committed.
            DamagedError: the checkpoint is damaged, and was set aside.
            ValueError: the training clips do not fit the trial's mix or token budget.
        """
        if slot in self._slots:
            raise RuntimeError(f"slot {slot} is there already: detach it first")
        training = trial.training
        mix = None if trial.mix is None else apply_mix(trial.mix, self._training_clips)
        if training.batch_tokens is not None:
            names = [clip.id for clip in self._training_clips]
            check_budget(training.batch_tokens, [len(e) for e in self._training], names)
        saved = None if checkpoint is None else self._read(checkpoint)
        with ExitStack() as undo:
            torch.manual_seed(stream_seed(training.seed, "adapter"))
            self._adapters.add(slot, training)
            undo.callback(self._adapters.remove, slot)
            parameters = self._adapters.parameters(slot)
            if saved is not None:
                load_weights(parameters, saved.weights)
            self._engine.open(slot, parameters, training)
            undo.callback(self._engine.close, slot)
            attached = Slot(training, self._training, device_of(self.base.model), mix)
            if saved is not None:
                self._engine.load_moments(slot, saved.moments, saved.state.steps)
                attached.resume(saved.state)
            self._slots[slot] = attached
            undo.pop_all()

    def detach(self, slot: str) -> None:
        """Empty a slot; nothing happens when there is none."""
        if self._slots.pop(slot, None) is not None:
            self._engine.close(slot)
            self._adapters.remove(slot)

    def step(self, slots: Sequence[str]) -> dict[str, Exception]:
        """One micro-batch of each of ``slots``, in one forward and backward pass.

        Returns:
            The slots that failed: with DivergedError, their loss stopped being finite, and they
            have not moved; with another error, their optimiser failed, and they were detached. The
            other slots have moved.

        Raises:
            SlotGoneError: a slot is not there.
            HostBrokenError: what the slots hold is not known; the host has none any more.
            Exception: the pass failed; no slot has moved.
        """
        started = time.monotonic()
        turns = {name: self._slot(name).turn() for name in slots}
        targets = {name: self.base.targets(turn.step_examples) for name, turn in turns.items()}
        try:
            losses = self._pass(turns, targets)
            totals = self._step_totals(turns, losses)
        except Exception as error:
            if not self._engine.drop_gradients():
                raise self._broken("a pass failed that cannot be taken back", error) from error
            raise
        failed: dict[str, Exception] = {
            name: DivergedError(f"the loss must be finite, got {sum(total)}")
            for name, total in totals.items()
            if not math.isfinite(sum(total))
        }
        taken = {name: turn for name, turn in turns.items() if name not in failed}
        try:
            spoilt = self._engine.step({name: turn.step for name, turn in taken.items()})
            for name in spoilt:
                self.detach(name)
            seconds = time.monotonic() - started
            rows = {name: self.base.targets(turn.examples) for name, turn in turns.items()}
            for name, turn in taken.items():
                if name not in spoilt:
                    share = seconds * rows[name] / sum(rows.values())
                    self._slots[name].record_turn(
                        turn, losses[name], totals.get(name), targets[name], share
                    )
        except Exception as error:
            raise self._broken("the optimisers did not all step", error) from error
        return failed | spoilt

    def epoch_is_over(self, slot: str) -> bool:
        """Whether the slot has made the last step of its epoch."""
        return self._slot(slot).epoch_is_over

    def is_within_step(self, slot: str) -> bool:
        """Whether the slot has taken some of an optimiser step's micro-batches, and not all."""
        return self._slot(slot).is_within_step

    def end_epoch(self, slot: str) -> EpochLosses:
        """Validate the slot and go on to its next epoch.

        For a base whose loss has parts, ``validation_figures`` are each part's mean a target, and
        what :func:`jobs.training.paired.figures` gives; for ``official_style`` see
        :meth:`_official_style`.

        Raises:
            DivergedError: the validation loss is not finite.
        """
        started = time.monotonic()
        parts = self._validation_sums(slot)
        sums = [math.fsum(each) for each in parts]
        loss = self._mean(sums, range(len(sums)))
        if not math.isfinite(loss):
            raise DivergedError(f"the validation loss must be finite, got {loss}")
        by_group = {name: self._mean(sums, indices) for name, indices in self._groups.items()}
        names = self.base.loss_parts
        found: dict[str, float] = {}
        by_clip: dict[str, tuple[float, float]] = {}
        if names:
            by_part = zip(names, zip(*parts, strict=True), strict=True)
            found = {name: self._mean(each, range(len(each))) for name, each in by_part}
            targets = [self.base.targets([example]) for example in self._validation]
            languages = {k: clips for k, clips in self._groups.items() if k.startswith("language/")}
            by_clip = {
                clip: (own / count, of_base / count)
                for clip, own, of_base, count in zip(
                    self._validation_ids, sums, self._base_sums, targets, strict=True
                )
            }
            found |= figures([*by_clip.values()], languages)
            found["official_style"] = self._official_style(slot)
        seconds = time.monotonic() - started
        return self._slot(slot).end_epoch(
            loss, by_group, seconds, parts=names, figures=found, clips=by_clip
        )

    def advance(self, slot: str) -> EpochLosses:
        """Train one slot for one epoch, alone, then validate it.

        Raises:
            DivergedError: the loss stopped being finite.
        """
        while not self.epoch_is_over(slot):
            for error in self.step([slot]).values():
                raise error
        return self.end_epoch(slot)

    def weights(self, slot: str) -> dict[str, Tensor]:
        """The adapter as it is, by PEFT's key: fp32, on the CPU."""
        self._slot(slot)
        return self._engine.weights(slot)

    def snapshot(self, slot: str) -> Snapshot:
        """What a checkpoint of the slot holds, between two optimiser steps; every rank takes it.

        Raises:
            RuntimeError: in the middle of a step.
        """
        state = self._slot(slot).state
        weights, extras = self._engine.weights(slot), self.base.adapter_extras()
        adapter = self._adapters.saved(slot, weights, extras)
        return Snapshot(adapter, self._engine.moments(slot), state)

    def speak(
        self, voices: Sequence[AdapterUse], prompts: Sequence[PromptSpec], decoding: DecodingSpec
    ) -> list[list[SpokenClip]]:
        """Say the prompts with each of ``voices``, all in one batch; a list a voice."""
        for voice in voices:
            if voice.slot is not None:
                self._slot(voice.slot)
        with self._adapters.rows.owned_by(voices):
            clips = self.base.speak(
                self._engine.model, prompts, decoding, len(voices), self._adapters.rows.share
            )
        return [clips[i : i + len(prompts)] for i in range(0, len(clips), len(prompts))]

    def answer(
        self, voices: Sequence[AdapterUse], items: Sequence[TextItem]
    ) -> list[list[ItemAnswer]]:
        """Answer the items with each of ``voices``, one after another; a list a voice.

        The passes are the same for every voice, so that an answer depends on no neighbour.
        """
        for voice in voices:
            if voice.slot is not None:
                self._slot(voice.slot)
        model, rows = self._engine.model, self._adapters.rows

        def answered(voice: AdapterUse) -> list[ItemAnswer]:
            return answer_items(
                self.base, model, items, rows.share, lambda count: rows.owned_by([voice] * count)
            )

        return [answered(voice) for voice in voices]

    def _read(self, key: StorageKey) -> Checkpoint:
        """The checkpoint; when a rank cannot read it, every rank raises, so that none goes on."""
        assert self._storage is not None, "a host without a storage has no checkpoints"
        if dist.get_world_size() == 1:
            return read_checkpoint(self._storage, key)
        saved, failure = None, None
        try:
            saved = read_checkpoint(self._storage, key)
        except Exception as error:  # noqa: BLE001 (the others have to know first)
            failure = error
        severity = 0 if failure is None else 2 if isinstance(failure, DamagedError) else 1
        worst = torch.tensor(severity, device=device_of(self.base.model))
        dist.all_reduce(worst, dist.ReduceOp.MAX)
        if worst == 2 and severity < 2:
            raise DamagedError(f"another rank found {key} damaged, and set it aside")
        if failure is not None:
            raise failure
        if saved is None or worst > 0:
            raise RuntimeError(f"another rank could not read {key}")
        return saved

    def _slot(self, slot: str) -> Slot:
        if slot not in self._slots:
            raise SlotGoneError(f"slot {slot} is not there, only {sorted(self._slots)}")
        return self._slots[slot]

    def _broken(self, what: str, error: Exception) -> HostBrokenError:
        """The error after which nobody finds a slot here, since its state is not known."""
        self._slots.clear()
        return HostBrokenError(f"{what}: {''.join(traceback.format_exception_only(error)).strip()}")

    def _pass(self, turns: Mapping[str, Turn], targets: Mapping[str, int]) -> dict[str, Tensor]:
        """Forward and backward; this rank's summed loss of each slot's micro-batch, by its parts.

        A loss is normalised over the targets of the slot's whole step, so that it does not depend
        on how the step is cut into micro-batches and ranks, nor on who shares the pass.
        """
        owners = [AdapterUse(name, dropout=self._slots[name].dropout) for name in turns]
        batches = [
            self.base.collate(turn.examples, self._slots[name].terms)
            for name, turn in turns.items()
        ]
        with self._adapters.rows.owned_by(owners):
            sums = self.base.loss_sums(self._engine.model, batches, self._adapters.rows.share)
            losses = {
                name: loss * turn.weight
                for (name, turn), loss in zip(turns.items(), sums, strict=True)
            }
            shares = [losses[name].sum() / targets[name] for name in turns]
            steps = {name: turn.step for name, turn in turns.items()}
            self._engine.backward(torch.stack(shares).sum(), steps)
        return {name: loss.detach() for name, loss in losses.items()}

    def _step_totals(
        self, turns: Mapping[str, Turn], losses: Mapping[str, Tensor]
    ) -> dict[str, list[float]]:
        """The loss of each complete step by its parts, summed over ranks; the device is waited for
        once."""
        complete = [name for name, turn in turns.items() if turn.step.last]
        if not complete:
            return {}
        totals = torch.stack(
            [self._slots[name].step_total(losses[name]).reshape(-1) for name in complete]
        )
        if dist.get_world_size() > 1:
            dist.all_reduce(totals)
        return dict(zip(complete, totals.tolist(), strict=True))

    @cached_property
    def _base_sums(self) -> list[float]:
        """Of each validation clip, the loss of the base without an adapter."""
        return [math.fsum(parts) for parts in self._validation_sums(None)]

    @torch.no_grad()
    def _official_style(self, slot: str) -> float:
        """A validation loss as upstream's script takes it, for comparison with figures that were
        published so. It is noise: the mean of the means of ten batches of clips at most, under the
        noise of training. No two trials may be ranked by it.
        """
        trained = self._slot(slot)
        draw = torch.Generator(device_of(self.base.model))
        draw.manual_seed(stream_seed(trained.training.seed, f"official, epoch {trained.epoch}"))
        order = torch.randperm(
            len(self._validation), generator=torch.Generator().manual_seed(draw.initial_seed())
        ).tolist()
        size, means = trained.training.batch_size, []
        for start in range(0, min(len(order), _OFFICIAL_BATCHES * size), size):
            examples = [self._validation[clip] for clip in order[start : start + size]]
            batch = self.base.collate(examples, LossTerms(draw=draw))
            rows = self._adapters.rows
            with rows.owned_by([AdapterUse(slot)]):
                (loss,) = self.base.loss_sums(self._engine.model, [batch], rows.share)
            means.append(loss.sum().item() / self.base.targets(examples))
        return math.fsum(means) / len(means)

    def _validation_sums(self, slot: str | None) -> list[tuple[float, ...]]:
        """Of each validation clip, the loss summed over its targets, by its parts; of the base
        alone for None."""
        if slot is not None:
            self._slot(slot)
        rows, use = self._adapters.rows, AdapterUse(slot)
        return example_losses(
            self.base,
            self._engine.model,
            self._validation,
            rows.share,
            lambda count: rows.owned_by([use] * count),
        )

    def _mean(self, sums: Sequence[float], clips: Sequence[int]) -> float:
        """Loss a target over these validation clips, summed in float64."""
        targets = self.base.targets([self._validation[clip] for clip in clips])
        return math.fsum(sums[clip] for clip in clips) / targets


_OFFICIAL_BATCHES = 10
"""As many as ``scripts/train_voxcpm_finetune.py`` takes."""
