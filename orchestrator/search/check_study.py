"""Whether a sweep can have its study, asked before anything is spent."""

from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.distributions import check_distribution_compatibility

from jobs.problems import InputError, Problem
from orchestrator.ledger import Ledger
from orchestrator.search.space import SearchSpace
from orchestrator.search.study_storage import study_storage
from orchestrator.search.warm_start import earlier_sweeps
from orchestrator.spec.model import SweepSpec

SWEEP = "sweep"
"""The attribute of a study that says which sweep's it is, whatever its name."""

_ANOTHER = "Name the sweep otherwise, or delete the study."


def check_study(spec: SweepSpec, ledger: Ledger, directory: Path) -> None:
    """Look at the study that there may be, and at the sweeps it is to learn from.

    Raises:
        InfrastructureError: the study's storage does not answer.
        InputError: the study is another sweep's, or holds what this space has no place for; an
            earlier sweep cannot teach this one.
    """
    storage = study_storage(spec.records.optuna, directory)
    problems = []
    if spec.name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=spec.name, storage=storage)
        problems = [
            Problem("records.optuna", f"the study {spec.name!r} {what}", _ANOTHER)
            for what in _unfit(study, spec, ledger)
        ]
    try:
        earlier_sweeps(spec, ledger)
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)


def _unfit(study: optuna.Study, spec: SweepSpec, ledger: Ledger) -> Iterator[str]:
    if study.user_attrs.get(SWEEP, ledger.begin().id) != ledger.begin().id:
        yield "belongs to a sweep of this name in another storage"
    there, asked = study.metric_names, list(spec.search.objectives)
    if len(study.directions) != len(asked) or there not in (None, asked):
        yield f"must have the objectives {asked}, got {there or len(study.directions)}"
    space = SearchSpace(spec.search).distributions
    for trial in study.get_trials(deepcopy=False):
        for name in space.keys() & trial.distributions.keys():
            try:
                check_distribution_compatibility(trial.distributions[name], space[name])
            except ValueError:
                yield f"has a trial, number {trial.number}, to which {name} means something else"
                return
