"""One host on the cluster: a Ray actor that carries a warm host and serves its leased slots."""

import functools
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from cluster.preemption import Notices, end_with_raylet, node_sources, sigterm_notice
from cluster.storage.base import StorageKey, open_storage
from cluster.storage.committed import DamagedError
from jobs.spec.items import TextItem
from jobs.spec.trial import DecodingSpec, PromptSpec, TrialSpec
from jobs.speech.clips import Origin
from jobs.training.epochs import DivergedError, EpochLosses, HostBrokenError, SlotGoneError
from jobs.training.loop import EpochCutError, HostLoop
from jobs.training.packing import AdapterUse, HostProgress, PackingPlan
from orchestrator.hosts.leases import SlotLease
from orchestrator.hosts.rank_group import End, HostTask
from orchestrator.hosts.served_leases import ClockReading, ServedLeases

if TYPE_CHECKING:
    from jobs.training.checkpoint import Snapshot

_EXIT_DELAY = 1.0
"""Seconds between a host's decision to end and its end, in which its callers get the reason."""
_COMMIT_PATIENCE = 600.0
"""For so long a host tries to commit what it has made, seconds."""
_COMMIT_RETRY = 2.0
"""Between two tries, seconds."""
_CUT_INTERVAL = 0.5
"""Between two looks at the calls in progress of a host that leaves, seconds."""


class HostLeavingError(Exception):
    """The host's node is being taken away; what it held goes on elsewhere."""


class SlotFailedError(Exception):
    """A call on a slot failed through that slot alone; its host goes on."""


@dataclass(frozen=True)
class Heartbeat:
    """A host's answer to a renewal."""

    progress: HostProgress
    clock: ClockReading
    """At which the pool can begin the next terms."""
    node: str
    """Ray's id of the node that it is on."""


class HostActor:
    """Rank 0 of a host. Ray starts it again when its process dies: warm, with empty slots.

    The pool grants leases; their holders use them. Calls on a lease that is not in force raise
    SlotGoneError. Calls of the pool never wait for work, so that a busy host answers them too.

    When it is notified that its node is going it takes no more work, commits what its slots have
    of their epochs, and ends their leases, so that their holders go on elsewhere.
    """

    def __init__(self, task: HostTask, open_loop: Callable[[HostTask, End], HostLoop]) -> None:
        end_with_raylet()
        self._task = task
        self._storage = open_storage(task.storage_url)
        self._leases = ServedLeases(task.lease_seconds)
        # Ray makes an actor on its process's main thread, the one that gets signals; without this
        # SIGTERM would end the process at once.
        self._terminated = sigterm_notice()
        self._notices = Notices([self._terminated, *node_sources(os.environ)])
        # A node that is going already: Ray starts what it lost there anew while it stands.
        self._notices.wait_until_none(time.sleep)
        self._node = ray.get_runtime_context().get_node_id()
        self._closed = threading.Event()
        """Set when it serves nobody any more; says ``_reason`` then."""
        self._ended = threading.Event()
        self._reason = ""
        self._in_progress: set[str] = set()
        """Leases whose holders wait for an answer."""
        self._changed = threading.Condition()
        # One at a time and in order: a slot is empty before the next adapter comes into it.
        self._detaching = ThreadPoolExecutor(1, thread_name_prefix="detaching")
        self._loop = open_loop(task, self._end)
        self._plan = self._loop.measure(task.training, task.batch_sizes, task.slots)
        threading.Thread(target=self._expire_leases, name="leases", daemon=True).start()
        threading.Thread(target=self._obey_notices, name="notices", daemon=True).start()

    # what the pool calls

    @ray.method(concurrency_group="control", max_task_retries=-1)
    def ready(self) -> PackingPlan:
        """How the host packs. Waits until the base is loaded, through restarts too.

        Raises:
            HostBrokenError: the host is about to end, or its node is.
        """
        self._check_open()
        return self._plan

    @ray.method(concurrency_group="watch")
    def wait_for_end(self) -> str:
        """Wait until the host ends itself, or its node is going; why it does."""
        self._closed.wait()
        return self._reason

    @ray.method(concurrency_group="control")
    def grant(self, lease: SlotLease, since: ClockReading) -> None:
        """Serve the lease, for a term that began at ``since``.

        Raises:
            HostBrokenError: the process is a new one, and the pool meant the one before it; or it
                is about to end.
        """
        self._check_open()
        self._leases.start(lease, since)

    @ray.method(concurrency_group="control")
    def detach(self, lease: str) -> None:
        """Serve the lease no more; its slot will be empty before the next attach."""
        self._end_lease(lease)

    @ray.method(concurrency_group="control")
    def clear(self) -> None:
        """End every lease."""
        self._end_leases()

    @ray.method(concurrency_group="control")
    def served(self) -> list[SlotLease]:
        """The leases that are served; a pool that starts anew takes them over."""
        return self._leases.served()

    @ray.method(concurrency_group="control")
    def renew(self, leases: Sequence[str], since: ClockReading | None) -> Heartbeat:
        """Start the terms of ``leases`` anew at ``since``; how the work moves on.

        Raises:
            HostBrokenError: the process is a new one, and the pool meant the one before it.
        """
        if since is not None:
            self._leases.renew(leases, since)
        return Heartbeat(self._loop.progress(), self._leases.read_clock(), self._node)

    @ray.method(concurrency_group="watch")
    def leave(self, reason: str) -> None:
        """Take no more work, commit what the slots have of their epochs, and end their leases."""
        self._leave(reason)

    # what a lease's holder calls

    @ray.method
    def attach(self, lease: str, trial: TrialSpec, checkpoint: StorageKey | None) -> None:
        """Put the trial in the slot, fresh or from the checkpoint.

        Raises:
            DamagedError: the checkpoint is damaged, and was set aside.
        """
        with self._serving(lease):
            # What the slot held before goes first, and so do leases that have ended.
            self._detaching.submit(self._loop.detach, lease).result()
            self._loop.attach(lease, trial, checkpoint)
        try:
            self._leases.check(lease)
        except SlotGoneError:  # it ended meanwhile, and its slot was emptied before this came in
            self._empty(lease)
            raise

    @ray.method
    def advance(self, lease: str, key: StorageKey, partial: str) -> EpochLosses:
        """Train one epoch and commit it as the checkpoint ``key``.

        Raises:
            DivergedError: the loss stopped being finite.
            HostLeavingError: the epoch was cut short. What there is of it is committed, to a key
                that begins with ``partial``.
        """
        print(f"training {key}", file=sys.stderr)  # noqa: T201 (the actor's log)
        with self._serving(lease):
            try:
                losses = self._loop.advance(lease)
            except EpochCutError as cut:
                self._keep_partial(lease, partial, cut.snapshot)
                raise HostLeavingError(self._reason) from None
            snapshot = self._loop.snapshot(lease)
            self._commit(lease, key, lambda directory: snapshot.write(directory, losses))
        return losses

    @ray.method
    def speak(
        self,
        lease: str,
        keys: Mapping[float, StorageKey],
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
        items: Sequence[TextItem],
    ) -> None:
        """Say the prompts and answer the items at every ``lora_scale`` in ``keys``, and commit
        clips and answers to its key."""
        from jobs.speech.clips import write_clips

        with self._serving(lease):
            voices = [AdapterUse(lease, lora_scale) for lora_scale in keys]
            spoken = self._loop.speak(voices, prompts, decoding)
            answered = self._loop.answer(voices, items) if items else [[] for _ in voices]
            for key, clips, answers in zip(keys.values(), spoken, answered, strict=True):
                variant = key.rpartition("/")[2]
                origin = Origin(variant, self._task.host.family, self._task.provenance)
                write = functools.partial(
                    write_clips, prompts=prompts, clips=clips, origin=origin, answers=answers
                )
                self._commit(lease, key, write)

    def _keep_partial(self, lease: str, start: str, snapshot: "Snapshot") -> None:
        """Commit what there is of an epoch. It is dear, but never worth a failure of the trial."""
        key = StorageKey(f"{start}-step-{snapshot.state.steps:06d}")
        try:
            self._commit(lease, key, lambda directory: snapshot.write(directory, None))
        except Exception:  # noqa: BLE001 (as said)
            traceback.print_exc()

    def _commit(self, lease: str, key: StorageKey, write: Callable[[Path], None]) -> None:
        """Have ``write`` fill a directory and commit it, if the lease is in force at that moment.

        What keeps it from being written, a full disk for one, may go away: it is tried again.

        Raises:
            SlotGoneError: nothing was committed. The lease is not in force, or somebody else has
                committed this: then the trial goes on from that, wherever it does, so that each
                epoch starts from the one that is committed before it.
        """

        def check() -> None:
            self._leases.check(lease)
            if self._storage.is_committed(key):
                raise SlotGoneError(f"{key} was committed by another holder of its trial")

        tried_until = time.monotonic() + _COMMIT_PATIENCE
        while True:
            try:
                with self._storage.commit(key, check) as directory:
                    write(directory)
            except OSError as error:
                if self._closed.is_set() or time.monotonic() > tried_until:
                    raise
                print(f"{key} waits for the storage: {error}", file=sys.stderr)  # noqa: T201
                self._leases.check(lease)
                self._closed.wait(_COMMIT_RETRY)
            else:
                return

    @contextmanager
    def _serving(self, lease: str) -> Iterator[None]:
        """Serve a holder's call.

        Raises:
            SlotGoneError: the lease is not in force, or ended meanwhile.
            HostBrokenError: the host cannot go on.
            HostLeavingError: its node is going.
            SlotFailedError: the call failed. Its cause stays here: to read it, the caller would
                have to import torch.
        """
        with self._changed:
            if self._closed.is_set() and not self._ended.is_set():
                raise HostLeavingError(self._reason)
            self._leases.check(lease)
            self._in_progress.add(lease)
        try:
            yield
        except (DivergedError, SlotGoneError, HostLeavingError, DamagedError):
            raise
        except Exception as error:  # noqa: BLE001 (what comes of a trial's own settings)
            traceback.print_exc()
            message = "".join(traceback.format_exception_only(error)).strip()
            if isinstance(error, HostBrokenError) or _spoils_process(error):
                self._end(message)
            if self._ended.is_set():
                raise HostBrokenError(self._reason) from None
            raise SlotFailedError(message) from None
        finally:
            with self._changed:
                self._in_progress.discard(lease)
                self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise HostBrokenError(self._reason)

    def _end_leases(self) -> None:
        for lease in self._leases.served():
            self._end_lease(lease.id)

    def _end_lease(self, lease: str) -> None:
        if self._leases.end(lease):
            self._empty(lease)

    def _expire_leases(self) -> None:
        while not self._ended.wait(self._task.lease_seconds / 4):
            for lease in self._leases.expire():
                self._empty(lease)

    def _empty(self, lease: str) -> None:
        """Have the slot emptied, before the next attach."""

        def detach() -> None:
            try:
                self._loop.detach(lease)
            except Exception as error:  # noqa: BLE001 (a slot that cannot be emptied is lost)
                self._end(f"lease {lease} could not be detached: {error!r}")

        self._detaching.submit(detach)

    def _obey_notices(self) -> None:
        """Leave when the node is going; and end, so that a new process serves, if it stays."""
        self._leave(self._notices.wait(self._ended.wait))
        if not self._terminated():
            self._notices.wait_until_none(self._ended.wait)
        self._end(self._reason)

    def _leave(self, reason: str) -> None:
        """Take no more work, and finish what is in progress: epochs after their optimiser step."""
        print(f"this host takes no more work: {reason}", file=sys.stderr)  # noqa: T201
        with self._changed:
            self._reason = reason
            self._closed.set()
            # Again and again: a call that was let in just before may begin to train just after.
            while self._in_progress:
                for lease in list(self._in_progress):
                    with suppress(SlotGoneError, HostBrokenError):
                        self._loop.cut(lease)
                self._changed.wait(_CUT_INTERVAL)
        self._end_leases()

    def _end(self, reason: str) -> None:
        """End the process, a moment after the calls in progress could say why."""
        if not self._ended.is_set():
            print(f"this host ends: {reason}", file=sys.stderr)  # noqa: T201 (the actor's log)
            self._reason = reason
            self._ended.set()
            self._closed.set()
            threading.Timer(_EXIT_DELAY, os._exit, (1,)).start()


def _spoils_process(error: Exception) -> bool:
    """Whether the device is of no more use to this process: what torch calls AcceleratorError."""
    return any(cls.__name__ == "AcceleratorError" for cls in type(error).__mro__)
