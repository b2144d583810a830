"""Ledgers to be logged, and MLflow to log them to."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.records.recorder import Recorder
from orchestrator.records.tracking import MlflowStore, mlflow_store
from tests.orchestrator.records.made_sweep import MadeSweep
from tests.orchestrator.search.fake_sweep import SECTIONS

QUICK = (0.01, 0.05)
"""Seconds between tries."""


@pytest.fixture
def made(make_spec, tmp_path) -> MadeSweep:
    """Two trials that have just been started."""
    return MadeSweep(make_spec(**SECTIONS), tmp_path / "st")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    """An empty tracking database, made once: its migrations take seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri=mlflow_store(None, folder).uri).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def make_store(tmp_path, migrated) -> Callable[[str], MlflowStore]:
    """An MLflow that is empty, by a name."""

    def make(name: str) -> MlflowStore:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "mlflow.db").write_bytes(migrated.read_bytes())
        return mlflow_store(None, folder)

    return make


@pytest.fixture
def store(make_store) -> MlflowStore:
    return make_store("mlflow")


@pytest.fixture
def notes() -> list[str]:
    """What a person was told."""
    return []


@pytest.fixture
def record(made, notes) -> Callable[..., Recorder]:
    """Starts a recorder of the made sweep."""

    def start(store: MlflowStore) -> Recorder:
        recorder = Recorder(made.ledger, made.spec, store, notes.append, QUICK)
        recorder.start()
        return recorder

    return start
