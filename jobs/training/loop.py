"""A host on a thread of its own: slots that are being advanced share its passes."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from cluster.storage.base import StorageKey
from jobs.spec.items import TextItem
from jobs.spec.trial import DecodingSpec, PromptSpec, TrainingSpec, TrialSpec
from jobs.training.epochs import EpochLosses, HostBrokenError, SlotGoneError
from jobs.training.packed_host import PackedHost
from jobs.training.packing import AdapterUse, HostProgress, PackingPlan

if TYPE_CHECKING:
    from jobs.clips import ItemAnswer, SpokenClip
    from jobs.training.checkpoint import Snapshot

T = TypeVar("T")

_MOST_ROWS = 256
"""Clips spoken in one batch; each holds a cache of its own on the device."""


class EpochCutError(Exception):
    """An epoch was cut short after an optimiser step; ``snapshot`` is where it can go on from."""

    def __init__(self, snapshot: "Snapshot") -> None:
        super().__init__("the epoch was cut short")
        self.snapshot = snapshot


@dataclass
class _Task:
    """A piece of work between two passes."""

    what: str
    run: Callable[[PackedHost], object]
    done: "Future[object]" = field(default_factory=Future)


@dataclass
class _Speech:
    """Clips that somebody waits for."""

    voices: Sequence[AdapterUse]
    prompts: Sequence[PromptSpec]
    decoding: DecodingSpec
    done: "Future[list[list[SpokenClip]]]" = field(default_factory=Future)


class HostLoop:
    """Runs a host's work; its methods may be called from any thread, and wait.

    Between two passes it runs the tasks in its queue, first come, first served. A pass takes the
    slots that are being advanced, as many as the packing plan allows, longest waiting first.

    When the host breaks, every call raises HostBrokenError.
    """

    def __init__(self, open_host: Callable[[], PackedHost]) -> None:
        """``open_host`` runs on the loop's thread, so that one thread alone imports and loads."""
        self._open_host = open_host
        self._changed = threading.Condition()
        self._queue: deque[_Task | _Speech] = deque()
        self._advancing: dict[str, Future[EpochLosses]] = {}
        """In the order of their turns."""
        self._batch_sizes: dict[str, int] = {}
        self._plan: PackingPlan | None = None
        self._is_closed = False
        self._reason: Exception = SlotGoneError("the host was closed")
        """What calls raise once it is closed."""
        self._progress = (0, "", 0.0)
        """Finished pieces of work, the one in hand, and since when."""
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)

    def start(self) -> None:
        """Open the host; returns when it is there, or raises what opening it raised."""
        self._thread.start()
        self._opened.result()

    def measure(
        self, training: TrainingSpec, batch_sizes: Sequence[int], slots: int | None
    ) -> PackingPlan:
        """Measure what packing gains, and pack by that; see :mod:`jobs.training.probe`."""

        def run(host: PackedHost) -> PackingPlan:
            from jobs.training.probe import measure

            return measure(host, training, batch_sizes, slots)

        plan = self._call("measuring packs", run)
        self._plan = plan
        return plan

    def attach(self, slot: str, trial: TrialSpec, checkpoint: StorageKey | None = None) -> None:
        """See :meth:`jobs.training.host.Host.attach`."""

        def run(host: PackedHost) -> None:
            host.attach(slot, trial, checkpoint)
            self._batch_sizes[slot] = trial.training.batch_size

        self._call(f"attaching {slot}", run)

    def detach(self, slot: str) -> None:
        """Empty a slot at once, if it is there; its advance raises SlotGoneError."""

        def run(host: PackedHost) -> None:
            with self._changed:
                advance = self._advancing.pop(slot, None)
                self._batch_sizes.pop(slot, None)
            try:
                host.detach(slot)
            finally:
                if advance is not None:
                    advance.set_exception(SlotGoneError(f"slot {slot} was detached"))

        self._call(f"detaching {slot}", run)

    def advance(self, slot: str) -> EpochLosses:
        """Train the slot for one epoch, beside the others, then validate it.

        Raises:
            DivergedError: the loss stopped being finite.
            EpochCutError: :meth:`cut` was called.
            SlotGoneError: the slot is not there, or was detached meanwhile.
            Exception: the slot failed in a pass of its own, or its optimiser did.
        """
        losses: Future[EpochLosses] = Future()
        with self._changed:
            if self._is_closed:
                raise self._reason
            if slot not in self._batch_sizes:
                raise SlotGoneError(f"slot {slot} is not there, only {sorted(self._batch_sizes)}")
            if slot in self._advancing:
                raise RuntimeError(f"slot {slot} is being advanced already")
            self._advancing[slot] = losses
            self._changed.notify()
        return losses.result()

    def cut(self, slot: str) -> None:
        """End the slot's current epoch after this optimiser step.

        Whoever advances it gets EpochCutError, unless that was the epoch's last step.
        """

        def run(host: PackedHost) -> None:
            while slot in self._advancing and host.is_within_step(slot):
                self._train(host, [slot])
            if slot in self._advancing:
                snapshot = host.snapshot(slot)
                with self._changed:
                    self._advancing.pop(slot).set_exception(EpochCutError(snapshot))

        self._call(f"cutting {slot} short", run)

    def snapshot(self, slot: str) -> "Snapshot":
        """See :meth:`jobs.training.host.Host.snapshot`."""
        return self._call(f"copying {slot}", lambda host: host.snapshot(slot))

    def speak(
        self, voices: Sequence[AdapterUse], prompts: Sequence[PromptSpec], decoding: DecodingSpec
    ) -> "list[list[SpokenClip]]":
        """See :meth:`jobs.training.host.Host.speak`.

        Requests that wait at the same time and differ in their voices alone share a batch.
        """
        speech = _Speech(voices, prompts, decoding)
        self._enqueue(speech)
        return speech.done.result()

    def answer(
        self, voices: Sequence[AdapterUse], items: Sequence[TextItem]
    ) -> "list[list[ItemAnswer]]":
        """See :meth:`jobs.training.host.Host.answer`."""
        return self._call("answering", lambda host: host.answer(voices, items))

    def progress(self) -> HostProgress:
        """How far the work is; returns at once, also while the host hangs."""
        finished, doing, since = self._progress
        return HostProgress(finished, doing, time.monotonic() - since if doing else 0.0)

    def close(self) -> None:
        """End the thread after its current work; waiting calls raise SlotGoneError."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    # calls from other threads

    def _call(self, what: str, run: Callable[[PackedHost], T]) -> T:
        task = _Task(what, run)
        self._enqueue(task)
        return task.done.result()  # type: ignore[return-value]  # it is what run returned

    def _enqueue(self, task: _Task | _Speech) -> None:
        with self._changed:
            if self._is_closed:
                raise self._reason
            self._queue.append(task)
            self._changed.notify()

    # the loop's own thread

    def _run(self) -> None:
        try:
            host = self._open_host()
        except BaseException as error:  # noqa: BLE001 (whoever called start gets it)
            self._refuse_all()
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        try:
            while self._wait_for_work():
                if self._queue:
                    self._do_next(host)
                else:
                    self._train(host, self._next_pack())
        except HostBrokenError as error:
            self._reason = error
        finally:
            self._refuse_all()

    def _refuse_all(self) -> None:
        """Let every waiting call raise: the loop has ended."""
        with self._changed:
            self._is_closed = True
            for waiting in (*self._advancing.values(), *(task.done for task in self._queue)):
                waiting.set_exception(self._reason)

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._queue or self._advancing)
            return not self._is_closed

    def _do_next(self, host: PackedHost) -> None:
        task = self._queue.popleft()
        if isinstance(task, _Task):
            self._settle(task.done, task.what, lambda: task.run(host))
            return
        together = [task]
        with self._changed:
            for other in [each for each in self._queue if isinstance(each, _Speech)]:
                voices = sum(len(each.voices) for each in (*together, other))
                same = task.prompts == other.prompts and task.decoding == other.decoding
                if same and voices * len(task.prompts) <= _MOST_ROWS:
                    self._queue.remove(other)
                    together.append(other)
        self._speak(host, together)

    def _speak(self, host: PackedHost, together: Sequence[_Speech]) -> None:
        voices = [voice for speech in together for voice in speech.voices]
        first = together[0]
        try:
            with self._working("speaking"):
                clips = iter(host.speak(voices, first.prompts, first.decoding))
        except Exception as error:  # noqa: BLE001 (whoever waits gets it)
            if len(together) == 1:
                first.done.set_exception(error)
                return
            # One of them may be gone; the others are not to suffer for it.
            for speech in together:
                self._speak(host, [speech])
        else:
            for speech in together:
                speech.done.set_result([next(clips) for _ in speech.voices])

    def _next_pack(self) -> list[str]:
        """The slots of the next pass; each keeps to the pack sizes that pay at its batch size."""
        with self._changed:
            waiting = list(self._advancing)
        pack: list[str] = []
        room = len(waiting)
        for slot in waiting:
            width = 1 if self._plan is None else self._plan.width(self._batch_sizes[slot])
            fits = min(room, width)
            if len(pack) < fits:
                pack.append(slot)
                room = fits
        return pack

    def _train(self, host: PackedHost, pack: Sequence[str]) -> None:
        """One pass, and the validation of those whose epoch it completes."""
        try:
            with self._working(f"training {' '.join(pack)}"):
                failed = host.step(pack)
        except HostBrokenError:
            raise
        except Exception as error:  # noqa: BLE001 (whoever waits gets it)
            if len(pack) == 1:
                self._advancing.pop(pack[0]).set_exception(error)
                return
            # Nobody has moved. Alone, only the one that is at fault fails.
            for slot in pack:
                self._train(host, [slot])
            return
        for slot in pack:
            losses = self._advancing.pop(slot)
            if slot in failed:
                losses.set_exception(failed[slot])
            elif host.epoch_is_over(slot):
                self._settle(losses, f"validating {slot}", partial(self._end_epoch, host, slot))
            else:
                self._advancing[slot] = losses  # at the end of the queue

    def _end_epoch(self, host: PackedHost, slot: str) -> EpochLosses:
        """Of :class:`PackedHost`, with how far a pack is from alone if the slot may be in one."""
        losses, plan = host.end_epoch(slot), self._plan
        if plan is None or plan.width(self._batch_sizes[slot]) == 1:
            return losses
        return replace(losses, pack_difference=plan.difference)

    def _settle(self, done: "Future[T]", what: str, run: Callable[[], T]) -> None:
        """Do a piece of work, and have ``done`` hold what came of it."""
        with self._working(what):
            try:
                done.set_result(run())
            except HostBrokenError as error:
                done.set_exception(error)
                raise
            except Exception as error:  # noqa: BLE001 (whoever waits gets it)
                done.set_exception(error)

    @contextmanager
    def _working(self, what: str) -> Iterator[None]:
        """Report the block as the current piece of work."""
        finished, _, _ = self._progress
        self._progress = (finished, what, time.monotonic())
        try:
            yield
        finally:
            self._progress = (finished + 1, "", 0.0)
