"""What a sweep's trials teach: which keys matter, and which variants nothing else beats."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
import yaml
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from jobs.problems import InputError, Problem
from orchestrator.ledger import PROTOCOL_FILE, SPEC_FILE, Ledger
from orchestrator.scores.from_ledger import score_table
from orchestrator.search.reports import directions
from orchestrator.search.space import SearchSpace
from orchestrator.search.warm_start import EarlierSweep
from orchestrator.spec.model import OBJECTIVE, SECONDS, SweepSpec
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.standing import standing
from orchestrator.verdict.table import VariantInfo

_LEAST = 2
"""Completed trials without which no key can be told to matter."""


@dataclass(frozen=True)
class ParetoVariant:
    """A variant that no other beats in everything, and that keeps all constraints."""

    variant: str
    name: str
    values: dict[str, float]
    """By objective: the primary metric, those with constraints, and ``seconds`` of training."""


@dataclass(frozen=True)
class Insight:
    """What a study has to say."""

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

    def to_dict(self) -> dict[str, Any]:
        """The one object that ``voxsweep study --json`` prints."""
        return asdict(self)


def study_insight(ledger: Ledger) -> Insight:
    """Read from the ledger alone: the study's own storage may be gone.

    Raises:
        InputError: there is no such sweep, or nothing of it was scored.
    """
    spec, protocol = _read(ledger)
    earlier = EarlierSweep(ledger, spec, protocol)
    study = _study_of(spec, ledger, earlier)
    importances, why_none = _importances(study)
    ways = directions(_objectives(protocol), protocol)
    states = Counter(trial.state.name.lower() for trial in study.trials)
    return Insight(
        sweep=ledger.sweep,
        ends={state: states[state] for state in ("complete", "pruned", "fail", "running")},
        importances=importances,
        why_none=why_none,
        directions=ways,
        pareto=tuple(_pareto(spec, ledger, protocol, ways)),
    )


def _read(ledger: Ledger) -> tuple[SweepSpec, Protocol]:
    spec, protocol = ledger.read_text(SPEC_FILE), ledger.read_text(PROTOCOL_FILE)
    if spec is None or protocol is None:
        what = f"no sweep {ledger.sweep!r} was scored in {ledger.storage.url}"
        raise InputError([Problem(ledger.sweep, what, "Name another, or its --storage.")])
    return (
        SweepSpec.model_validate(yaml.safe_load(spec)),
        Protocol.model_validate_json(protocol),
    )


_STATES = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    None: TrialState.RUNNING,
}


def _study_of(spec: SweepSpec, ledger: Ledger, earlier: EarlierSweep) -> optuna.Study:
    """Every trial of the sweep by how it ended, with its objective."""
    study = optuna.create_study(direction="maximize")
    space = SearchSpace(spec.search)
    objectives = {record.id: heard.objective for record, heard in earlier.trials()}
    for record in ledger.trials():
        result = ledger.result(record.id)
        state = _STATES[result.end if result else None]
        if state == TrialState.COMPLETE and record.id not in objectives:
            state = TrialState.RUNNING  # its scores are still to come
        study.add_trial(
            create_trial(
                state=state,
                params=space.params(record.point),
                distributions=space.distributions,
                value=objectives[record.id] if state == TrialState.COMPLETE else None,
            )
        )
    return study


def _importances(study: optuna.Study) -> tuple[dict[str, float], str]:
    done = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if len(done) < _LEAST:
        return {}, f"importances need {_LEAST} completed trials, got {len(done)}"
    if len({trial.value for trial in done}) < _LEAST:
        return {}, "importances need trials that differ, but all have one objective"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # The other evaluators ask for scikit-learn.
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return dict(found), ""


def _objectives(protocol: Protocol) -> list[str]:
    asked = (protocol.primary, *(constraint.metric for constraint in protocol.constraints))
    ways = protocol.judged_metrics()
    told = [n for n in dict.fromkeys(asked) if ways[n].direction != "neither"]
    return [*told, SECONDS]


def _pareto(
    spec: SweepSpec, ledger: Ledger, protocol: Protocol, ways: dict[str, str]
) -> Sequence[ParetoVariant]:
    """Of all variants, at what their trial had cost by then."""
    table, screening = score_table(ledger, spec, protocol), protocol.screening()
    cost = {
        record.id: [losses.seconds * spec.engine.ranks for losses in ledger.epochs(record.id)]
        for record in ledger.trials()
    }
    study = optuna.create_study(
        directions=["maximize" if way == "max" else "minimize" for way in ways.values()]
    )
    infos: dict[str, VariantInfo] = {}
    for info in table.adapted:
        heard = standing(table, info.id, screening)
        spent = sum(cost[str(info.trial)][: info.epoch])
        known = {OBJECTIVE: heard.objective, **heard.measured, SECONDS: spent}
        infos[info.id] = info
        study.add_trial(
            create_trial(
                values=[known[name] for name in ways],
                constraints=dict(heard.constraints),
                user_attrs={"variant": info.id},
            )
        )
    best = [trial for trial in study.best_trials if all(v <= 0 for v in trial.constraints.values())]
    found = [
        ParetoVariant(
            trial.user_attrs["variant"],
            infos[trial.user_attrs["variant"]].name,
            dict(zip(ways, trial.values, strict=True)),
        )
        for trial in best
    ]
    primary, sign = protocol.primary, -1 if ways[protocol.primary] == "max" else 1
    return sorted(found, key=lambda each: sign * each.values[primary])
