"""Tells MLflow what the ledger holds, in a thread of its own: no sweep waits for a view of it.

The ledger is the spool. Who has written something to it says so with :meth:`Recorder.tell`; the
recorder reads it there and logs it, as often as that takes, in the order in which it was told.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.addresses import redacted
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import Ledger
from orchestrator.records.failures import Failures, reason
from orchestrator.records.runs import TrialRuns
from orchestrator.records.sweep_run import read_sweep
from orchestrator.records.tracking import Tracker
from orchestrator.spec.model import SweepSpec


@dataclass(frozen=True)
class Backoff:
    """Seconds between tries: twice as long after each failure."""

    first: float = 1.0
    longest: float = 30.0
    longest_at_end: float = 2.0
    """When a person waits for it."""

    def after(self, failures: int) -> float:
        """The wait after so many failures in a row, at least one."""
        return float(min(self.longest, self.first * 2.0 ** min(failures - 1, 30)))


@dataclass(frozen=True)
class Recorded:
    """What a recorder did."""

    runs: int
    """That MLflow has of the sweep: its own and one a trial."""
    created: int
    """By this recorder."""
    changes: int
    """Requests that added or changed something."""


class Recorder:
    """The one writer of a sweep's MLflow runs."""

    def __init__(
        self,
        ledger: Ledger,
        spec: SweepSpec,
        place: tuple[str, str | None],
        note: Callable[[str], None],
        backoff: Backoff = Backoff(),
    ) -> None:
        """``place`` is a tracking URI and where artifacts go; ``note`` is told what a person should
        know, from the recorder's thread."""
        self._ledger = ledger
        self._spec = spec
        self._place = place
        self._note = note
        self._backoff = backoff
        self._trials = TrialRuns(ledger)
        self._failures = Failures()
        self._tracker: Tracker | None = None
        self._thread = threading.Thread(target=self._run, name="mlflow-recorder", daemon=True)
        # What follows is shared by the threads, under the condition's lock.
        self._changed = threading.Condition()
        self._work: dict[str | None, None] = {}
        """What has something new, in the order in which it was told; None is the sweep itself."""
        self._closing = False
        self._given_up = False
        self._tried = False
        self._trouble: str | None = None
        """Why the last try failed."""
        self._refused = False
        self._was_in_trouble = False
        self._busy = False
        self._at: str | None = None
        """What is told just now, while the thread is busy."""
        self._progress_at = 0.0
        self._changes = 0
        self._created = 0
        """By trackers before the present one."""

    @property
    def uri(self) -> str:
        """Where MLflow is, as a person is shown it."""
        return redacted(self._place[0])

    @property
    def recorded(self) -> Recorded:
        """What was done so far."""
        with self._changed:
            tracker = self._tracker
            created = self._created + (tracker.created if tracker else 0)
            return Recorded(len(tracker.runs) if tracker else 0, created, self._changes)

    def start(self) -> None:
        """Begin with all that the ledger holds: earlier drivers may not have told MLflow of it."""
        self.tell_all()
        self._thread.start()

    def tell(self, trial: str | None) -> None:
        """The trial has something new in the ledger; None is the sweep itself."""
        with self._changed:
            self._work[trial] = None
            self._changed.notify_all()

    def tell_all(self) -> None:
        """Everything may have."""
        for trial in (None, *(record.id for record in self._ledger.trials())):
            self.tell(trial)

    def await_contact(self, seconds: float) -> None:
        """Wait until MLflow has answered for the first time, or has not, or the time is over.

        Raises:
            InfrastructureError: it refuses to be told of this sweep, now and later.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._tried, seconds)
            if self._refused:
                raise InfrastructureError(
                    f"MLflow at {self.uri} must take what it is told, but: {self._trouble}. "
                    "Correct that, or records.mlflow in the spec."
                )

    def close(self, patience: float, limit: float) -> str | None:
        """Wait until all is told; returns why it is not, if it is not.

        Gives up when nothing was told for ``patience`` seconds, and after ``limit`` seconds.
        """
        with self._changed:
            self._closing = True
            if self._was_in_trouble:
                # A request without an answer may have been carried out since: look once more.
                self._work.setdefault(None)
            self._progress_at = time.monotonic()
            self._changed.notify_all()
            end = self._progress_at + limit
            while self._thread.is_alive() and not self._idle():
                left = min(end, self._progress_at + patience) - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._given_up = True
            self._changed.notify_all()
            if self._idle():
                return None
            return self._trouble or f"it has not answered within {patience:.0f} s"

    def _idle(self) -> bool:
        return not self._work and not self._busy

    # in the recorder's thread

    def _run(self) -> None:
        while self._take():
            try:
                self._record(self._at)
            except Exception as error:  # noqa: BLE001 (whatever it is, the sweep goes on)
                permanent = self._failures.is_permanent(error)
                self._put_back(reason(error), permanent)
                if permanent:
                    return
                self._pause()
            else:
                self._failures.forget()
                self._finish()

    def _take(self) -> bool:
        """Wait for work; whether there is any."""
        with self._changed:
            self._changed.wait_for(lambda: self._work or self._closing)
            if not self._work or self._given_up:
                return False
            self._at = next(iter(self._work))
            del self._work[self._at]
            self._busy = True
            if self._closing and self._was_in_trouble and not self._work:
                self._let_go()
            return True

    def _record(self, trial: str | None) -> None:
        if self._tracker is None:
            self._tracker = self._open()
            if trial is not None and None not in self._tracker.runs:
                self._tracker.record(read_sweep(self._ledger, self._spec))
        if trial is None:
            self._tracker.record(read_sweep(self._ledger, self._spec))
        else:
            self._tracker.record(self._trials.read(trial))

    def _open(self) -> Tracker:
        uri, artifacts = self._place
        return Tracker(
            uri,
            artifacts,
            self._spec.name,
            self._ledger.begin().id,
            self._ledger.storage,
            self._wrote,
        )

    def _wrote(self) -> None:
        with self._changed:
            self._changes += 1
            self._progress_at = time.monotonic()

    def _put_back(self, why: str, permanent: bool) -> None:
        """What failed comes first again: MLflow hears of things in their order."""
        with self._changed:
            news = self._trouble is None
            self._work = {self._at: None, **self._work}
            self._let_go()
            self._trouble, self._refused, self._busy, self._tried = why, permanent, False, True
            self._was_in_trouble = True
            self._changed.notify_all()
        if permanent:
            self._note(f"MLflow at {self.uri} refuses what it is told: {why}.")
        elif news:
            self._note(
                f"MLflow at {self.uri} does not take what it is told: {why}. "
                "It is told again; the storage keeps what it misses."
            )

    def _finish(self) -> None:
        with self._changed:
            back = self._trouble is not None
            self._trouble, self._busy, self._tried = None, False, True
            self._changed.notify_all()
        if back:
            self._note(f"MLflow at {self.uri} answers again.")

    def _let_go(self) -> None:
        """Of the tracker: what it knows of MLflow's runs may not be true any more."""
        if self._tracker is not None:
            self._created += self._tracker.created
            self._tracker = None

    def _pause(self) -> None:
        """Before the next try; the end of the sweep cuts it short."""
        delay = self._backoff.after(self._failures.count)
        with self._changed:
            if self._closing:
                delay = min(delay, self._backoff.longest_at_end)
                self._changed.wait_for(lambda: self._given_up, delay)
            else:
                self._changed.wait_for(lambda: self._closing, delay)
