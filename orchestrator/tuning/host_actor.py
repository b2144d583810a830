"""One host on the cluster: a Ray actor that carries a warm host and serves its leased slots."""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from cluster.storage import open_storage
from jobs.spec import DecodingSpec, PromptSpec, TrialSpec
from jobs.speech.origin import Origin
from jobs.speech.voices import Voice
from jobs.training.epochs import DivergedError, EpochLosses, SlotGoneError
from jobs.training.packing import PackingPlan, Progress
from orchestrator.tuning.leases import Grant
from orchestrator.tuning.terms import LeaseTerms

if TYPE_CHECKING:
    from jobs.training.loop import HostLoop
    from orchestrator.tuning.hosts import HostTask

_LAST_WORDS = 1.0
"""Seconds between a host's decision to end and its end, in which its callers hear the reason."""


class HostBrokenError(Exception):
    """Something outside any one slot went wrong on the host; it ends, and Ray starts it anew."""


class SlotFailedError(Exception):
    """What was asked of a slot failed through that slot alone; its host goes on."""


End = Callable[[str], None]
"""Ends the host's process for the given reason."""


class HostActor:
    """Rank 0 of a host. Ray starts it again when its process dies: warm, with empty slots.

    The pool grants leases; their holders use them. Calls on a lease that is not in force raise
    SlotGoneError. Calls of the pool never wait for work, so that a busy host answers them too.
    """

    def __init__(self, task: "HostTask", open_loop: "Callable[[HostTask, End], HostLoop]") -> None:
        self._task = task
        self._storage = open_storage(task.storage_url)
        self._terms = LeaseTerms(task.lease_seconds)
        self._is_open = False
        """Whether the pool knows of this process; a new one serves what an older one did not."""
        self._ended = threading.Event()
        self._reason = ""
        # One at a time and in order: a slot is empty before the next adapter comes into it.
        self._leaving = ThreadPoolExecutor(1, thread_name_prefix="leaving")
        self._loop = open_loop(task, self._end)
        self._plan = self._loop.measure(task.training, task.batch_sizes, task.slots)
        threading.Thread(target=self._end_lapsed, name="leases", daemon=True).start()

    # what the pool calls

    @ray.method(concurrency_group="control", max_task_retries=-1)
    def ready(self) -> PackingPlan:
        """How the host packs. Waits until the base is loaded, through restarts too.

        Raises:
            HostBrokenError: the host is about to end.
        """
        if self._ended.is_set():
            raise HostBrokenError(self._reason)
        self._is_open = True
        return self._plan

    @ray.method(concurrency_group="watch")
    def watch(self) -> str:
        """Wait until the host ends itself; why it does."""
        self._ended.wait()
        return self._reason

    @ray.method(concurrency_group="control")
    def grant(self, grant: Grant) -> None:
        """Serve the lease from now on.

        Raises:
            HostBrokenError: the process is a new one, and the pool meant the one before it.
        """
        if not self._is_open:
            raise HostBrokenError("its process died, and Ray started another")
        self._terms.begin(grant)

    @ray.method(concurrency_group="control")
    def detach(self, lease: str) -> None:
        """Serve the lease no more; its slot will be empty before the next attach."""
        self._let_go(lease)

    @ray.method(concurrency_group="control")
    def clear(self) -> None:
        """End every lease."""
        for grant in self._terms.served():
            self._let_go(grant.lease)

    @ray.method(concurrency_group="control")
    def leases(self) -> list[Grant]:
        """What is served; a pool that starts anew takes it over."""
        return self._terms.served()

    @ray.method(concurrency_group="control")
    def renew(self, leases: Sequence[str]) -> Progress:
        """Start the terms of ``leases`` anew; how the work moves on."""
        self._terms.renew(leases)
        return self._loop.progress()

    # what a lease's holder calls

    def attach(self, lease: str, trial: TrialSpec, checkpoint: str | None) -> None:
        """Put the trial in the slot, fresh or from the checkpoint with this key."""
        with self._working(lease):
            # What the slot held before goes first, and so do leases that have ended.
            self._leaving.submit(self._loop.detach, lease).result()
            # A key, not a path: every rank reads it from the storage itself.
            self._loop.attach(lease, trial, Path(checkpoint) if checkpoint else None)
        self._check_after(lease)

    def advance(self, lease: str, key: str) -> EpochLosses:
        """Train one epoch and commit it as the checkpoint ``key``.

        Raises:
            DivergedError: the loss stopped being finite.
        """
        with self._working(lease):
            losses = self._loop.advance(lease)
            snapshot = self._loop.snapshot(lease)
        with self._storage.commit(key) as directory:
            snapshot.write(directory, losses)
        return losses

    def speak(
        self,
        lease: str,
        keys: Mapping[float, str],
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
    ) -> None:
        """Say the prompts at every ``lora_scale`` in ``keys``, and commit the clips to its key."""
        from jobs.speech.clips import write_clips

        with self._working(lease):
            voices = [Voice(lease, lora_scale) for lora_scale in keys]
            spoken = self._loop.speak(voices, prompts, decoding)
        for key, clips in zip(keys.values(), spoken, strict=True):
            variant = key.rpartition("/")[2]
            origin = Origin(variant, self._task.host.family, self._task.provenance)
            with self._storage.commit(key) as directory:
                write_clips(directory, prompts, clips, origin)

    @contextmanager
    def _working(self, lease: str) -> Iterator[None]:
        """Serve a holder's call.

        Raises:
            SlotGoneError: the lease is not in force, or ended meanwhile.
            HostBrokenError: the host cannot go on.
            SlotFailedError: the call failed. Its cause stays here: to read it, the caller would
                have to import torch.
        """
        self._terms.check(lease)
        try:
            yield
        except (DivergedError, SlotGoneError):
            raise
        except Exception as error:  # noqa: BLE001 (what comes of a trial's own settings)
            traceback.print_exc()
            said = "".join(traceback.format_exception_only(error)).strip()
            if _spoils_process(error):
                self._end(said)
            if self._ended.is_set():
                raise HostBrokenError(self._reason) from None
            raise SlotFailedError(said) from None

    def _check_after(self, lease: str) -> None:
        """Take out again what came into a slot whose lease ended meanwhile."""
        try:
            self._terms.check(lease)
        except SlotGoneError:
            self._leaving.submit(self._empty, lease)
            raise

    def _let_go(self, lease: str) -> None:
        if self._terms.end(lease):
            self._leaving.submit(self._empty, lease)

    def _empty(self, lease: str) -> None:
        try:
            self._loop.detach(lease)
        except Exception as error:  # noqa: BLE001 (a slot that cannot be emptied is lost)
            self._end(f"lease {lease} could not be detached: {error!r}")

    def _end_lapsed(self) -> None:
        while not self._ended.wait(self._task.lease_seconds / 4):
            for lease in self._terms.end_lapsed():
                self._leaving.submit(self._empty, lease)

    def _end(self, reason: str) -> None:
        """End the process, a moment after the calls in hand could say why."""
        if not self._ended.is_set():
            print(f"this host ends: {reason}", file=sys.stderr)  # noqa: T201 (the actor's log)
            self._reason = reason
            self._ended.set()
            threading.Timer(_LAST_WORDS, os._exit, (1,)).start()


def _spoils_process(error: Exception) -> bool:
    """Whether the device is of no more use to this process: what torch calls AcceleratorError."""
    return any(cls.__name__ == "AcceleratorError" for cls in type(error).__mro__)
