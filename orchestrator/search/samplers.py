"""Optuna's samplers, as a spec names them."""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    PartialFixedSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from orchestrator.search.space import SearchSpace
from orchestrator.spec.model import SearchSpec


def sampler_for(search: SearchSpec, known: int) -> BaseSampler:
    """The sampler of a run that begins with so many ``known`` trials.

    A later run of a sweep draws from another seed than the runs before, which drew the known ones.
    """
    seed = search.seed + known
    # Optuna draws the first ten trials at random, which can be all of a small sweep.
    at_random = min(10, -(-search.trials // 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if search.sampler == "tpe":
            # The constant liar keeps trials that run at the same time apart.
            return TPESampler(seed=seed, constant_liar=True, n_startup_trials=at_random)
        if search.sampler == "gp":
            return GPSampler(seed=seed, n_startup_trials=at_random, warn_independent_sampling=False)
        if search.sampler == "qmc":
            # The sequence goes on where the study's earlier trials left it: its seed stays.
            return QMCSampler(scramble=True, seed=search.seed, warn_independent_sampling=False)
    return RandomSampler(seed=seed)


def held(sampler: BaseSampler, search: SearchSpec) -> BaseSampler:
    """The same sampler with the keys of ``search.first`` at their values."""
    if search.first is None:
        return sampler
    params = SearchSpace(search).params(dict(search.first.hold))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PartialFixedSampler(params, sampler)
