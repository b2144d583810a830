"""The slot a trial holds: leased when it is needed, given up when it is lost or no more needed."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayTaskError

from jobs.spec.trial import DecodingSpec, PromptSpec, TrialSpec
from jobs.training.epochs import DivergedError, EpochLosses, SlotGoneError
from orchestrator.hosts.host_actor import HostBrokenError, HostLeavingError, SlotFailedError
from orchestrator.hosts.leases import FencedError
from orchestrator.hosts.pool import HostsGoneError, Lease

_LOST = (RayActorError, ObjectLostError, NodeDiedError)
"""What Ray raises when a host died, restarts, cannot be reached, or took a result with it."""

_OUR_OWN = (DivergedError, SlotFailedError, FencedError, HostsGoneError)
"""What hosts and pool raise for callers to tell apart."""


_ENDED = (SlotGoneError, HostBrokenError, HostLeavingError)
"""What a host raises when it serves a lease no more."""


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

    def __init__(self, pool: Any) -> None:  # noqa: ANN401 (the handle of a Pool)
        self._pool = pool
        self._trial = ""
        self._tenure = ""
        self._lease: Lease | None = None
        self._is_alone = False

    def attach(self, trial: TrialSpec, checkpoint: str | None, *, alone: bool = False) -> None:
        """Have the slot hold ``trial``, fresh or from the checkpoint with this key.

        Args:
            trial: what to train. Another one than before needs another lease.
            checkpoint: a key of the storage.
            alone: on a host that serves nobody else, because this trial may end it.
        """
        if trial.id != self._trial:
            self.release()
            self._trial = trial.id
            self._tenure = f"{trial.id}-{uuid.uuid4().hex[:12]}"
        if self._lease is None or alone != self._is_alone:
            self._lease = None  # the pool takes it back when it grants the next
            self._lease = _answer(self._pool.acquire.remote(trial.id, self._tenure, alone=alone))
            self._is_alone = alone
        self._call("attach", trial, checkpoint)

    def advance(self, key: str, partial: str) -> EpochLosses:
        """Train one epoch and commit it as the checkpoint ``key``.

        Where the epoch is cut short, what there is of it is committed to a key that begins with
        ``partial``.

        Raises:
            DivergedError: the loss stopped being finite.
            SlotPreemptedError: the epoch was cut short.
        """
        losses: EpochLosses = self._call("advance", key, partial)
        return losses

    def speak(
        self, keys: Mapping[float, str], prompts: Sequence[PromptSpec], decoding: DecodingSpec
    ) -> None:
        """Say the prompts at every ``lora_scale`` in ``keys``, and commit the clips to its key."""
        self._call("speak", dict(keys), list(prompts), decoding)

    def release(self) -> None:
        """Give the slot to whoever waits; the next attach leases anew. Without one, nothing."""
        lease, self._lease, self._trial = self._lease, None, ""
        if lease is not None:
            ray.get(self._pool.release.remote(lease.id))

    def _call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401 (what it gives)
        if self._lease is None:
            raise RuntimeError(f"a trial must be attached before {method}")
        try:
            return _answer(getattr(self._lease.host, method).remote(self._lease.id, *arguments))
        except (*_LOST, *_ENDED) as error:
            # What the host says itself is sure; one that cannot be reached may train on.
            self._pool.release.remote(self._lease.id, ended=isinstance(error, _ENDED))
            self._lease = None
            if isinstance(error, HostLeavingError):
                raise SlotPreemptedError(f"trial {self._trial} has to move: {error}") from None
            raise HostLostError(f"the host of trial {self._trial} was lost: {error}") from None


def _answer(reference: Any) -> Any:  # noqa: ANN401 (what the actor gives)
    """What an actor returns or raises, an exception of ours as itself."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, (*_OUR_OWN, *_ENDED)):
            raise error.cause from None
        raise
