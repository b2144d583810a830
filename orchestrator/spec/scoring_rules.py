"""What is wrong with what a spec measures, and with the rule that reads it."""

from collections.abc import Iterator
from pathlib import Path

from jobs.metrics.catalogue import METRICS, ScorerUnavailable, metric_of, misfits
from jobs.metrics.plcmos import PLCMOS_NAMES
from jobs.problems import nearest
from jobs.spec.metric import MetricSpec
from orchestrator.spec.model import PATH_STARTS, ScoringSpec
from orchestrator.verdict.protocol import GATE_METRICS, RATIO_SOURCES

Location = tuple[int | str, ...]
Finding = tuple[Location, str, str]
"""Where in the section, the rule and the value, the next step."""


def scoring_problems(scoring: ScoringSpec) -> Iterator[Finding]:
    """Everything that is wrong with ``scoring``."""
    yield from _unfit_metrics(scoring)
    yield from _unmeasured(scoring)
    yield from _undecided(scoring)


def _unfit_metrics(scoring: ScoringSpec) -> Iterator[Finding]:
    written = _written(scoring)
    places, asked = [*written], [*written.values()]
    unfit = set()
    for at, what, next_step in misfits(asked):
        unfit.add(at)
        yield places[at], what, next_step
    deciding = {RATIO_SOURCES.get(name, name): where for name, where in _deciding(scoring).items()}
    tried = set()
    for at, (place, each) in enumerate(written.items()):
        if not each.required and each.name in deciding:
            what = f"{each.name} decides ({deciding[each.name]}), so it must be required"
            yield (*place, "required"), what, "Remove required: false."
        if at in unfit or METRICS[each.name] in tried:
            continue
        tried.add(METRICS[each.name])
        if each.model and each.model.startswith(PATH_STARTS) and not Path(each.model).is_dir():
            what = f"{each.name} needs a directory that exists, but there is no {each.model}"
            yield (*place, "model"), what, "Correct the path or name a model of the hub."
        elif each.required:
            yield from ((place, what, step) for what, step in _unavailable(each))


def _written(scoring: ScoringSpec) -> dict[Location, MetricSpec]:
    """Every entry of both lists by its place, but those that come too late to decide."""
    return {
        (key, index): each
        for key in ("metrics", "finalist_metrics")
        for index, each in enumerate(getattr(scoring, key))
        if key == "metrics" or each.name not in _early(scoring)
    }


def _early(scoring: ScoringSpec) -> tuple[str, ...]:
    """What has to be known of every variant."""
    return (scoring.primary, *GATE_METRICS)


def _deciding(scoring: ScoringSpec) -> dict[str, str]:
    """The metrics that the verdict depends on, and as what."""
    return {
        **dict.fromkeys(GATE_METRICS, "the gates read it"),
        **{constraint.metric: "a constraint" for constraint in scoring.constraints},
        scoring.primary: "the primary metric",
    }


def _unavailable(asked: MetricSpec) -> Iterator[tuple[str, str]]:
    try:
        metric_of(asked)
    except ScorerUnavailable as error:
        yield str(error), "What does not decide may have required: false."


def _unmeasured(scoring: ScoringSpec) -> Iterator[Finding]:
    """What decides and is not measured, or should not decide."""
    used: dict[Location, str] = {("primary",): scoring.primary}
    used |= {("constraints", i, "metric"): c.metric for i, c in enumerate(scoring.constraints)}
    derived = [ratio for ratio, source in RATIO_SOURCES.items() if source in scoring.measured]
    for location, name in used.items():
        judged = scoring.measured if location == ("primary",) else scoring.confirmed_by
        judged = (*judged, *derived)
        if name not in judged:
            what = f"scoring.{_dotted(location)} must be a metric that is measured, got {name}"
            yield location, what, nearest(name, [n for n in judged if _is_known(n)])
    for location, name in used.items():
        if name in PLCMOS_NAMES:
            what = f"scoring.{_dotted(location)} must fall as speech gets worse, {name} does not"
            yield location, what, "Measure it as a flag only, and name another here."


def _undecided(scoring: ScoringSpec) -> Iterator[Finding]:
    """A primary metric that has no better side, and what comes too late to decide."""
    sided = [name for name, source in METRICS.items() if source.directions[name] != "neither"]
    ranking = [name for name in sided if name not in PLCMOS_NAMES]
    if scoring.primary in METRICS.keys() - sided or scoring.primary in RATIO_SOURCES:
        what = f"scoring.primary must have a better direction, but {scoring.primary} has none"
        yield ("primary",), what, f"Use one of {', '.join(ranking)}."
    for index, each in enumerate(scoring.finalist_metrics):
        if each.name in _early(scoring):
            what = f"every variant needs {each.name}, so it cannot be kept for finalists"
            yield ("finalist_metrics", index), what, "Remove it there."


def _is_known(name: str) -> bool:
    return name in METRICS or name in RATIO_SOURCES


def _dotted(location: Location) -> str:
    return ".".join(map(str, location))
