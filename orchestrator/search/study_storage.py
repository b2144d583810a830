"""Where a sweep's Optuna study is kept, and whether the sweep can have its study there."""

from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from jobs.problems import InputError, Problem, collecting
from orchestrator.addresses import JOURNAL, SQLITE, redacted
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import Ledger
from orchestrator.search.space import SearchSpace
from orchestrator.search.warm_start import earlier_sweeps
from orchestrator.spec.model import SweepSpec

STUDY_FILE = "optuna.db"
POSTGRES = "postgresql://"
SWEEP = "sweep"
"""The attribute of a study with the id of its sweep, whatever the study's name."""


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
        # SQLAlchemy's own choice for PostgreSQL is a driver that MLflow does not take.
        return RDBStorage(shown.replace(POSTGRES, "postgresql+psycopg2://", 1))
    except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
        raise InfrastructureError(_unreachable(shown, error)) from None


def _unreachable(address: str, error: Exception) -> str:
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    next_step = "start it, or correct records.optuna"
    if isinstance(error, ImportError):
        # Optuna says only that it was not imported, and SQLAlchemy which module.
        next_step = "pip install psycopg2-binary"
    elif isinstance(error, ArgumentError | NoSuchModuleError):
        next_step = "write sqlite:///PATH, postgresql://USER@HOST/DATABASE or journal:PATH"
    return redacted(f"the study's storage {address} does not answer: {reason}: {next_step}")


def check_study(spec: SweepSpec, ledger: Ledger, directory: Path) -> None:
    """Check that the sweep can use its study, and the earlier sweeps that its search starts from.

    Raises:
        InfrastructureError: the study's storage does not answer.
        InputError: the study belongs to another sweep or does not fit the search space; an earlier
            sweep cannot be used.
    """
    storage = study_storage(spec.records.optuna, directory)
    problems: list[Problem] = []
    if spec.name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=spec.name, storage=storage)
        next_step = "Name the sweep otherwise, or delete the study."
        problems = [
            Problem("records.optuna", f"the study {spec.name!r} {what}", next_step)
            for what in _conflicts(study, spec, ledger)
        ]
    with collecting(problems):
        earlier_sweeps(spec, ledger)
    if problems:
        raise InputError(problems)


def _conflicts(study: optuna.Study, spec: SweepSpec, ledger: Ledger) -> Iterator[str]:
    if study.user_attrs.get(SWEEP, ledger.begin().id) != ledger.begin().id:
        yield "belongs to a sweep of this name in another storage"
    found, expected = study.metric_names, list(spec.search.objectives)
    if len(study.directions) != len(expected) or found not in (None, expected):
        yield f"must have the objectives {expected}, got {found or len(study.directions)}"
    space = SearchSpace(spec.search).distributions
    for trial in study.get_trials(deepcopy=False):
        for name in space.keys() & trial.distributions.keys():
            try:
                check_distribution_compatibility(trial.distributions[name], space[name])
            except ValueError:
                yield f"has a trial, number {trial.number}, to which {name} means something else"
                return
