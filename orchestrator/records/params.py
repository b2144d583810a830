"""Params of runs: a spec, a trial's hyper-parameters and the training data, flat and as short as
MLflow takes them."""

import json
import re
from collections.abc import Iterator, Sequence

from jobs.spec.trial import TrainingSpec
from orchestrator.report.report_input import Speaker
from orchestrator.spec.model import MAY_CHANGE, SweepSpec

SPEAKERS = 20
"""Those with the most speech: params are for reading, and a run takes only so many."""
_LONGEST_VALUE = 6000
"""Characters, as many as MLflow takes."""
_LONGEST_NAME = 100
"""Characters; MLflow takes 250 of a whole key."""


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


def data_params(speakers: Sequence[Speaker]) -> dict[str, str]:
    """Such as ``data.slt.minutes``, for the first ``SPEAKERS``; what is not known is left out."""
    params: dict[str, str] = {}
    taken: set[str] = set()
    for speaker in speakers[:SPEAKERS]:
        name = legal_name(speaker.summary.speaker, taken)
        params |= {f"data.{name}.{key}": value for key, value in _measures(speaker)}
    return params


def _measures(speaker: Speaker) -> Iterator[tuple[str, str]]:
    summary = speaker.summary
    yield "forecast", speaker.forecast.outcome
    yield "clips", str(summary.clips)
    yield "unmeasured_clips", str(summary.unmeasured)
    numbers: dict[str, float | None] = {
        "minutes": summary.minutes,
        "clean_minutes": summary.clean_minutes,
        "bad_share": summary.bad_share,
        "near_duplicate_share": summary.repeated_share,
        "bigram_coverage": summary.bigram_coverage,
        "effective_rank": summary.effective_rank,
        "dnsmos_ovrl_sd_excess": summary.quality_excess,
    }
    for feature, of in summary.features.items():
        numbers |= {f"{feature}_{key}": getattr(of, key) for key in ("median", "p10", "sd", "iqr")}
    for name, value in numbers.items():
        if value is not None:
            yield name, f"{value:.4g}"


def legal_name(name: str, taken: set[str]) -> str:
    """A speaker's or language's name in characters that MLflow takes, which is ``taken`` then.

    >>> taken = set()
    >>> legal_name("Ann B.", taken), legal_name("Ann?B?", taken)
    ('Ann_B_', 'Ann_B__2')
    """
    plain = re.sub(r"[^0-9A-Za-z_-]+", "_", name)[:_LONGEST_NAME] or "_"
    found, number = plain, 1
    while found in taken:
        number += 1
        found = f"{plain}_{number}"
    taken.add(found)
    return found


def shorten(text: str, longest: int) -> str:
    """``text`` in at most ``longest`` characters; an ellipsis ends one that was cut.

    >>> shorten("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _text(value: object) -> str:
    """A JSON value as YAML would have it on one line."""
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        text = ", ".join(map(str, value))
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shorten(text, _LONGEST_VALUE)
