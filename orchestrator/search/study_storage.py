"""Where a sweep's Optuna study is kept: beside the sweep, in a database, or in a journal."""

import logging
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from orchestrator.addresses import JOURNAL, SQLITE, redacted
from orchestrator.errors import InfrastructureError

STUDY_FILE = "optuna.db"
POSTGRES = "postgresql://"

logging.getLogger("optuna").setLevel(logging.WARNING)


def study_storage(address: str | None, directory: Path) -> BaseStorage:
    """The storage at ``address`` of a spec's ``records.optuna``; None is a file in ``directory``.

    Raises:
        InfrastructureError: there is none, or it does not answer.
    """
    shown = address or f"{SQLITE}{directory / STUDY_FILE}"
    try:
        if shown.startswith(JOURNAL):
            path = Path(shown.removeprefix(JOURNAL))
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(path)))
        if address is None:
            directory.mkdir(parents=True, exist_ok=True)
        return RDBStorage(_with_driver(shown))
    except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
        raise InfrastructureError(_unreachable(shown, error)) from None


def _with_driver(address: str) -> str:
    """SQLAlchemy's own choice for PostgreSQL is a driver that MLflow does not take."""
    return address.replace(POSTGRES, "postgresql+psycopg2://", 1)


def _unreachable(address: str, error: Exception) -> str:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    next_step = "start it, or correct records.optuna"
    if isinstance(error, ImportError):
        # Optuna says only that it was not imported, and SQLAlchemy which module.
        next_step = "pip install psycopg2-binary"
    elif isinstance(error, ArgumentError | NoSuchModuleError):
        next_step = "write sqlite:///PATH, postgresql://USER@HOST/DATABASE or journal:PATH"
    return redacted(f"the study's storage {address} does not answer: {reason}: {next_step}")


def study_names(storage: BaseStorage) -> list[str]:
    """Of all studies in ``storage``."""
    return list(optuna.get_all_study_names(storage))
