"""Where a sweep's Optuna study is kept, and whether the sweep can have its study there."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.distributions import check_distribution_compatibility
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from jobs.problems import InputError, Problem, collecting
from orchestrator.addresses import JOURNAL, redacted, sqlite_url
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import Ledger
from orchestrator.search.reports import REFUSED, REPEATS, TRIAL
from orchestrator.search.space import SearchSpace
from orchestrator.search.warm_start import FROM_SWEEP, earlier_sweeps
from orchestrator.spec.model import SweepSpec

STUDY_FILE = "optuna.journal"
DATABASE_FILE = "optuna.db"
"""The study's file in sweeps of earlier versions, which go on in it."""
POSTGRES = "postgresql://"
SWEEP = "sweep"
"""The attribute of a study with the id of its sweep, whatever the study's name."""


_RECORD = b'{"op_code":'
"""How each line of a journal begins."""
_ABANDONED_LOCK = 5
"""Seconds after which the lock of a journal was left by a process that was killed: a record takes
milliseconds. Optuna's own default is 30."""


def study_address(address: str | None, directory: Path) -> str:
    """Where the study is: ``address`` of a spec's ``records.optuna``, else in ``directory``.

    A journal, beside a thousand running trials a hundredth of SQLite's CPU (``docs/scaling.md``).
    A sweep that an earlier version began in SQLite stays there.
    """
    if address is not None:
        return address
    if (database := directory / DATABASE_FILE).is_file():
        return sqlite_url(database)
    return f"{JOURNAL}{directory / STUDY_FILE}"


def study_storage(address: str | None, directory: Path) -> BaseStorage:
    """The storage at ``address`` of a spec's ``records.optuna``; None is a file in ``directory``.

    Raises:
        InfrastructureError: there is none, it does not answer, or it is damaged.
    """
    shown = study_address(address, directory)
    try:
        if shown.startswith(JOURNAL):
            return _journal(Path(shown.removeprefix(JOURNAL)))
        # SQLAlchemy's own choice for PostgreSQL is a driver that MLflow does not take.
        return RDBStorage(shown.replace(POSTGRES, "postgresql+psycopg2://", 1))
    except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
        raise InfrastructureError(_unreachable(shown, error)) from None


@contextmanager
def study_answering(address: str | None, directory: Path) -> Iterator[None]:
    """For what asks the study's storage, as :func:`study_storage` names it.

    Raises:
        InfrastructureError: it stopped answering.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise InfrastructureError(_unreachable(study_address(address, directory), error)) from None


def _journal(path: Path) -> JournalStorage:
    """The journal at ``path``, whole up to its last record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Optuna's other lock is a link to the path as it is written: where that is relative, a lock
    # that was left behind leads nowhere, and is waited for without end.
    lock = JournalFileOpenLock(str(path), grace_period=_ABANDONED_LOCK)
    backend = JournalFileBackend(str(path), lock)
    try:
        lock.acquire()
        try:
            _cut_torn_record(path)
        finally:
            lock.release()
        return JournalStorage(backend)
    except ValueError as error:
        raise InfrastructureError(
            f"the study's journal {path} is damaged: {error}: correct records.optuna, or move the "
            "file away: the next run makes the study again from the sweep's storage"
        ) from None


def _cut_torn_record(path: Path) -> None:
    """Remove the part of a record that a killed process left at the end: Optuna would append to it.

    Raises:
        ValueError: this is no journal, which is left as it is, or its last whole line is no record.
    """
    content = path.read_bytes()
    if content[: len(_RECORD)] != _RECORD[: len(content)]:
        raise ValueError(f"it does not begin with {_RECORD.decode()}")
    whole = content[: content.rfind(b"\n") + 1]
    if whole:
        # Optuna itself complains only when another record follows.
        json.loads(whole[:-1].rpartition(b"\n")[2])
    if len(whole) < len(content):
        os.truncate(path, len(whole))


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
    with study_answering(spec.records.optuna, directory):
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


def _is_foreign(trial: FrozenTrial) -> bool:
    """Whether somebody else ran the trial; one that waits is a point to try."""
    ours = {TRIAL, FROM_SWEEP, REPEATS, REFUSED} & trial.user_attrs.keys()
    return trial.state != TrialState.WAITING and not ours


def _conflicts(study: optuna.Study, spec: SweepSpec, ledger: Ledger) -> Iterator[str]:
    if study.user_attrs.get(SWEEP, ledger.begin().id) != ledger.begin().id:
        yield "belongs to a sweep of this name in another storage"
    if SWEEP not in study.user_attrs and (foreign := sum(map(_is_foreign, study.trials))):
        yield (
            f"has {foreign} trials that no sweep made, and no attribute {SWEEP!r}; to have the "
            f"sampler learn from them, set that attribute to {ledger.begin().id!r}"
        )
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
