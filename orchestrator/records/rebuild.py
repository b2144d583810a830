"""``voxsweep records``: MLflow's view of a sweep, made again from the storage alone."""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from cluster.storage.base import Storage
from jobs.problems import InputError, Problem
from orchestrator.addresses import tracking_problem
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import SPEC_FILE, Ledger
from orchestrator.records.recorder import Recorder
from orchestrator.records.tracking import mlflow_store
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.stored import stored_spec

_PATIENCE = 60.0
"""Seconds without a sign of MLflow until it is given up."""


@dataclass(frozen=True)
class Rebuilt:
    """What ``voxsweep records`` did."""

    sweep: str
    mlflow: str
    """Where, without secrets."""
    runs: int
    """That MLflow has of the sweep: its own and one a trial."""
    created: int
    """That it had not before."""
    changes: int
    """Requests that added or changed something: none where MLflow had it all."""


def rebuild(
    storage: Storage, sweep: str, address: str | None, note: Callable[[str], None]
) -> Rebuilt:
    """Log what the storage has to MLflow at ``address``, or else where the sweep's spec says.

    Raises:
        InputError: no such sweep, or an address that is none.
        InfrastructureError: MLflow does not answer, or refuses.
    """
    spec = _read_spec(storage, sweep)
    named = address or spec.records.mlflow
    if named and (problem := tracking_problem(named)):
        what, next_step = problem
        where = "--mlflow" if address else f"{storage.url}/{sweep}/{SPEC_FILE}: records.mlflow"
        raise InputError([Problem(where, what, next_step)])
    store = mlflow_store(named, storage.workspace(sweep))
    recorder = Recorder(Ledger(storage, sweep), spec, store, note)
    recorder.start()
    recorder.await_contact(_PATIENCE)
    if trouble := recorder.close(_PATIENCE, limit=float("inf")):
        raise InfrastructureError(
            f"MLflow at {recorder.uri} must answer, but: {trouble}. Start it, and run this again: "
            "it goes on where it was."
        )
    done = recorder.recorded
    return Rebuilt(sweep, recorder.uri, done.runs, done.created, done.changes)


def _read_spec(storage: Storage, sweep: str) -> SweepSpec:
    where = f"{storage.url}/{sweep}/{SPEC_FILE}"
    try:
        spec = stored_spec(Ledger(storage, sweep))
    except ValidationError as error:
        what = f"must be a spec of this version: {error.errors()[0]['msg']}"
        raise InputError([Problem(where, what, "Use the version that ran it.")]) from None
    except ValueError:
        spec = None  # no name, such as ../x
    if spec is None:
        what = f"must hold the sweep {sweep!r}, but there is no {sweep}/{SPEC_FILE}"
        next_step = "Name a sweep of this storage, or give the storage it was run with: --storage."
        raise InputError([Problem(storage.url, what, next_step)])
    return spec
