"""A spec as params of a run: flat, and as short as MLflow takes them."""

import json
from typing import Any

from jobs.spec.trial import TrainingSpec
from orchestrator.spec.model import MAY_CHANGE, SweepSpec

_LONGEST = 6000
"""Characters of a value, as many as MLflow takes."""


def training_params(training: TrainingSpec) -> dict[str, str]:
    """A trial's hyper-parameters by their names."""
    return {key: _text(value) for key, value in training.model_dump(mode="json").items()}


def spec_params(spec: SweepSpec) -> dict[str, str]:
    """The question that a sweep asks, such as ``training.rank``; what is deeper is JSON."""
    params: dict[str, str] = {}
    for section, value in spec.model_dump(mode="json").items():
        if section in MAY_CHANGE:
            continue  # MLflow never changes a param
        if isinstance(value, dict):
            params |= {f"{section}.{key}": _text(of) for key, of in value.items()}
        else:
            params[section] = _text(value)
    return params


def _text(value: Any) -> str:  # noqa: ANN401 (JSON)
    """As YAML would have it on one line."""
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        text = ", ".join(map(str, value))
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
