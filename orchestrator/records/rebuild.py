"""``voxsweep records``: MLflow's view of a sweep, made again from the storage alone."""

from collections.abc import Callable

from cluster.storage.base import Storage
from jobs.problems import InputError, Problem
from orchestrator.addresses import tracking_problem
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import SPEC_FILE, Ledger
from orchestrator.records.recorder import Recorder
from orchestrator.records.tracking import Recorded, mlflow_store
from orchestrator.spec.stored import require_spec

_PATIENCE = 60.0
"""Seconds without a sign of MLflow until it is given up."""


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
    recorder.await_contact(_PATIENCE)
    if trouble := recorder.close(_PATIENCE, limit=float("inf")):
        raise InfrastructureError(
            f"MLflow at {recorder.uri} must answer, but: {trouble}. Start it, and run this again: "
            "it goes on where it was."
        )
    return recorder.uri, recorder.recorded
