"""Mutual exclusion between processes that share S3 alone: a lease that expires if not renewed.

A lease is one small object, written only on the condition that it is still as it was read. It
expires by S3's own clock: its age is the difference between two times of one answer of S3, so that
no machine's clock matters. Each holder gets a higher number than the one before. A holder that was
silent for too long finds another process's number, and may not commit any more.
"""

import json
import logging
import random
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from cluster.storage import s3, s3_writing
from cluster.storage.patience import Patience
from cluster.storage.s3 import TransientError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTerms:
    """Times in seconds. A term outlasts two renewals that fail and one that is slow."""

    term: float = 60.0
    """Without a renewal, until another process may take over."""
    renewal: float = 15.0
    first_poll: float = 0.2
    """Between two polls of a process that waits; doubles up to ``last_poll``."""
    last_poll: float = 5.0


class LeaseLostError(ConnectionError):
    """Another process has taken over what this one was doing."""


@dataclass(frozen=True)
class _Entry:
    """What the object says."""

    owner: str | None
    """None where the last holder has released it."""
    number: int
    """Rises by one with each holder."""
    beat: int
    """Rises with each renewal, so that no two states of the object are the same."""


class Lease:
    """A lease of this process, held within the block of :func:`leased`."""

    def __init__(self, bucket: str, key: str, patience: Patience, terms: LeaseTerms) -> None:
        self._bucket, self._key = bucket, key
        self._patience, self._terms = patience, terms
        self._owner = uuid.uuid4().hex
        self._entry = _Entry(self._owner, 1, 0)
        self._etag: str | None = None
        self._is_lost = False
        self._lock = threading.Lock()
        self._released = threading.Event()

    @property
    def number(self) -> int:
        """Of this holder: higher than of all before."""
        return self._entry.number

    def confirm(self) -> None:
        """Renew now, before what only the holder may do.

        Raises:
            LeaseLostError: another process has taken over.
            OSError: S3 does not answer, or refuses.
        """
        with self._lock:
            if not self._is_lost:
                self._patience.keep_trying(self._renew, TransientError)
            if self._is_lost:
                raise LeaseLostError(
                    f"another process has taken over s3://{self._bucket}/{self._key}, since this "
                    f"one was not heard of for {self._terms.term:g} s. Run the command again: "
                    "it goes on from what is committed."
                )

    def acquire(self) -> None:
        """Wait until this process holds the lease."""
        pause = self._terms.first_poll
        while not self._patience.keep_trying(self._take, TransientError):
            self._released.wait(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, self._terms.last_poll)

    def keep_renewed(self) -> None:
        """Renew until :meth:`release`; runs in a thread of its own."""
        while not self._released.wait(self._terms.renewal) and not self._is_lost:
            try:
                with self._lock:
                    self._renew()
            except OSError as error:
                _log.warning("a lease was not renewed: %s", error)

    def release(self) -> None:
        """Let the next process acquire it at once; if S3 does not answer, it can after the term."""
        self._released.set()
        with self._lock:
            if not self._is_lost:
                try:
                    self._put(_Entry(None, self.number, self._entry.beat + 1), self._etag)
                except OSError as error:
                    _log.warning("a lease was not released: %s", error)

    def _take(self) -> bool:
        found = s3.look(self._bucket, self._key)
        if found is None:
            return self._put(_Entry(self._owner, 1, 0), None)
        entry = _Entry(**json.loads(found.data))
        if entry.owner == self._owner:
            # An earlier try arrived, and its answer was lost.
            self._entry, self._etag = entry, found.etag
            return True
        if entry.owner is not None and found.age <= self._terms.term:
            return False
        return self._put(_Entry(self._owner, entry.number + 1, 0), found.etag)

    def _renew(self) -> None:
        if not self._put(_Entry(self._owner, self.number, self._entry.beat + 1), self._etag):
            self._is_lost = True

    def _put(self, entry: _Entry, etag: str | None) -> bool:
        data = json.dumps(asdict(entry)).encode()
        written = s3_writing.put_if(self._bucket, self._key, data, etag)
        if written is None:
            found = s3.look(self._bucket, self._key)
            if found is None or found.data != data or entry.owner != self._owner:
                return False
            written = found.etag  # by this very call, whose first answer was lost
        self._entry, self._etag = entry, written
        return True


@contextmanager
def leased(bucket: str, key: str, patience: Patience, terms: LeaseTerms) -> Iterator[Lease]:
    """Acquire the lease that is the object ``key``, and hold it for the block.

    Raises:
        OSError: S3 does not answer for longer than ``patience``, or refuses.
    """
    lease = Lease(bucket, key, patience, terms)
    lease.acquire()
    threading.Thread(target=lease.keep_renewed, name="lease", daemon=True).start()
    try:
        yield lease
    finally:
        lease.release()
