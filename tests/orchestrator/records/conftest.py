"""Ledgers to be told of, and places that are told."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.records.places import local_tracking
from orchestrator.records.recorder import Backoff, Recorder
from tests.orchestrator.records.made_sweep import MadeSweep
from tests.orchestrator.search.fake_sweep import SECTIONS

QUICK = Backoff(first=0.01, longest=0.05, longest_at_end=0.05)


@pytest.fixture
def made(make_spec, tmp_path) -> MadeSweep:
    """Two trials that have just been started."""
    return MadeSweep(make_spec(**SECTIONS), tmp_path / "st")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory) -> Path:
    """An empty tracking database, made once: its migrations take seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri=local_tracking(folder)[0]).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def make_place(tmp_path, migrated) -> Callable[[str], tuple[str, str]]:
    """A tracking URI and artifact folder of an MLflow that is empty, by a name."""

    def make(name: str) -> tuple[str, str]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "mlflow.db").write_bytes(migrated.read_bytes())
        return local_tracking(folder)

    return make


@pytest.fixture
def place(make_place) -> tuple[str, str]:
    return make_place("mlflow")


@pytest.fixture
def notes() -> list[str]:
    """What a person was told."""
    return []


@pytest.fixture
def record(made, notes) -> Callable[..., Recorder]:
    """A recorder of the made sweep that was started."""

    def start(place: tuple[str, str | None]) -> Recorder:
        recorder = Recorder(made.ledger, made.spec, place, notes.append, QUICK)
        recorder.start()
        return recorder

    return start
