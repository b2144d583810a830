"""Each phase of a pass breaks in one slot of a pack: its neighbours train as if it had not, to the
last bit and the last step; and so does the slot itself, where it can go on."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cluster.storage.base import LocalStorage
from jobs.spec.trial import EngineSpec
from jobs.training import adapter, checkpoint, probe
from jobs.training.engine import replicated
from jobs.training.epochs import HostBrokenError, SlotGoneError
from jobs.training.host import Host
from jobs.training.loop import HostLoop
from jobs.training.packing import PackingPlan
from tests.toy import toy_base, toy_clips, toy_trial

pytestmark = pytest.mark.usefixtures("process_group")

TRIALS = {
    "a": toy_trial(rank=4, batch_size=2, dropout=0.1, clip=0.5, seed=1),
    "bad": toy_trial(rank=8, batch_size=1, accumulation=3, clip=0.1, dropout=0.1, seed=2),
    "b": toy_trial(rank=2, batch_size=3, accumulation=2, learning_rate=1e-2, seed=3),
}
EPOCHS = 3
PATIENCE = 120.0
"""Seconds until a test is taken to hang."""
State = Mapping[str, Tensor]


class Fault(torch.OutOfMemoryError):
    """The memory is full."""


def new_host(storage: LocalStorage | None = None) -> Host:
    return Host(toy_base(hidden=64), toy_clips(), EngineSpec(), storage)


def state(host: Host | HostLoop, slot: str) -> State:
    snapshot = host.snapshot(slot)
    return {**snapshot.adapter.weights, **snapshot.moments}


@pytest.fixture(scope="module")
def undisturbed(process_group: None) -> dict[str, State]:
    """What each trial trains to, alone."""
    found = {}
    for name, trial in TRIALS.items():
        host = new_host()
        host.attach(name, trial)
        for _ in range(EPOCHS):
            host.advance(name)
        found[name] = state(host, name)
    return found


def differing(ours: State, theirs: State) -> list[str]:
    assert ours.keys() == theirs.keys()
    return [name for name in ours if not torch.equal(ours[name], theirs[name])]


class Breaking:
    """A pack whose slot ``bad`` breaks in one phase, from a moment on, so many times."""

    def __init__(self, patch: pytest.MonkeyPatch, storage: LocalStorage) -> None:
        self._patch = patch
        self.storage = storage
        self.host: Host
        self.skipped = self.times = 0
        self.steps: Counter[str] = Counter()
        """Optimiser steps, by slot."""
        self.loop = HostLoop(self._open)
        self.loop.start()
        patch.setattr(probe, "measure", lambda *_: PackingPlan(8, {1: 3, 2: 3, 3: 3}, {}, 0.0, ""))
        self.loop.measure(TRIALS["a"].training, [1, 2, 3], 8)
        for name, trial in TRIALS.items():
            self.loop.attach(name, trial)
        self.bad = self.parameters("bad")
        self._count_steps()

    def _open(self) -> Host:
        self.host = new_host(self.storage)
        return self.host

    def parameters(self, slot: str) -> list[nn.Parameter]:
        return list(self.host._adapters.parameters(slot).values())

    def _count_steps(self) -> None:
        owners = {self.parameters(slot)[0]: slot for slot in TRIALS}
        step = torch.optim.AdamW.step

        def counted(optimiser: torch.optim.AdamW, *arguments: Any) -> Any:
            done = step(optimiser, *arguments)
            self.steps[owners.get(optimiser.param_groups[0]["params"][0], "elsewhere")] += 1
            return done

        self._patch.setattr(torch.optim.AdamW, "step", counted)

    def raise_if_due(self) -> None:
        """The slot's phase has come."""
        if self.skipped > 0:
            self.skipped -= 1
        elif self.times > 0:
            self.times -= 1
            raise Fault

    def is_bad(self, parameters: Any) -> bool:
        return any(each is self.bad[0] for each in parameters)

    # the phases

    def forward(self) -> None:
        original = adapter.add_adapters
        first = self.bad[0]

        def failing(result: Tensor, x: Tensor, parts: Any, weights: Any) -> Tensor:
            if torch.is_grad_enabled() and any(first is a for a, _ in weights):
                self.raise_if_due()
            return original(result, x, parts, weights)

        self._patch.setattr(adapter, "add_adapters", failing)

    def backward(self) -> None:
        # Of the layer furthest from the loss, so that the neighbours have gradients by then.
        self.bad[0].register_hook(lambda _: self.raise_if_due())

    def after_backward(self) -> None:
        original = self.host._step_totals

        def failing(turns: Any, losses: Any) -> dict[str, list[float]]:
            if "bad" in turns:
                self.raise_if_due()
            return original(turns, losses)

        self._patch.setattr(self.host, "_step_totals", failing)

    def accumulation(self) -> None:
        original = torch._foreach_add_
        optimiser = self.host._engine._slots.by_name["bad"]  # type: ignore[attr-defined]

        def failing(gradients: list[Tensor], *rest: Any) -> None:
            if gradients is optimiser._gradients:
                self.raise_if_due()
            original(gradients, *rest)

        self._patch.setattr(torch, "_foreach_add_", failing)

    def clip(self) -> None:
        original = nn.utils.clip_grad_norm_

        def failing(parameters: Any, norm: float) -> Tensor:
            if self.is_bad(parameters):
                self.raise_if_due()
            return original(parameters, norm)

        self._patch.setattr(nn.utils, "clip_grad_norm_", failing)

    def step(self) -> None:
        original = torch.optim.AdamW.step

        def failing(optimiser: torch.optim.AdamW, *arguments: Any) -> Any:
            done = original(optimiser, *arguments)
            if self.is_bad(optimiser.param_groups[0]["params"]):
                self.raise_if_due()  # too late to leave anything as it was
            return done

        self._patch.setattr(torch.optim.AdamW, "step", failing)

    def engine(self) -> None:
        original = self.host._engine.model.step

        def failing() -> None:
            original()
            self.raise_if_due()

        self._patch.setattr(self.host._engine.model, "step", failing)

    # the story

    def train(self) -> dict[str, Exception | None]:
        """Train all slots to the end, beside each other, committing every epoch."""
        all_there = threading.Event()
        with ThreadPoolExecutor(len(TRIALS) + 1) as threads:
            # The first pass has all of them: until then the loop is kept busy.
            threads.submit(self.loop._call, "waiting", lambda _: all_there.wait(PATIENCE))
            futures = {slot: threads.submit(self._train, slot) for slot in TRIALS}
            with self.loop._changed:
                self.loop._changed.wait_for(
                    lambda: len(self.loop._advancing) == len(TRIALS), PATIENCE
                )
            all_there.set()
            return {slot: future.exception(PATIENCE) for slot, future in futures.items()}  # type: ignore[misc]

    def _train(self, slot: str) -> None:
        for epoch in range(EPOCHS):
            self.go_on(self.loop, slot, epoch)

    def go_on(self, loop: HostLoop | Host, slot: str, epoch: int) -> None:
        losses = loop.advance(slot)
        with self.storage.commit(f"{slot}-{epoch}") as directory:
            loop.snapshot(slot).write(directory, losses)


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Breaking]:
    started = Breaking(monkeypatch, LocalStorage(tmp_path))
    yield started
    monkeypatch.undo()
    started.loop.close()


def steps(slot: str, epochs: int = EPOCHS) -> int:
    training = TRIALS[slot].training
    return -(-7 // (training.batch_size * training.accumulation)) * epochs


PASS = [Breaking.forward, Breaking.backward, Breaking.after_backward]
OPTIMISER = [Breaking.accumulation, Breaking.clip, Breaking.step]


@pytest.mark.parametrize("phase", PASS)
@pytest.mark.parametrize("times", [1, 2], ids=["in the pack", "in the pack and alone"])
def test_a_pass_that_fails_is_made_again_and_fails_its_slot_alone(
    pack: Breaking, undisturbed: dict[str, State], phase: Callable[[Breaking], None], times: int
):
    """In the second of a step's three micro-batches: what was accumulated stays."""
    phase(pack)
    pack.skipped, pack.times = 1, times
    ended = pack.train()
    assert pack.times == 0
    assert (ended["a"], ended["b"]) == (None, None)
    if times == 1:
        assert ended["bad"] is None
    else:
        assert isinstance(ended["bad"], Fault)
        while pack.steps["bad"] < steps("bad"):
            pack.loop.advance("bad")
    assert pack.steps == {slot: steps(slot) for slot in TRIALS}
    for slot in TRIALS:
        assert differing(state(pack.loop, slot), undisturbed[slot]) == [], slot


@pytest.mark.parametrize("phase", OPTIMISER)
def test_an_optimiser_that_fails_fails_its_slot_alone(
    pack: Breaking, undisturbed: dict[str, State], phase: Callable[[Breaking], None]
):
    """In its second epoch; it goes on from its commit."""
    phase(pack)
    pack.skipped, pack.times = 4, 1
    ended = pack.train()
    assert (ended["a"], ended["b"]) == (None, None)
    assert isinstance(ended["bad"], Fault)
    for slot in ("a", "b"):
        assert pack.steps[slot] == steps(slot)
        assert differing(state(pack.loop, slot), undisturbed[slot]) == [], slot
    for use in (pack.loop.advance, pack.loop.snapshot):
        with pytest.raises(SlotGoneError):
            use("bad")
    pack.loop.detach("bad")
    pack.loop.attach("bad", TRIALS["bad"], "bad-0")
    for epoch in range(1, EPOCHS):
        pack.go_on(pack.loop, "bad", epoch)
    assert differing(state(pack.loop, "bad"), undisturbed["bad"]) == []


def test_where_it_is_not_known_who_has_moved_the_host_breaks(
    pack: Breaking, undisturbed: dict[str, State]
):
    """Every trial goes on elsewhere, from its commit."""
    pack.engine()
    pack.skipped, pack.times = 4, 1
    ended = pack.train()
    assert all(isinstance(error, HostBrokenError) for error in ended.values())
    assert all("the optimisers did not all step: " in str(error) for error in ended.values())
    for use in (pack.loop.advance, pack.loop.snapshot, pack.loop.detach):
        with pytest.raises(HostBrokenError):
            use("a")
    with pytest.raises(SlotGoneError):
        pack.host.snapshot("a")
    elsewhere = new_host(pack.storage)
    for slot, trial in TRIALS.items():
        done = sum(pack.storage.is_committed(f"{slot}-{epoch}") for epoch in range(EPOCHS))
        assert done < EPOCHS
        elsewhere.attach(slot, trial, f"{slot}-{done - 1}" if done else None)
        for epoch in range(done, EPOCHS):
            pack.go_on(elsewhere, slot, epoch)
        assert differing(state(elsewhere, slot), undisturbed[slot]) == [], slot


def test_a_commit_that_fails_changes_nothing_of_the_slot(
    pack: Breaking, undisturbed: dict[str, State], monkeypatch: pytest.MonkeyPatch
):
    pack.loop.advance("bad")

    def write(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(checkpoint, "save_tensors", write)
    with pytest.raises(OSError, match="no space"), pack.storage.commit("bad-0") as directory:
        pack.loop.snapshot("bad").write(directory, None)
    monkeypatch.undo()
    assert not pack.storage.is_committed("bad-0")
    for epoch in range(1, EPOCHS):
        pack.go_on(pack.loop, "bad", epoch)
    assert differing(state(pack.loop, "bad"), undisturbed["bad"]) == []


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_at_a_stage_that_partitions_a_failed_pass_breaks_the_host(zero_stage: int):
    """Which has one slot: DeepSpeed cannot take back a part of a pass."""
    trial = toy_trial(zero_stage=zero_stage, dropout=0.0)
    host = Host(toy_base(), toy_clips(), EngineSpec(zero_stage=zero_stage))
    host.attach("s", trial)
    hook = next(iter(host._adapters.parameters("s").values())).register_hook(_fail)
    with pytest.raises(HostBrokenError, match="a pass failed that cannot be taken back: "):
        host.step(["s"])
    hook.remove()
    with pytest.raises(SlotGoneError):
        host.step(["s"])


def _fail(_: Tensor) -> None:
    raise Fault


def test_optimiser_state_is_there_from_the_start():
    """So that no step has to find memory for it: one of a pack's might not."""
    host = new_host()
    host.attach("a", TRIALS["a"])
    moments = host.snapshot("a").moments
    assert len(moments) == 2 * 28
    assert not any(tensor.any() for tensor in moments.values())


class TwoRanks:
    """As if another rank did the same: what is added up doubles."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.fails_at = -1

    def namespace(self) -> SimpleNamespace:
        return SimpleNamespace(get_world_size=lambda: 2, all_reduce=self._all_reduce)

    def _all_reduce(self, values: Tensor) -> None:
        if len(self.sizes) == self.fails_at:
            raise Fault
        self.sizes.append(values.numel())
        values.mul_(2)


def test_gradients_are_added_up_over_ranks_once_a_step_each_slots_alone(
    monkeypatch: pytest.MonkeyPatch,
):
    ranks = TwoRanks()
    monkeypatch.setattr(replicated, "dist", ranks.namespace())
    host = new_host()
    sizes = {}
    for slot, trial in TRIALS.items():
        host.attach(slot, trial)
        sizes[slot] = sum(p.numel() for p in host._adapters.parameters(slot).values())
    for _ in range(3):
        host.step(list(TRIALS))
    # Of 1, 3 and 2 micro-batches a step; the last step of b's epoch has 1.
    assert ranks.sizes == [sizes[slot] for slot in ("a", "a", "b", "a", "bad", "b")]
    alone = new_host()
    alone.attach("b", TRIALS["b"])
    for _ in range(3):
        alone.step(["b"])
    assert differing(host.weights("b"), alone.weights("b")) == []


def test_a_reduction_that_fails_breaks_the_host(monkeypatch: pytest.MonkeyPatch):
    """The other ranks may have stepped the slot."""
    ranks = TwoRanks()
    ranks.fails_at = 1
    monkeypatch.setattr(replicated, "dist", ranks.namespace())
    host = new_host()
    for slot in ("a", "b"):
        host.attach(slot, TRIALS[slot])
    host.step(["a", "b"])
    with pytest.raises(HostBrokenError, match="the optimisers did not all step: "):
        host.step(["a", "b"])
    with pytest.raises(SlotGoneError):
        host.weights("a")
