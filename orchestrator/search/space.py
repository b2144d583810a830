"""A spec's search in Optuna's terms: distributions, sampler, directions and constraints."""

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from optuna import samplers
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from pydantic import ValidationError

from jobs.spec.trial import TrainingSpec
from orchestrator.spec.model import OBJECTIVE, SECONDS, Choice, Dimension, SearchSpec
from orchestrator.verdict.protocol import Protocol

# Optuna prints a line for each study and trial to stderr, whatever the command prints.
logging.getLogger("optuna").setLevel(logging.WARNING)


class SearchSpace:
    """The searched keys. Lists, which Optuna cannot store, go through it as JSON text."""

    def __init__(self, search: SearchSpec) -> None:
        self._dimensions = search.space
        self.distributions: dict[str, BaseDistribution] = {
            name: _distribution(name, dimension) for name, dimension in search.space.items()
        }
        """By searched key, in the spec's order."""

    def point(self, params: dict[str, Any]) -> dict[str, Choice]:
        """What a suggestion means: values of keys of ``training``."""
        return {name: self._value(name, params[name]) for name in self._dimensions}

    def params(self, point: Mapping[str, Choice]) -> dict[str, Any]:
        """The inverse of :meth:`point`, of a part of a point too."""
        return {name: _storable(value) for name, value in point.items()}

    def part_within(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Of ``values`` by key of ``training`` those that the space has, as parameters."""
        return {
            name: _storable(values[name])
            for name in self._dimensions
            if name in values and self.has(name, _storable(values[name]))
        }

    def has(self, name: str, param: object) -> bool:
        """Whether a searched key may have the value."""
        distribution = self.distributions.get(name)
        if isinstance(distribution, CategoricalDistribution):
            return any(type(c) is type(param) and c == param for c in distribution.choices)
        if not isinstance(distribution, IntDistribution | FloatDistribution):
            return False
        kinds = int if isinstance(distribution, IntDistribution) else int | float
        is_number = isinstance(param, kinds) and not isinstance(param, bool)
        return is_number and distribution.low <= param <= distribution.high  # type: ignore[operator]

    def _value(self, name: str, param: Choice) -> Choice:
        for value in self._dimensions[name].choices:
            if type(_storable(value)) is type(param) and _storable(value) == param:
                return value
        return param


def _distribution(name: str, dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution([_storable(value) for value in dimension.choices])
    low, high = dimension.low or 0, dimension.high or 0
    if _takes_whole(name):
        return IntDistribution(int(low), int(high), log=dimension.log)
    return FloatDistribution(float(low), float(high), log=dimension.log)


def _takes_whole(name: str) -> bool:
    """Whether a key of ``training`` takes integers alone, or null beside them."""
    try:
        TrainingSpec.model_validate({name: 1.5})
    except ValidationError as error:
        return error.errors()[0]["type"] == "int_from_float"
    return False


def _storable(value: Choice) -> int | float | str | bool | None:
    return json.dumps(value) if isinstance(value, tuple | list) else value


def sampler_for(search: SearchSpec, known: int) -> samplers.BaseSampler:
    """The sampler that the spec names, for a run that begins with so many ``known`` trials.

    A later run of a sweep draws from another seed than the runs that drew the known trials.
    """
    seed = search.seed + known
    # Optuna draws the first ten trials at random, which can be all of a small sweep.
    at_random = min(10, -(-search.trials // 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if search.sampler == "tpe":
            # The constant liar keeps trials that run at the same time apart.
            return samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=at_random)
        if search.sampler == "gp":
            return samplers.GPSampler(
                seed=seed, n_startup_trials=at_random, warn_independent_sampling=False
            )
        if search.sampler == "qmc":
            # The sequence goes on where the study's earlier trials left it: its seed stays.
            return samplers.QMCSampler(
                scramble=True, seed=search.seed, warn_independent_sampling=False
            )
    return samplers.RandomSampler(seed=seed)


def with_fixed_params(sampler: samplers.BaseSampler, search: SearchSpec) -> samplers.BaseSampler:
    """``sampler`` with the keys that ``search.first`` holds at their values."""
    if search.first is None:
        return sampler
    params = SearchSpace(search).params(dict(search.first.hold))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return samplers.PartialFixedSampler(params, sampler)


FEASIBILITY = "constraints"
"""The attribute in which Optuna and optuna-dashboard look for a trial's constraints, each violated
above 0. Optuna 5 also names them (``Trial.set_constraint``), but optuna-dashboard 0.21 sees no such
trial as infeasible."""


def named_constraints(constraints: Mapping[str, float]) -> dict[str, float]:
    """The same constraints as attributes that a person reads."""
    return {f"constraint {name}": value for name, value in constraints.items()}


def directions(objectives: Sequence[str], protocol: Protocol) -> dict[str, str]:
    """``max`` or ``min`` by objective."""
    ways = {name: metric.direction for name, metric in protocol.judged_metrics().items()}
    ways |= {OBJECTIVE: "higher", SECONDS: "lower"}
    return {name: "max" if ways[name] == "higher" else "min" for name in objectives}
