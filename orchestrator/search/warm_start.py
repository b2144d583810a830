"""What earlier sweeps of the family teach a study before its first trial."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import ValidationError

from jobs.problems import InputError, Problem
from orchestrator.ledger import PROTOCOL_FILE, SPEC_FILE, Ledger, TrialRecord
from orchestrator.scores.from_ledger import score_table
from orchestrator.search.reports import FEASIBILITY, named_constraints
from orchestrator.search.space import SearchSpace
from orchestrator.spec.model import OBJECTIVE, SECONDS, SweepSpec
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.standing import Standing, standing

FROM_SWEEP = "from_sweep"
FROM_TRIAL = "from_trial"
"""Attributes of a study's trial that an earlier sweep ran."""


class EarlierSweep:
    """A sweep in the storage, with what its trials came to."""

    def __init__(self, ledger: Ledger, spec: SweepSpec, protocol: Protocol) -> None:
        self.name = ledger.sweep
        self.protocol = protocol
        self._ledger = ledger
        self._table = score_table(ledger, spec, protocol)

    def trials(self) -> Iterator[tuple[TrialRecord, Standing]]:
        """Those that ended without failing, each with its best variant."""
        screening = self.protocol.screening()
        heard: defaultdict[str | None, list[str]] = defaultdict(list)
        for variant in self._table.adapted:
            heard[variant.trial].append(variant.id)
        for record in self._ledger.trials():
            result = self._ledger.result(record.id)
            names = heard[record.id]
            if result is not None and result.end != "failed" and names:
                standings = [standing(self._table, name, screening) for name in names]
                yield record, max(standings, key=lambda each: each.objective)

    def seconds(self, trial: str) -> float:
        """What a trial's epochs cost: wall time times ranks."""
        record = self._ledger.trial(trial)
        epochs = self._ledger.epochs(trial)
        return sum(losses.seconds for losses in epochs) * record.spec.engine.ranks


def earlier_sweep(ledger: Ledger) -> EarlierSweep | None:
    """The sweep of ``ledger`` if it came to its first score."""
    spec, protocol = ledger.read_text(SPEC_FILE), ledger.read_text(PROTOCOL_FILE)
    if spec is None or protocol is None:
        return None
    return EarlierSweep(
        ledger,
        SweepSpec.model_validate(yaml.safe_load(spec)),
        Protocol.model_validate_json(protocol),
    )


def earlier_sweeps(spec: SweepSpec, ledger: Ledger) -> list[EarlierSweep]:
    """The sweeps that ``search.warm_start`` names.

    Raises:
        InputError: with each that is not there, or whose objective means something else.
    """
    found, problems = [], []
    for name in spec.search.warm_start:
        other = Ledger(ledger.storage, name)
        what, next_step = _unfit(spec, other)
        if what:
            problems.append(Problem("search.warm_start", f"{name!r} {what}", next_step))
        elif earlier := earlier_sweep(other):
            found.append(earlier)
    if problems:
        raise InputError(problems)
    return found


def _unfit(spec: SweepSpec, ledger: Ledger) -> tuple[str, str]:
    text = ledger.read_text(SPEC_FILE)
    if text is None or ledger.read_text(PROTOCOL_FILE) is None:
        return f"has no scores in {ledger.storage.url}", "Run it first, or delete it."
    try:
        other = SweepSpec.model_validate(yaml.safe_load(text))
    except ValidationError:
        return "was written by another version of voxsweep", "Delete it."
    if other.family != spec.family:
        return f"must be of the family {spec.family}, but is of {other.family}", "Delete it."
    if other.scoring.primary != spec.scoring.primary:
        what = f"must rank by {spec.scoring.primary}, but ranks by {other.scoring.primary}"
        return what, "Delete it: its objectives mean something else."
    missing = {*spec.search.objectives} - {OBJECTIVE, SECONDS, *other.scoring.measured}
    if missing:
        return f"did not measure {', '.join(sorted(missing))}", "Delete it."
    return "", ""


def teach(study: optuna.Study, spec: SweepSpec, sweeps: list[EarlierSweep]) -> None:
    """Put earlier trials that fit the space into ``study``, each once and marked as such.

    Where the space has learning rates, the best earlier one is enqueued too, at every choice of
    rank: a good learning rate hardly depends on the rank ("LoRA Without Regret", 2025).
    """
    space = SearchSpace(spec.search)
    there = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    if any(attributes.get(FROM_SWEEP) in spec.search.warm_start for attributes in there):
        return
    best: tuple[float, TrialRecord] | None = None
    for sweep in sweeps:
        for record, heard in sweep.trials():
            training = record.training.model_dump()
            params = space.part_within(training)
            if params.keys() == space.distributions.keys():
                study.add_trial(_taught(spec, sweep, record, heard, params))
            if best is None or heard.objective > best[0]:
                best = (heard.objective, record)
    if best is not None and "learning_rate" in spec.search.space:
        _transfer(study, spec, space, best[1])


def _taught(
    spec: SweepSpec,
    sweep: EarlierSweep,
    record: TrialRecord,
    heard: Standing,
    params: dict[str, Any],
) -> FrozenTrial:
    seconds = sweep.seconds(record.id)
    known = {OBJECTIVE: heard.objective, **heard.measured, SECONDS: seconds}
    return create_trial(
        state=TrialState.COMPLETE,
        params=params,
        distributions=SearchSpace(spec.search).distributions,
        values=[known[name] for name in spec.search.objectives],
        system_attrs={FEASIBILITY: list(heard.constraints.values())},
        user_attrs={
            **named_constraints(heard.constraints),
            FROM_SWEEP: sweep.name,
            FROM_TRIAL: record.id,
            "best_variant": heard.variant,
            **heard.measured,
            SECONDS: seconds,
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
