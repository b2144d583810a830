"""The search space of a spec, as Optuna asks for it."""

import json
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ValidationError

from jobs.spec.trial import TrainingSpec
from orchestrator.spec.model import Choice, Dimension, SearchSpec


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
