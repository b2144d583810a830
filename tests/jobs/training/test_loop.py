"""Whoever asks a host for work gets it in turn; nobody waits for ever, or for another's fault."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cluster.storage.base import LocalStorage, StorageKey
from jobs.clips import ItemAnswer, SpokenClip
from jobs.spec.items import PassageItem, TextItem
from jobs.spec.trial import DecodingSpec, EngineSpec, PromptSpec, TrainingSpec, TrialSpec
from jobs.training import loop as loop_module
from jobs.training import probe
from jobs.training.adapter import SavedAdapter
from jobs.training.checkpoint import Snapshot
from jobs.training.epochs import (
    DivergedError,
    EpochLosses,
    SlotGoneError,
    SlotState,
)
from jobs.training.host import Host
from jobs.training.loop import EpochCutError, HostLoop
from jobs.training.packing import AdapterUse, PackingPlan
from tests.toy import toy_base, toy_clips, toy_trial

PROMPTS = [PromptSpec(id="p", text="one"), PromptSpec(id="q", text="two")]
GREEDY = DecodingSpec()
SAMPLED = DecodingSpec(temperature=1.0)
SNAPSHOT = Snapshot(SavedAdapter({}, {}, None), {}, SlotState(seed=0, epoch=0, steps=0))
PATIENCE = 60.0
"""Seconds until a test is taken to hang."""
FOREVER = 10**9


class ScriptedHost:
    """Does no work, and notes what it was asked for."""

    def __init__(self) -> None:
        self.log: list[tuple[str, ...]] = []
        self.passes_an_epoch: dict[str, int] = {}
        self.faulty: dict[str, Exception] = {}
        """Slots whose passes fail."""
        self.diverging: set[str] = set()
        self.stuck, self.freed = threading.Event(), threading.Event()
        self.on_copy: Callable[[], None] = lambda: None
        self.stepped = threading.Event()
        self._taken: Counter[str] = Counter()

    def attach(self, slot: str, trial: TrialSpec, checkpoint: StorageKey | None = None) -> None:
        self.log.append(("attach", slot))
        if slot == "stuck":
            self.stuck.set()
            assert self.freed.wait(PATIENCE)

    def detach(self, slot: str) -> None:
        self.log.append(("detach", slot))

    def step(self, slots: Sequence[str]) -> Mapping[str, DivergedError]:
        self.log.append(("step", *slots))
        self.stepped.set()
        for slot in slots:
            if slot in self.faulty:
                raise self.faulty[slot]
        lost = {slot: DivergedError(slot) for slot in slots if slot in self.diverging}
        self._taken.update(slot for slot in slots if slot not in lost)
        return lost

    def epoch_is_over(self, slot: str) -> bool:
        return self._taken[slot] >= self.passes_an_epoch[slot]

    def is_within_step(self, slot: str) -> bool:
        return False

    def end_epoch(self, slot: str) -> EpochLosses:
        self.log.append(("validate", slot))
        if slot == "poor":
            raise DivergedError("the validation loss must be finite")
        return EpochLosses(1, 0.0, 0.0, (), (), 0.0, 0.0)

    def snapshot(self, slot: str) -> Snapshot:
        self.log.append(("copy", slot))
        self.on_copy()
        return SNAPSHOT

    def speak(
        self, voices: Sequence[AdapterUse], prompts: Sequence[PromptSpec], decoding: DecodingSpec
    ) -> list[list[SpokenClip]]:
        self.log.append(("speak", *(str(voice.slot) for voice in voices)))
        if any(voice.slot == "gone" for voice in voices):
            raise SlotGoneError("slot gone is not there")
        silence = np.zeros(0, dtype=np.float32)
        return [
            [SpokenClip(silence, 1, f"{v.slot}: {p.id}", True) for p in prompts] for v in voices
        ]

    def answer(
        self, voices: Sequence[AdapterUse], items: Sequence[TextItem]
    ) -> list[list[ItemAnswer]]:
        self.log.append(("answer", *(str(voice.slot) for voice in voices)))
        return [[ItemAnswer(item, (float(len(v.slot or "")),)) for item in items] for v in voices]

    @property
    def passes(self) -> list[tuple[str, ...]]:
        return [entry[1:] for entry in self.log if entry[0] == "step"]


@pytest.fixture
def host() -> ScriptedHost:
    return ScriptedHost()


@pytest.fixture
def loop(host: ScriptedHost) -> Iterator[HostLoop]:
    started = HostLoop(lambda: host)
    started.start()
    yield started
    host.freed.set()
    started.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def pack_by(
    loop: HostLoop,
    widths: Mapping[int, int],
    monkeypatch: pytest.MonkeyPatch,
    difference: float = 0.0,
) -> None:
    """Have the loop find these widths."""
    plan = PackingPlan(8, widths, {}, difference, "as the test says")
    monkeypatch.setattr(probe, "measure", lambda *_: plan)
    assert loop.measure(TrainingSpec(), list(widths), 8) is plan


def attach(loop: HostLoop, host: ScriptedHost, sizes: Mapping[str, int], passes: int = 1) -> None:
    """Slots by their batch sizes."""
    for slot, batch_size in sizes.items():
        host.passes_an_epoch[slot] = passes
        loop.attach(slot, toy_trial(batch_size=batch_size))
    host.log.clear()


def until(loop: HostLoop, what: Callable[[], bool]) -> None:
    """Wait for calls to have come in, while the loop's thread is stuck elsewhere."""
    with loop._changed:
        assert loop._changed.wait_for(what, PATIENCE)


@contextmanager
def stuck(
    loop: HostLoop, host: ScriptedHost, threads: ThreadPoolExecutor
) -> Iterator[Future[None]]:
    """For the block, the host does not come back from an attach."""
    attaching = threads.submit(loop.attach, "stuck", toy_trial())
    assert host.stuck.wait(PATIENCE)
    host.log.clear()
    yield attaching
    host.freed.set()


def asked(
    loop: HostLoop, threads: ThreadPoolExecutor, *calls: Callable[[], Any]
) -> list[Future[Any]]:
    """Make the calls from threads of their own, each once the one before it is in the queue."""
    futures = []
    for call in calls:
        before = len(loop._queue) + len(loop._advancing)
        futures.append(threads.submit(call))
        until(loop, lambda n=before: len(loop._queue) + len(loop._advancing) > n)  # type: ignore[misc]
    return futures


def result(future: Future[Any]) -> Any:
    return future.result(PATIENCE)


def failure(future: Future[Any]) -> BaseException | None:
    return future.exception(PATIENCE)


def test_start_raises_what_opening_raised_and_nobody_waits_for_such_a_loop():
    def fail() -> ScriptedHost:
        raise FileNotFoundError("no base here")

    loop = HostLoop(fail)
    with pytest.raises(FileNotFoundError, match="no base here"):
        loop.start()
    with pytest.raises(SlotGoneError):
        loop.attach("a", toy_trial())
    with pytest.raises(SlotGoneError):
        loop.advance("a")
    loop.close()


def test_the_host_is_opened_and_used_on_one_thread():
    used: list[int] = []

    class Noting(ScriptedHost):
        def __init__(self) -> None:
            super().__init__()
            used.append(threading.get_ident())

        def attach(self, slot: str, trial: TrialSpec, checkpoint: StorageKey | None = None) -> None:
            used.append(threading.get_ident())

    loop = HostLoop(Noting)
    loop.start()
    loop.attach("a", toy_trial())
    loop.close()
    assert len(used) == 2
    assert len(set(used)) == 1
    assert threading.get_ident() not in used


def test_work_is_done_first_come_first_served_and_before_the_next_pass(loop, host, threads):
    attach(loop, host, {"a": 1, "b": 1})
    with stuck(loop, host, threads):
        futures = asked(
            loop,
            threads,
            lambda: loop.advance("a"),
            lambda: loop.snapshot("b"),
            lambda: loop.detach("b"),
            lambda: loop.attach("c", toy_trial()),
        )
    assert [failure(future) for future in futures] == [None] * 4
    assert host.log == [
        ("copy", "b"),
        ("detach", "b"),
        ("attach", "c"),
        ("step", "a"),
        ("validate", "a"),
    ]
    assert loop._batch_sizes.keys() == {"a", "c", "stuck"}


def test_unmeasured_slots_train_one_after_another(loop, host, threads):
    attach(loop, host, {"a": 1, "b": 1}, passes=2)
    with stuck(loop, host, threads):
        futures = asked(loop, threads, lambda: loop.advance("a"), lambda: loop.advance("b"))
    assert [result(future).epoch for future in futures] == [1, 1]
    assert host.passes == [("a",), ("b",), ("a",), ("b",)]


def test_packs_keep_to_the_widths_of_all_that_are_in_them(loop, host, threads, monkeypatch):
    pack_by(loop, {2: 2, 4: 3, 8: 1}, monkeypatch, difference=0.25)
    attach(loop, host, {"a": 2, "b": 2, "c": 4, "d": 8}, passes=2)
    with stuck(loop, host, threads):
        futures = asked(loop, threads, *(lambda s=s: loop.advance(s) for s in "abcd"))
    assert [result(future).epoch for future in futures] == [1] * 4
    assert [result(future).pack_difference for future in futures] == [0.25, 0.25, 0.25, None]
    assert host.passes == [
        ("a", "b"),  # two of batch size 2 may share
        ("c", "a"),  # three may, but not with one that wants two at most
        ("d",),  # of a batch size at which packs do not pay
        ("b", "c"),
        ("d",),
    ]


def test_everyone_gets_turns_whatever_the_packs(loop, host, threads, monkeypatch):
    pack_by(loop, {2: 3, 7: 1}, monkeypatch)
    slots = {"a": 2, "b": 2, "c": 2, "d": 2, "e": 2, "lone": 7}
    attach(loop, host, slots, passes=30)
    with stuck(loop, host, threads):
        futures = asked(loop, threads, *(lambda s=s: loop.advance(s) for s in slots))
    assert [result(future).epoch for future in futures] == [1] * 6
    passes = host.passes
    assert {len(each) for each in passes} >= {1, 3}
    for slot in slots:
        turns = [number for number, each in enumerate(passes) if slot in each]
        assert len(turns) == 30
        # Whoever waited longest is in the next pass: nobody waits for more than one of each.
        waits = [later - earlier for earlier, later in pairwise([-1, *turns])]
        assert max(waits) <= len(slots)


def test_a_slot_detached_while_it_is_advanced_is_told_so(loop, host, threads):
    attach(loop, host, {"a": 1, "b": 1}, passes=FOREVER)
    advancing = threads.submit(loop.advance, "a")
    other = threads.submit(loop.advance, "b")
    assert host.stepped.wait(PATIENCE)
    loop.detach("a")
    assert isinstance(failure(advancing), SlotGoneError)
    assert not other.done()
    with pytest.raises(SlotGoneError, match=r"slot a is not there, only \['b'\]"):
        loop.advance("a")
    loop.detach("b")
    assert isinstance(failure(other), SlotGoneError)


def test_a_slot_is_advanced_by_one_at_a_time(loop, host, threads):
    attach(loop, host, {"a": 1})
    with stuck(loop, host, threads):
        (first,) = asked(loop, threads, lambda: loop.advance("a"))
        with pytest.raises(RuntimeError, match="being advanced already"):
            loop.advance("a")
    assert result(first).epoch == 1


def test_an_error_in_a_pack_is_that_of_one_slot_alone(loop, host, threads, monkeypatch):
    pack_by(loop, {1: 8}, monkeypatch)
    attach(loop, host, {"a": 1, "bad": 1, "b": 1}, passes=2)
    host.faulty["bad"] = MemoryError("too much")
    with stuck(loop, host, threads):
        a, bad, b = asked(loop, threads, *(lambda s=s: loop.advance(s) for s in ("a", "bad", "b")))
    assert failure(bad) is host.faulty["bad"]
    assert [result(a).epoch, result(b).epoch] == [1, 1]
    assert host.passes == [("a", "bad", "b"), ("a",), ("bad",), ("b",), ("a", "b")]


@pytest.mark.parametrize("slot", ["bad", "poor"])
def test_divergence_ends_one_slot_alone(loop, host, threads, monkeypatch, slot):
    """In a step, or in the validation."""
    pack_by(loop, {1: 8}, monkeypatch)
    attach(loop, host, {"a": 1, slot: 1, "b": 1}, passes=1)
    host.diverging = {"bad"}
    with stuck(loop, host, threads):
        a, lost, b = asked(loop, threads, *(lambda s=s: loop.advance(s) for s in ("a", slot, "b")))
    assert isinstance(failure(lost), DivergedError)
    assert [result(a).epoch, result(b).epoch] == [1, 1]
    assert host.passes == [("a", slot, "b")]


def test_an_errand_that_fails_fails_its_caller_alone(loop, host):
    attach(loop, host, {"a": 1})
    error = OSError("no checkpoint")

    def fail() -> None:
        raise error

    host.on_copy = fail
    with pytest.raises(OSError, match="no checkpoint"):
        loop.snapshot("a")
    host.on_copy = lambda: None
    assert loop.snapshot("a") is SNAPSHOT


def texts(clips: list[list[SpokenClip]]) -> list[list[str]]:
    return [[clip.text for clip in each] for each in clips]


def said(*slots: str) -> list[list[str]]:
    return [[f"{slot}: p", f"{slot}: q"] for slot in slots]


def test_requests_that_differ_in_their_voices_alone_share_a_batch(loop, host, threads):
    with stuck(loop, host, threads):
        futures = asked(
            loop,
            threads,
            lambda: loop.speak([AdapterUse("a"), AdapterUse("b", 0.5)], PROMPTS, GREEDY),
            lambda: loop.speak([AdapterUse("c")], PROMPTS, SAMPLED),
            lambda: loop.speak([AdapterUse("d")], PROMPTS, GREEDY),
            lambda: loop.speak([AdapterUse("e")], PROMPTS[:1], GREEDY),
            lambda: loop.speak([AdapterUse("f")], PROMPTS, SAMPLED),
        )
    a_and_b, c, d, e, f = (texts(result(future)) for future in futures)
    assert a_and_b == said("a", "b")
    assert (c, d, f) == (said("c"), said("d"), said("f"))
    assert e == [["e: p"]]
    assert host.log == [("speak", "a", "b", "d"), ("speak", "c", "f"), ("speak", "e")]


def test_a_batch_of_speech_is_not_filled_beyond_what_fits(loop, host, threads, monkeypatch):
    monkeypatch.setattr(loop_module, "_MOST_ROWS", 5)
    with stuck(loop, host, threads):
        requests = [lambda s=s: loop.speak([AdapterUse(s)], PROMPTS, GREEDY) for s in "abc"]
        futures = asked(loop, threads, *requests)
    assert [texts(result(future)) for future in futures] == [said("a"), said("b"), said("c")]
    assert host.log == [("speak", "a", "b"), ("speak", "c")]


def test_a_voice_that_is_gone_silences_its_own_request_alone(loop, host, threads):
    with stuck(loop, host, threads):
        requests = [
            lambda s=s: loop.speak([AdapterUse(s)], PROMPTS, GREEDY) for s in ("a", "gone", "b")
        ]
        a, gone, b = asked(loop, threads, *requests)
    assert (texts(result(a)), texts(result(b))) == (said("a"), said("b"))
    assert isinstance(failure(gone), SlotGoneError)
    assert host.log == [("speak", "a", "gone", "b"), *((("speak", s)) for s in ("a", "gone", "b"))]


def test_progress_is_told_while_the_host_is_stuck(loop, host, threads):
    assert (loop.progress().finished, loop.progress().doing) == (0, "")
    assert loop.progress().seconds == 0.0
    with stuck(loop, host, threads):
        first, second = loop.progress(), loop.progress()
        assert (first.finished, first.doing) == (0, "attaching stuck")
        assert 0 <= first.seconds <= second.seconds
        assert second.finished == 0


def test_progress_counts_every_finished_piece(loop, host):
    seen: list[tuple[int, str]] = []
    host.on_copy = lambda: seen.append((loop.progress().finished, loop.progress().doing))
    attach(loop, host, {"a": 1}, passes=3)
    loop.snapshot("a")
    loop.advance("a")
    loop.snapshot("a")
    loop.speak([AdapterUse("a")], PROMPTS, GREEDY)
    loop.snapshot("a")
    item = PassageItem(id="t", text="A text.")
    assert loop.answer([AdapterUse("a")], [item]) == [[ItemAnswer(item, (1.0,))]]
    loop.snapshot("a")
    # An attach; the copy, three passes and the validation; the copy and the speech; the copy and
    # the answers.
    assert [each for each, _ in seen] == [1, 6, 8, 10]
    assert {doing for _, doing in seen} == {"copying a"}


def test_closing_leaves_nobody_waiting(loop, host, threads):
    attach(loop, host, {"a": 1})
    with stuck(loop, host, threads) as in_hand:
        waiting = asked(
            loop,
            threads,
            lambda: loop.advance("a"),
            lambda: loop.snapshot("a"),
            lambda: loop.speak([AdapterUse("a")], PROMPTS, GREEDY),
            lambda: loop.attach("b", toy_trial()),
        )
        closing = threads.submit(loop.close)
        until(loop, lambda: loop._is_closed)
    result(in_hand)
    result(closing)
    assert all(isinstance(failure(future), SlotGoneError) for future in waiting)
    assert host.log == []
    for late in (lambda: loop.advance("a"), lambda: loop.snapshot("a")):
        with pytest.raises(SlotGoneError):
            late()


# With a real host.

SLOTS = {
    "a": toy_trial(rank=4, batch_size=2, dropout=0.1, seed=1),
    "b": toy_trial(rank=8, batch_size=3, accumulation=2, clip=0.1, seed=2),
    "c": toy_trial(rank=2, batch_size=2, dropout=0.2, learning_rate=1e-2, seed=3),
}
EPOCHS = 3


def new_host(storage: LocalStorage | None = None) -> Host:
    return Host(toy_base(hidden=64), toy_clips(), EngineSpec(), storage)


def checkpoint(snapshot: Snapshot) -> dict[str, Tensor]:
    return {**snapshot.adapter.weights, **snapshot.moments}


def without_times(losses: Sequence[EpochLosses]) -> list[tuple[Any, ...]]:
    return [(e.epoch, e.training_loss, e.validation_loss, e.step_losses) for e in losses]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


@pytest.fixture
def real(
    process_group: None, monkeypatch: pytest.MonkeyPatch, storage: LocalStorage
) -> Iterator[HostLoop]:
    started = HostLoop(lambda: new_host(storage))
    started.start()
    pack_by(started, {2: 3, 3: 3}, monkeypatch)
    yield started
    started.close()


def test_slots_advanced_by_threads_at_once_train_as_alone(real, threads):
    for slot, trial in SLOTS.items():
        real.attach(slot, trial)

    def train(slot: str) -> list[EpochLosses]:
        return [real.advance(slot) for _ in range(EPOCHS)]

    futures = {slot: threads.submit(train, slot) for slot in SLOTS}
    for slot, trial in SLOTS.items():
        losses = result(futures[slot])
        host = new_host()
        host.attach("alone", trial)
        alone = [host.advance("alone") for _ in range(EPOCHS)]
        assert without_times(losses) == without_times(alone)
        ours, theirs = checkpoint(real.snapshot(slot)), checkpoint(host.snapshot("alone"))
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_a_slot_that_speaks_leaves_and_comes_back_trains_as_alone(real, threads, storage):
    host = new_host()
    for slot, trial in SLOTS.items():
        real.attach(slot, trial)
        host.attach(slot, trial)
    others = [threads.submit(lambda s=s: [real.advance(s) for _ in range(EPOCHS)]) for s in "bc"]
    losses = real.advance("a")
    with storage.commit("a") as directory:
        real.snapshot("a").write(directory, losses)
    spoken = real.speak([AdapterUse("a"), AdapterUse(None)], PROMPTS, GREEDY)
    real.detach("a")
    real.attach("a", SLOTS["a"], "a")
    real.advance("a")
    host.advance("a")
    expected = host.speak([AdapterUse("a"), AdapterUse(None)], PROMPTS, GREEDY)
    host.advance("a")
    ours, theirs = checkpoint(real.snapshot("a")), checkpoint(host.snapshot("a"))
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    for mine, whole in zip(spoken, expected, strict=True):
        assert [c.audio.tolist() for c in mine] == [c.audio.tolist() for c in whole]
    assert [len(result(future)) for future in others] == [EPOCHS, EPOCHS]


class Pausing(Host):
    """Waits after one of its passes until it is let go on."""

    pause_after = 0
    paused, freed = threading.Event(), threading.Event()

    def step(self, slots: Sequence[str]) -> dict[str, Exception]:
        lost = super().step(slots)
        self.pause_after -= 1
        if self.pause_after == 0:
            self.paused.set()
            assert self.freed.wait(PATIENCE)
        return lost


@pytest.mark.parametrize(("passes", "steps"), [(1, {"a": 1, "b": 1}), (2, {"a": 2, "b": 1})])
def test_an_epoch_cut_short_goes_on_elsewhere_to_the_same_bits(
    process_group, threads, monkeypatch, storage, passes, steps
):
    """After the optimiser step in hand, of which slot b has two micro-batches."""
    host = Pausing(toy_base(hidden=64), toy_clips(), EngineSpec())
    host.pause_after, host.paused, host.freed = passes, threading.Event(), threading.Event()
    leaving = HostLoop(lambda: host)
    leaving.start()
    pack_by(leaving, {2: 2, 3: 2}, monkeypatch)
    for slot in steps:
        leaving.attach(slot, SLOTS[slot])
    # Both are there before the first pass: the loop is kept busy until then.
    busy = threading.Event()
    threads.submit(leaving._call, "waiting", lambda _: busy.wait(PATIENCE))
    advances = {slot: threads.submit(leaving.advance, slot) for slot in steps}
    until(leaving, lambda: len(leaving._advancing) == 2)
    busy.set()
    assert host.paused.wait(PATIENCE)
    cuts = asked(leaving, threads, *(lambda s=s: leaving.cut(s) for s in steps))
    host.freed.set()
    for cut in cuts:
        result(cut)
    for slot, advance in advances.items():
        cut_short = failure(advance)
        assert isinstance(cut_short, EpochCutError)
        assert cut_short.snapshot.state.steps == steps[slot]
        assert cut_short.snapshot.state.epoch == 0
        with storage.commit(slot) as directory:
            cut_short.snapshot.write(directory, None)
    leaving.cut("a")  # nobody advances it: nothing happens
    leaving.close()
    for slot in steps:
        elsewhere, alone = new_host(storage), new_host()
        elsewhere.attach("s", SLOTS[slot], slot)
        alone.attach("s", SLOTS[slot])
        ours, theirs = ([h.advance("s") for _ in range(2)] for h in (elsewhere, alone))
        assert without_times(ours) == without_times(theirs)
        mine, its = checkpoint(elsewhere.snapshot("s")), checkpoint(alone.snapshot("s"))
        assert [name for name in mine if not torch.equal(mine[name], its[name])] == []
