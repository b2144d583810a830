"""The search space of a spec, as Optuna asks for it."""

import json
from typing import Any

import optuna
from pydantic import ValidationError

from jobs.spec import TrainingSpec
from orchestrator.spec import Choice, Dimension, SearchSpec


class SearchSpace:
    """A define-by-run space. Lists, which Optuna cannot store, go through it as JSON text."""

    def __init__(self, search: SearchSpec) -> None:
        self._dimensions = search.space

    def __call__(self, trial: optuna.Trial) -> None:
        """Suggest every searched key."""
        for name, dimension in self._dimensions.items():
            self._suggest(trial, name, dimension)

    def point(self, params: dict[str, Any]) -> dict[str, Choice]:
        """What a suggestion means: values of keys of ``training``."""
        return {name: self._value(name, param) for name, param in params.items()}

    def params(self, point: dict[str, Choice]) -> dict[str, Any]:
        """The inverse of :meth:`point`."""
        return {name: _storable(value) for name, value in point.items()}

    def _suggest(self, trial: optuna.Trial, name: str, dimension: Dimension) -> None:
        if dimension.choices:
            trial.suggest_categorical(name, [_storable(value) for value in dimension.choices])
        elif _takes_whole(name):
            trial.suggest_int(
                name, int(dimension.low or 0), int(dimension.high or 0), log=dimension.log
            )
        else:
            trial.suggest_float(
                name, dimension.low or 0.0, dimension.high or 0.0, log=dimension.log
            )

    def _value(self, name: str, param: Choice) -> Choice:
        for value in self._dimensions[name].choices:
            if _storable(value) == param:
                return value
        return param


def _takes_whole(name: str) -> bool:
    """Whether a key of ``training`` takes integers alone, or null beside them."""
    try:
        TrainingSpec.model_validate({name: 1.5})
    except ValidationError as error:
        return error.errors()[0]["type"] == "int_from_float"
    return False


def _storable(value: Choice) -> int | float | str | bool | None:
    return json.dumps(value) if isinstance(value, tuple) else value
