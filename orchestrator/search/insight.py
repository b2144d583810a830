"""The importance of the searched keys, and the Pareto front of a sweep's variants."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from jobs.problems import InputError, Problem
from orchestrator.ledger import Ledger, TrialEnd, TrialHistory
from orchestrator.scores.from_ledger import ScoredSweep
from orchestrator.search.space import SearchSpace, directions
from orchestrator.spec.model import OBJECTIVE, SECONDS
from orchestrator.spec.stored import require_spec

_MIN_TRIALS = 4
"""Trials that importances need: with fewer, any key explains them."""


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
    compared: int
    """Trials that the importances rest on."""
    compared_epoch: int | None
    """The epoch up to which these are compared: where a rung first stopped one. None: the end."""
    checkpoint_steps: int | None
    """Optimiser steps that an epoch is; None where it is a pass over the clips."""
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
    histories = scored.ledger.histories()
    epoch = common_epoch(histories)
    study = _study_of(scored, histories, epoch)
    importances, why_none = _importances(study)
    protocol, metrics = scored.protocol, scored.protocol.judged_metrics()
    ranked = (n for n in protocol.deciding_metrics if metrics[n].direction != "neither")
    ways = directions([*ranked, SECONDS], protocol)
    states = Counter(_ENDS[trial.end] for trial in histories)
    return Insight(
        sweep=ledger.sweep,
        ends={state: states[state] for state in _ENDS.values()},
        importances=importances,
        compared=len(study.trials),
        compared_epoch=epoch,
        checkpoint_steps=scored.spec.training.checkpoint_steps,
        why_none=why_none,
        directions=ways,
        pareto=tuple(_pareto(scored, ways)),
    )


_ENDS: dict[TrialEnd | None, str] = {
    "finished": "complete",
    "stopped": "pruned",
    "failed": "fail",
    None: "running",
}
"""How a trial ended, in Optuna's words."""


def common_epoch(trials: Iterable[TrialHistory]) -> int | None:
    """The last epoch that the trials have in common, as far as rungs decide that.

    Where the first was stopped; None where none was, and every trial is compared at its end.
    """
    return min((len(each.epochs) for each in trials if each.end == "stopped"), default=None)


def _study_of(
    scored: ScoredSweep, trials: Iterable[TrialHistory], epoch: int | None
) -> optuna.Study:
    """Each trial that can be compared, with the objective that it had reached by ``epoch``."""
    study = optuna.create_study(direction="maximize")
    space = SearchSpace(scored.spec.search)
    infos = scored.table.variants
    reached: dict[str, list[float]] = {}
    last: dict[str, int] = {}
    for name, variant in scored.assessments.items():
        trial_id, at = str(infos[name].trial), infos[name].epoch
        last[trial_id] = max(at, last.get(trial_id, 0))
        if epoch is None or at <= epoch:
            reached.setdefault(trial_id, []).append(variant.objective)
    for trial in trials:
        name = trial.record.id
        is_far = epoch is not None and last.get(name, 0) >= epoch
        if name in reached and (is_far or trial.end == "finished"):
            study.add_trial(
                create_trial(
                    params=space.params(trial.record.point),
                    distributions=space.distributions,
                    value=max(reached[name]),
                )
            )
    return study


def _importances(study: optuna.Study) -> tuple[dict[str, float], str]:
    """By fANOVA (Hutter et al. 2014), on all trials: PED-ANOVA, Optuna's default, looks at what
    the best tenth have in common, which of eight trials is one."""
    values = [trial.value for trial in study.trials]
    if len(values) < _MIN_TRIALS:
        return {}, f"importances need {_MIN_TRIALS} trials with scores, got {len(values)}"
    if len(set(values)) == 1:
        return {}, "importances need trials that differ, but all have one objective"
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))), ""


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
        info = infos[name]
        called = f"{info.recipe}, {info.place}, lora_scale {info.lora_scale:g}"
        found.append(ParetoVariant(name, called, dict(zip(ways, trial.values, strict=True))))
    primary = scored.protocol.primary
    sign = -1 if ways[primary] == "max" else 1
    return sorted(found, key=lambda each: sign * each.values[primary])
