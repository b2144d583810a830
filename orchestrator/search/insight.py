"""The importance of the searched keys, and the Pareto front of a sweep's variants."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from jobs.problems import InputError, Problem
from orchestrator.ledger import Ledger
from orchestrator.scores.from_ledger import ScoredSweep
from orchestrator.search.space import SearchSpace, directions
from orchestrator.search.warm_start import ended_trials
from orchestrator.spec.model import OBJECTIVE, SECONDS
from orchestrator.spec.stored import require_spec

_MIN_COMPLETED = 2
"""Completed trials that importances need."""


@dataclass(frozen=True)
class ParetoVariant:
    """A variant on the Pareto front that keeps all constraints."""

    variant: str
    name: str
    values: dict[str, float]
    """By objective: the primary metric, those with constraints, and ``seconds`` of training."""


@dataclass(frozen=True)
class Insight:
    """What ``voxsweep study`` shows of a sweep."""

    sweep: str
    ends: dict[str, int]
    """How many trials are complete, pruned, failed and running."""
    importances: dict[str, float]
    """Share of the objective's variation by searched key, the largest first; empty if unknown."""
    why_none: str
    """Why there are no importances; empty if there are."""
    directions: dict[str, str]
    """``max`` or ``min`` by objective of the Pareto set."""
    pareto: tuple[ParetoVariant, ...]
    """The best in the primary metric first."""


def study_insight(ledger: Ledger) -> Insight:
    """Read from the ledger alone: the study's own storage may be gone.

    Raises:
        InputError: there is no such sweep, or nothing of it was scored.
    """
    require_spec(ledger)
    scored = ScoredSweep.read(ledger)
    if scored is None:
        what = "must have a variant that was scored, but none was yet"
        raise InputError([Problem(ledger.sweep, what, "Wait for the end of an epoch.")])
    study = _study_of(scored)
    importances, why_none = _importances(study)
    protocol, metrics = scored.protocol, scored.protocol.judged_metrics()
    ranked = (n for n in protocol.deciding_metrics if metrics[n].direction != "neither")
    ways = directions([*ranked, SECONDS], protocol)
    states = Counter(trial.state.name.lower() for trial in study.trials)
    return Insight(
        sweep=ledger.sweep,
        ends={state: states[state] for state in ("complete", "pruned", "fail", "running")},
        importances=importances,
        why_none=why_none,
        directions=ways,
        pareto=tuple(_pareto(scored, ways)),
    )


_STATES = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    None: TrialState.RUNNING,
}


def _study_of(scored: ScoredSweep) -> optuna.Study:
    """Every trial of the sweep by how it ended, with its objective."""
    study = optuna.create_study(direction="maximize")
    space = SearchSpace(scored.spec.search)
    objectives = {t.record.id: best.objective for t, best in ended_trials(scored)}
    for trial in scored.ledger.histories():
        state, objective = _STATES[trial.end], objectives.get(trial.record.id)
        if state == TrialState.COMPLETE and objective is None:
            state = TrialState.RUNNING  # its scores are still to come
        study.add_trial(
            create_trial(
                state=state,
                params=space.params(trial.record.point),
                distributions=space.distributions,
                value=objective if state == TrialState.COMPLETE else None,
            )
        )
    return study


def _importances(study: optuna.Study) -> tuple[dict[str, float], str]:
    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if len(done) < _MIN_COMPLETED:
        return {}, f"importances need {_MIN_COMPLETED} completed trials, got {len(done)}"
    if len({trial.value for trial in done}) < _MIN_COMPLETED:
        return {}, "importances need trials that differ, but all have one objective"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # The other evaluators ask for scikit-learn.
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return dict(found), ""


def _pareto(scored: ScoredSweep, ways: dict[str, str]) -> Sequence[ParetoVariant]:
    """Of all variants, at what their trial had cost by then."""
    cost = {
        trial.record.id: [losses.seconds * scored.spec.engine.ranks for losses in trial.epochs]
        for trial in scored.ledger.histories()
    }
    study = optuna.create_study(
        directions=["maximize" if way == "max" else "minimize" for way in ways.values()]
    )
    infos = scored.table.variants
    for name, variant in scored.assessments.items():
        spent = sum(cost[str(infos[name].trial)][: infos[name].epoch])
        known = {OBJECTIVE: variant.objective, **variant.measured, SECONDS: spent}
        study.add_trial(
            create_trial(
                values=[known[objective] for objective in ways],
                constraints=dict(variant.constraints),
                user_attrs={"variant": name},
            )
        )
    best = [trial for trial in study.best_trials if all(v <= 0 for v in trial.constraints.values())]
    found = []
    for trial in best:
        name = trial.user_attrs["variant"]
        found.append(
            ParetoVariant(name, infos[name].name, dict(zip(ways, trial.values, strict=True)))
        )
    primary = scored.protocol.primary
    sign = -1 if ways[primary] == "max" else 1
    return sorted(found, key=lambda each: sign * each.values[primary])
