"""A host's loop without a model: it does what a test tells it, when the test lets it."""

import asyncio
import errno
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray

from cluster.storage.base import StorageKey, open_storage
from jobs.clips import ItemAnswer, SpokenClip
from jobs.spec.items import TextItem
from jobs.spec.trial import (
    DecodingSpec,
    EngineSpec,
    HostSpec,
    PromptSpec,
    TrainingSpec,
    TrialSpec,
)
from jobs.training.epochs import (
    DivergedError,
    EpochLosses,
    HostBrokenError,
    SlotGoneError,
    SlotState,
    write_losses,
)
from jobs.training.loop import EpochCutError
from jobs.training.packing import AdapterUse, HostProgress, PackingPlan
from orchestrator.hosts.rank_group import End, HostTask

STAGE = "stage"


class Stage:
    """A named actor: hears of all that the loops do, holds them up, and says what is to happen."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._held: set[str] = set()
        self._happened: list[str] = []
        self._orders: dict[str, str] = {}

    async def hold(self, event: str) -> None:
        """Let this wait when it comes."""
        self._held.add(event)

    async def let(self, event: str) -> None:
        async with self._changed:
            self._held.discard(event)
            self._changed.notify_all()

    async def order(self, event: str, what: str) -> None:
        """Have this end so the next time."""
        self._orders[event] = what

    async def happen(self, event: str) -> str:
        """Called by a loop; how it is to go on."""
        async with self._changed:
            self._happened.append(event)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: event not in self._held)
            return self._orders.pop(event, "")

    async def wait_for(self, event: str, times: int = 1) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._happened.count(event) >= times)

    async def happened(self) -> list[str]:
        return list(self._happened)


@dataclass
class FakeSnapshot:
    write_happens: Callable[[], str]
    state = SlotState(seed=0, epoch=0, steps=3)

    def write(self, directory: Path, losses: EpochLosses | None) -> None:
        if self.write_happens() == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if losses is not None:
            write_losses(directory, losses)


class FakeLoop:
    """Events: ``open PID``, and ``attach``, ``advance``, ``write``, ``cut``, ``speak`` with the
    trial's id."""

    def __init__(self, task: HostTask, end: End) -> None:
        self._task, self._end = task, end
        self._storage = open_storage(task.storage_url)
        self._stage = ray.get_actor(STAGE)
        self._slots: dict[str, tuple[str, int]] = {}
        self._turns, self._doing, self._since = 0, "", 0.0
        self._happen(f"open {os.getpid()}")
        if task.host.source == "missing":
            raise FileNotFoundError("no base there")

    def measure(
        self, training: TrainingSpec, batch_sizes: Sequence[int], slots: int | None
    ) -> PackingPlan:
        return PackingPlan(slots or 2, {}, {}, 0.0, "a fake packs nothing")

    def attach(self, slot: str, trial: TrialSpec, checkpoint: StorageKey | None) -> None:
        self._happen(f"attach {trial.id}")
        assert len(self._slots) < (self._task.slots or 2), f"no slot is free: {self._slots}"
        epoch = int(checkpoint.rpartition("epoch-")[2][:3]) if checkpoint else 0
        epoch -= "-step-" in (checkpoint or "")
        if checkpoint is not None:
            with self._storage.borrow(checkpoint):
                pass
        self._slots[slot] = (trial.id, epoch)

    def detach(self, slot: str) -> None:
        if slot in self._slots:
            trial, _ = self._slots.pop(slot)
            self._happen(f"detach {trial}")

    def advance(self, slot: str) -> EpochLosses:
        trial, epoch = self._slot(slot)
        order = self._happen(f"advance {trial}")
        if order == "diverge":
            raise DivergedError("the loss must be finite, got nan")
        if order == "cut":
            raise EpochCutError(self.snapshot(slot))  # type: ignore[arg-type]
        if order == "fail":
            raise ValueError("too large a batch")
        if order == "spoil":
            raise type("AcceleratorError", (RuntimeError,), {})("an illegal memory access")
        if order == "break itself":
            raise HostBrokenError("the optimisers did not all step")
        if order == "die":
            os._exit(1)
        if order == "break":
            self._end("a rank died")
            raise RuntimeError("connection closed by peer")
        self._slot(slot)
        self._slots[slot] = (trial, epoch + 1)
        return EpochLosses(epoch + 1, 1.0, 1.0, (1.0,), (0.1,), 0.0, 0.0)

    def cut(self, slot: str) -> None:
        if slot in self._slots:
            self._happen(f"cut {self._slots[slot][0]}")

    def snapshot(self, slot: str) -> FakeSnapshot:
        trial, _ = self._slot(slot)
        return FakeSnapshot(lambda: self._happen(f"write {trial}"))

    def speak(
        self, voices: Sequence[AdapterUse], prompts: Sequence[PromptSpec], decoding: DecodingSpec
    ) -> list[list[SpokenClip]]:
        for voice in voices:
            trial, epoch = self._slot(voice.slot or "")
            self._happen(f"speak {trial} {epoch} {voice.lora_scale}")
        silence = np.zeros(0, dtype=np.float32)
        return [[SpokenClip(silence, 16_000, p.text, True) for p in prompts] for _ in voices]

    def answer(
        self, voices: Sequence[AdapterUse], items: Sequence[TextItem]
    ) -> list[list[ItemAnswer]]:
        return [[ItemAnswer(item, (-voice.lora_scale,)) for item in items] for voice in voices]

    def progress(self) -> HostProgress:
        seconds = time.monotonic() - self._since if self._doing else 0.0
        return HostProgress(self._turns, self._doing, seconds)

    def _slot(self, slot: str) -> tuple[str, int]:
        if slot not in self._slots:
            raise SlotGoneError(f"slot {slot} is not there")
        return self._slots[slot]

    def _happen(self, event: str) -> str:
        self._doing, self._since = event, time.monotonic()
        order: str = ray.get(self._stage.happen.remote(event))
        self._turns, self._doing = self._turns + 1, ""
        return order


def fake_task(
    storage: Path, slots: int = 2, lease_seconds: float = 600.0, source: str = ""
) -> HostTask:
    return HostTask(
        host=HostSpec(family="", source=source, codec="", voice=None, precision="fp32"),
        engine=EngineSpec(),
        storage_url=str(storage),
        data_key="",
        slots=slots,
        training=TrainingSpec(),
        batch_sizes=(4,),
        lease_seconds=lease_seconds,
        provenance="a synthetic voice",
    )


def fake_trial(seed: int) -> TrialSpec:
    return TrialSpec(
        family="",
        base_digest="",
        data_digest="",
        training=TrainingSpec(seed=seed),
        engine=EngineSpec(),
    )
