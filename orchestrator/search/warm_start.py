"""Warm starts: trials of earlier sweeps of the family, put into a study before its first trial."""

from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import ValidationError

from jobs.problems import InputError, Problem
from orchestrator.ledger import Ledger, TrialHistory, TrialRecord
from orchestrator.scores.from_ledger import ScoredSweep
from orchestrator.search.space import FEASIBILITY, SearchSpace, named_constraints
from orchestrator.spec.model import OBJECTIVE, SECONDS, SweepSpec
from orchestrator.verdict.comparison import Assessment

FROM_SWEEP = "from_sweep"
FROM_TRIAL = "from_trial"
"""Attributes of a study's trial that an earlier sweep ran."""


def earlier_sweeps(spec: SweepSpec, ledger: Ledger) -> list[ScoredSweep]:
    """The sweeps that ``search.warm_start`` names.

    Raises:
        InputError: with each that is not there, or whose objective means something else.
    """
    found, problems = [], []
    for name in spec.search.warm_start:
        earlier = _read(spec, Ledger(ledger.storage, name))
        if isinstance(earlier, ScoredSweep):
            found.append(earlier)
        else:
            what, next_step = earlier
            problems.append(Problem("search.warm_start", f"{name!r} {what}", next_step))
    if problems:
        raise InputError(problems)
    return found


def _read(spec: SweepSpec, ledger: Ledger) -> ScoredSweep | tuple[str, str]:
    """The sweep of ``ledger``, or why ``spec`` cannot start from it and the next step."""
    try:
        scored = ScoredSweep.read(ledger)
    except ValidationError:
        return "was written by another version of voxsweep", "Delete it."
    if scored is None:
        return f"has no scores in {ledger.storage.url}", "Run it first, or delete it."
    other = scored.spec
    if other.family != spec.family:
        return f"must be of the family {spec.family}, but is of {other.family}", "Delete it."
    if other.scoring.primary != spec.scoring.primary:
        what = f"must rank by {spec.scoring.primary}, but ranks by {other.scoring.primary}"
        return what, "Delete it: its objectives mean something else."
    missing = {*spec.search.objectives} - {OBJECTIVE, SECONDS, *other.scoring.measured}
    if missing:
        return f"did not measure {', '.join(sorted(missing))}", "Delete it."
    return scored


def ended_trials(scored: ScoredSweep) -> Iterator[tuple[TrialHistory, Assessment]]:
    """The trials that ended without failing, each with its best variant."""
    for trial in scored.ledger.histories():
        best = scored.best.get(trial.record.id)
        if best is not None and trial.end not in (None, "failed"):
            yield trial, best


def add_earlier_trials(study: optuna.Study, spec: SweepSpec, sweeps: Sequence[ScoredSweep]) -> None:
    """Add the trials of earlier sweeps that fit the space to ``study``, each once and marked.

    Where the space has learning rates, the best earlier one is enqueued too, at every choice of
    rank: a good learning rate hardly depends on the rank ("LoRA Without Regret", 2025).
    """
    space = SearchSpace(spec.search)
    there = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    if any(attributes.get(FROM_SWEEP) in spec.search.warm_start for attributes in there):
        return
    best: tuple[float, TrialRecord] | None = None
    for sweep in sweeps:
        for trial, variant in ended_trials(sweep):
            params = space.part_within(trial.training.model_dump())
            if params.keys() == space.distributions.keys():
                study.add_trial(_completed(spec, sweep.ledger.sweep, trial, variant, params))
            if best is None or variant.objective > best[0]:
                best = (variant.objective, trial.record)
    if best is not None and "learning_rate" in spec.search.space:
        _transfer(study, spec, space, best[1])


def _completed(
    spec: SweepSpec,
    sweep: str,
    trial: TrialHistory,
    variant: Assessment,
    params: dict[str, Any],
) -> FrozenTrial:
    """The study's trial for one that the earlier ``sweep`` ran."""
    seconds = trial.seconds * trial.record.spec.engine.ranks
    measured = {**variant.measured, SECONDS: seconds}
    known = {OBJECTIVE: variant.objective, **measured}
    return create_trial(
        state=TrialState.COMPLETE,
        params=params,
        distributions=SearchSpace(spec.search).distributions,
        values=[known[name] for name in spec.search.objectives],
        system_attrs={FEASIBILITY: list(variant.constraints.values())},
        user_attrs={
            **named_constraints(variant.constraints),
            FROM_SWEEP: sweep,
            FROM_TRIAL: trial.record.id,
            "best_variant": variant.variant,
            **measured,
        },
    )


def _transfer(study: optuna.Study, spec: SweepSpec, space: SearchSpace, best: TrialRecord) -> None:
    """Enqueue what the best earlier trial had, at each rank; grids have these points anyway."""
    if spec.search.sampler == "grid":
        return
    params = space.part_within(best.training.model_dump())
    ranks = spec.search.space["rank"].choices if "rank" in spec.search.space else (None,)
    for rank in ranks:
        point = {**params, **space.params({"rank": rank} if rank is not None else {})}
        if "learning_rate" in point:
            attributes = {"transferred_from": best.id}
            study.enqueue_trial(point, user_attrs=attributes, skip_if_exists=True)
