"""The slot a trial holds: leased when it is needed, given up when it is lost or no more needed."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import ray
from ray.actor import ActorProxy
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayTaskError

from cluster.storage.base import StorageKey
from cluster.storage.committed import DamagedError
from jobs.spec.items import TextItem
from jobs.spec.trial import DecodingSpec, PromptSpec, TrialSpec
from jobs.training.epochs import DivergedError, EpochLosses, HostBrokenError, SlotGoneError
from orchestrator.hosts.host_actor import HostLeavingError, SlotFailedError
from orchestrator.hosts.leases import FencedError
from orchestrator.hosts.pool import AcquiredSlot, HostsGoneError, Pool

_LOST = (RayActorError, ObjectLostError, NodeDiedError)
"""What Ray raises when a host died, restarts, cannot be reached, or took a result with it."""
_ENDED = (SlotGoneError, HostBrokenError, HostLeavingError)
"""What a host raises when it serves a lease no more."""

_OUR_OWN = (DivergedError, SlotFailedError, FencedError, HostsGoneError, DamagedError)
"""What else hosts and pool raise for callers to tell apart."""


class HostLostError(Exception):
    """The slot is gone with what was not committed; attach again, from the last checkpoint."""


class SlotPreemptedError(HostLostError):
    """The slot's node is being taken away; what was trained of the epoch is committed, where it
    could be."""


class LeasedSlot:
    """One trial's slot at a time, on whatever host has one; every method waits.

    Each raises, beside what it says, :class:`HostLostError`, and when there is no way on
    :class:`FencedError` (another process runs this trial, or it is over),
    :class:`HostsGoneError` and :class:`SlotFailedError`.
    """

    def __init__(self, pool: ActorProxy[Pool]) -> None:
        self._pool = pool
        self._trial = ""
        self._holder = ""
        self._slot: AcquiredSlot | None = None
        self._is_alone = False

    def attach(
        self, trial: TrialSpec, checkpoint: StorageKey | None, *, alone: bool = False
    ) -> None:
        """Have the slot hold ``trial``, fresh or from a checkpoint.

        Args:
            trial: what to train. Another one than before needs another lease.
            checkpoint: where the storage has it.
            alone: on a host that serves nobody else, because this trial may end it.

        Raises:
            DamagedError: the checkpoint is damaged, and was set aside.
        """
        if trial.id != self._trial:
            self.release()
            self._trial = trial.id
            self._holder = f"{trial.id}-{uuid.uuid4().hex[:12]}"
        if self._slot is None or alone != self._is_alone:
            self._slot = None  # the pool takes it back when it grants the next
            with _own_errors():
                self._slot = ray.get(self._pool.acquire.remote(trial.id, self._holder, alone))
            self._is_alone = alone
        with self._used() as slot:
            ray.get(slot.host.attach.remote(slot.lease, trial, checkpoint))

    def advance(self, key: StorageKey, partial: str) -> EpochLosses:
        """Train one epoch and commit it as the checkpoint ``key``.

        Where the epoch is cut short, what there is of it is committed to a key that begins with
        ``partial``.

        Raises:
            DivergedError: the loss stopped being finite.
            SlotPreemptedError: the epoch was cut short.
        """
        with self._used() as slot:
            return ray.get(slot.host.advance.remote(slot.lease, key, partial))

    def speak(
        self,
        keys: Mapping[float, StorageKey],
        prompts: Sequence[PromptSpec],
        decoding: DecodingSpec,
        items: Sequence[TextItem] = (),
    ) -> None:
        """Say the prompts and answer the items at every ``lora_scale`` in ``keys``, and commit
        clips and answers to its key."""
        with self._used() as slot:
            ray.get(
                slot.host.speak.remote(slot.lease, dict(keys), list(prompts), decoding, list(items))
            )

    def release(self) -> None:
        """Give the slot to whoever waits; the next attach leases anew. Without one, nothing."""
        slot, self._slot, self._trial = self._slot, None, ""
        if slot is not None:
            ray.get(self._pool.release.remote(slot.lease, False))

    @contextmanager
    def _used(self) -> Iterator[AcquiredSlot]:
        """The slot, for a call to its host; given up when that shows that it is lost."""
        slot = self._slot
        if slot is None:
            raise RuntimeError("a trial must be attached before its slot is used")
        try:
            with _own_errors():
                yield slot
        except (*_LOST, *_ENDED) as error:
            # What the host says itself is sure; one that cannot be reached may train on.
            self._pool.release.remote(slot.lease, isinstance(error, _ENDED))
            self._slot = None
            if isinstance(error, HostLeavingError):
                raise SlotPreemptedError(f"trial {self._trial} has to move: {error}") from None
            raise HostLostError(f"the host of trial {self._trial} was lost: {error}") from None


@contextmanager
def _own_errors() -> Iterator[None]:
    """What hosts and pool raise, as itself; Ray wraps it in an error of its own."""
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, (*_OUR_OWN, *_ENDED)):
            raise error.cause from None
        raise
