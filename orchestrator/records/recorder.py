"""Keeps MLflow's runs of a sweep up to date in a thread of its own: no sweep waits for MLflow.

The ledger is the spool. :meth:`Recorder.enqueue` says whose part of it has changed; the recorder
reads that part and logs what MLflow lacks, as often as that takes.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS, MlflowException

from cluster.storage.base import Storage
from jobs.problems import InputError, Problem
from orchestrator.addresses import redacted, tracking_problem
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import SPEC_FILE, Ledger
from orchestrator.records.params import shorten
from orchestrator.records.runs import TrialRuns, read_sweep
from orchestrator.records.tracking import MlflowStore, Recorded, Tracker, mlflow_store
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.stored import require_spec

DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before the next try, by the number of failures in a row; the last is for all further."""
_LONGEST_DELAY_AT_END = 2.0
"""Seconds; a person waits for the end."""

_REBUILD_PATIENCE = 60.0
"""Seconds without a sign of MLflow until a rebuild gives it up."""

_PERMANENT = {401, 403, 405, 501}
"""HTTP statuses that no second try changes: a login that is missing, wrong or not enough, and what
is no MLflow server."""
_BAD_REQUEST = 400
"""It counts as permanent when it is the third in a row. One may come of a request that
got no answer and was being carried out while it was repeated; and 400 is what MLflow makes of most
of a database's faults."""
_LONGEST_REASON = 240
"""Characters."""


class Recorder:
    """The one writer of a sweep's MLflow runs."""

    def __init__(
        self,
        ledger: Ledger,
        spec: SweepSpec,
        store: MlflowStore,
        note: Callable[[str], None],
        delays: Sequence[float] = DELAYS,
    ) -> None:
        """``note`` gets what a person should know, from the recorder's thread; ``delays`` are as
        :data:`DELAYS`."""
        self._ledger = ledger
        self._spec = spec
        self._store = store
        self._note = note
        self._delays = delays
        self._trials = TrialRuns(ledger)
        self._tracker: Tracker | None = None
        self._thread = threading.Thread(target=self._run, name="mlflow-recorder", daemon=True)
        self._changed = threading.Condition()
        self._pending: dict[str | None, None] = {}
        """Trials with something new, and None for the sweep itself; under the condition's lock."""
        self._has_failed = False
        self._tried, self._closing, self._given_up = (threading.Event() for _ in range(3))
        self._trouble: str | None = None
        """Why the last try failed; None after one that did not."""
        self._is_refused = False
        self.uri = redacted(store.uri)
        """Where MLflow is, as a person is shown it."""
        self.recorded = Recorded()
        """What was done so far."""

    def start(self) -> None:
        """Begin with all that the ledger holds: earlier drivers may not have logged it."""
        self.enqueue_all()
        self._thread.start()

    def enqueue(self, trial: str | None) -> None:
        """Have logged what is new in the ledger of a trial, or, for None, of the sweep itself."""
        with self._changed:
            self._pending[trial] = None
            self._changed.notify()

    def enqueue_all(self) -> None:
        """Have logged whatever is new in the ledger."""
        records = (*self._ledger.trials(), *self._ledger.replicates())
        for trial in (None, *(record.id for record in records)):
            self.enqueue(trial)

    def await_contact(self, seconds: float) -> None:
        """Wait until MLflow has answered for the first time, or has not, or the time is over.

        Raises:
            InfrastructureError: it refuses to log this sweep, now and later.
        """
        self._tried.wait(seconds)
        if self._is_refused:
            raise InfrastructureError(
                f"MLflow at {self.uri} must log this sweep, but: {self._trouble}. "
                "Correct that, or records.mlflow in the spec."
            )

    def close(self, patience: float, limit: float) -> str | None:
        """Wait until all is logged; returns why it is not, if it is not.

        Gives up when nothing was logged for ``patience`` seconds, and after ``limit`` seconds.
        """
        begun = time.monotonic()
        with self._changed:
            self._closing.set()
            if self._has_failed:
                self._pending.setdefault(None)  # there is a last one to look with
            self._changed.notify()
        while self._thread.is_alive():
            progress_at = max(begun, self.recorded.changed_at)
            left = min(begun + limit, progress_at + patience) - time.monotonic()
            if left <= 0:
                self._given_up.set()
                return self._trouble or f"it took longer than {time.monotonic() - begun:.0f} s"
            self._thread.join(left)
        return self._trouble

    # in the recorder's thread

    def _run(self) -> None:
        failures: list[int] = []
        for trial in self._work():
            try:
                self._record(trial)
            except Exception as error:  # noqa: BLE001 (whatever it is, the sweep goes on)
                failures.append(status_of(error))
                self._is_refused = is_permanent(failures)
                self._put_back(trial, reason(error))
                self._tried.set()
                if self._is_refused:
                    return
                self._pause(len(failures))
            else:
                failures.clear()
                if self._trouble is not None:
                    self._trouble = None
                    self._note(f"MLflow at {self.uri} answers again.")
                self._tried.set()

    def _work(self) -> Iterator[str | None]:
        """What is pending, one at a time, until the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closing.is_set())
                if not self._pending or self._given_up.is_set():
                    return
                trial = next(iter(self._pending))
                del self._pending[trial]
                if self._closing.is_set() and self._has_failed and not self._pending:
                    # A request without an answer may have been carried out since: look once more.
                    self._tracker = None
            yield trial

    def _record(self, trial: str | None) -> None:
        if self._tracker is None:
            ledger = self._ledger
            self._tracker = Tracker(
                self._store, self._spec.name, ledger.begin().id, ledger.storage, self.recorded
            )
        if trial is None or None not in self._tracker.runs:
            self._tracker.record(read_sweep(self._ledger, self._spec))
        if trial is not None:
            self._tracker.record(self._trials.read(trial))

    def _put_back(self, trial: str | None, why: str) -> None:
        """As the first, so that what is refused time and again is not hidden by what is not."""
        with self._changed:
            self._pending = {trial: None, **self._pending}
            self._has_failed = True
        # What it knows of MLflow's runs may not be true any more.
        self._tracker = None
        is_first, self._trouble = self._trouble is None, why
        if self._is_refused:
            self._note(f"MLflow at {self.uri} refuses to log this sweep: {why}.")
        elif is_first:
            self._note(
                f"MLflow at {self.uri} does not log this sweep: {why}. "
                "It is tried again; the storage keeps what MLflow lacks."
            )

    def _pause(self, failures: int) -> None:
        """Before the next try; the end of the sweep cuts it short."""
        delay = self._delays[min(failures, len(self._delays)) - 1]
        if self._closing.is_set():
            self._given_up.wait(min(delay, _LONGEST_DELAY_AT_END))
        else:
            self._closing.wait(delay)


def rebuild(
    storage: Storage, sweep: str, address: str | None, note: Callable[[str], None]
) -> tuple[str, Recorded]:
    """Log what the storage has to MLflow at ``address``, or else where the sweep's spec says.

    Returns:
        Where MLflow is, without secrets, and what was done.

    Raises:
        InputError: no such sweep, or an address that is none.
        InfrastructureError: MLflow does not answer, or refuses.
    """
    ledger = Ledger(storage, sweep)
    spec = require_spec(ledger)
    named = address or spec.records.mlflow
    if named and (problem := tracking_problem(named)):
        where = "--mlflow" if address else f"{storage.url}/{sweep}/{SPEC_FILE}: records.mlflow"
        raise InputError([Problem(where, *problem)])
    store = mlflow_store(named, storage.workspace(sweep))
    recorder = Recorder(ledger, spec, store, note)
    recorder.start()
    recorder.await_contact(_REBUILD_PATIENCE)
    if trouble := recorder.close(_REBUILD_PATIENCE, limit=float("inf")):
        raise InfrastructureError(
            f"MLflow at {recorder.uri} must answer, but: {trouble}. Start it, and run this again: "
            "it goes on where it was."
        )
    return recorder.uri, recorder.recorded


def is_permanent(failures: list[int]) -> bool:
    """Whether no further try can go well, by the HTTP statuses of the failures in a row."""
    return failures[-1] in _PERMANENT or failures[-3:] == [_BAD_REQUEST] * 3


def status_of(error: Exception) -> int:
    """The HTTP status that an error stands for; 0 for one that is not MLflow's.

    Servers and databases that do not answer, are too busy (429, 5xx, a lock) or lost a run that
    they had may be well the next time.
    """
    if isinstance(error, InfrastructureError):
        return 403
    if not isinstance(error, MlflowException):
        return 0
    if error.error_code == "ENDPOINT_NOT_FOUND":
        return 501  # no MLflow server; its 404 is also that of a run that vanished
    return ERROR_CODE_TO_HTTP_STATUS.get(error.error_code, 500)


def reason(error: Exception) -> str:
    """An error on one line, without secrets."""
    return shorten(redacted(" ".join(str(error).split()) or type(error).__name__), _LONGEST_REASON)
