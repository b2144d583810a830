"""The Optuna study of a sweep, as the searcher of Ray Tune.

The sweep's own trials in the study follow the ledger: missing ones are added, running ones are
resumed. Trials that others put there stay, and points that wait (enqueued in optuna-dashboard, for
example) are run first.
"""

import random
import warnings
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from orchestrator.ledger import TrialRecord
from orchestrator.search.first_stage import FirstStage
from orchestrator.search.reports import (
    CONSTRAINTS,
    MEASURED,
    REFUSED,
    REPEATS,
    TRIAL,
    entries_under,
    objective_key,
)
from orchestrator.search.space import (
    FEASIBILITY,
    SearchSpace,
    named_constraints,
    sampler_for,
    with_fixed_params,
)
from orchestrator.spec.model import OBJECTIVE, Choice, SearchSpec

_MAX_REPEATS = 100
"""Suggestions of known trials in a row after which a small space counts as searched."""


class StudySearch(OptunaSearch):
    """Suggests each trial once, so that the same weights are not trained twice.

    Args:
        search: what is searched, and how.
        study_name: the study's name in ``storage``.
        storage: where it is, or will be.
        known: trials that earlier runs started, suggested first and in this order.
        ended: ids of those that ended for good: they report what they reported before.
        start: records a trial at a point, and returns it.
        directions: ``max`` or ``min`` by objective, in the spec's order.
        settled: before this epoch, what a trial promises says nothing.
        refusal: why no trial may begin any more; empty while one may. Known ones go on.
    """

    def __init__(
        self,
        search: SearchSpec,
        study_name: str,
        storage: BaseStorage,
        known: Sequence[TrialRecord],
        ended: Collection[str],
        start: Callable[[dict[str, Choice]], TrialRecord],
        directions: Mapping[str, str] | None = None,
        settled: int = 1,
        refusal: Callable[[], str] = lambda: "",
    ) -> None:
        modes = directions or {OBJECTIVE: "max"}
        self._keys = [objective_key(name) for name in modes]
        is_single = len(modes) == 1
        space = SearchSpace(search)
        self._sampler_of_all = sampler_for(search, len(known))
        """Without the keys that a first stage holds."""
        super().__init__(
            space.distributions,
            metric=self._keys[0] if is_single else self._keys,
            mode=modes[OBJECTIVE] if is_single else list(modes.values()),
            sampler=with_fixed_params(self._sampler_of_all, search),
            study_name=study_name,
            storage=storage,
        )
        self._search, self._search_space, self._start = search, space, start
        self._refusal, self._known = refusal, len(known)
        self.undone = ""
        """Why it suggested fewer trials than were asked for; empty where it did not."""
        self.study: optuna.Study = self._ot_study  # type: ignore[assignment]  # Ray types it None
        self._study_storage = storage
        self._study_key = storage.get_study_id_from_name(study_name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self.study.set_metric_names(list(modes))
        self._random = random.Random(search.seed)
        self._planned: deque[dict[str, Choice]] = deque(dict(trial.point) for trial in known)
        """Points to suggest before any other."""
        finite = all(dimension.choices for dimension in search.space.values())
        self._unsuggested = {_point_key(p): p for p in search.grid()} if finite else None
        """The points of a finite space that were not suggested yet."""
        self._ended = ended
        self._in_study = {t.user_attrs[TRIAL]: t for t in self._trials() if TRIAL in t.user_attrs}
        self._first = FirstStage(search, search.first, settled) if search.first else None
        self._suggested: set[str] = set()
        self._running: dict[str, TrialRecord] = {}
        """By Tune's trial id."""
        self._open: set[str] = set()
        """Tune's ids of trials that have not ended."""
        self._is_exhausted = False
        """Whether it has nothing more to suggest."""
        self._steps: dict[str, set[int]] = {}
        """By Tune's trial id, the epochs that the study has of a trial that it has taken up."""

    def suggest(self, trial_id: str) -> Any:  # noqa: ANN401 (Tune takes a marker too)
        """The next trial's id as ``{"trial": ...}``; FINISHED when only known points come.

        None, upon which Tune asks again, while the last trials of a first stage run.
        """
        for _ in range(_MAX_REPEATS):
            if len(self._suggested) >= self._known and self._unsuggested != {}:
                self.undone = self._refusal()
                if self.undone:
                    break
            if self._first is not None and self._first.is_full and not self._planned:
                if not self._first.is_over:
                    return None
                self._planned.extend(self._first.transfers())
                self.study.sampler, self._first = self._sampler_of_all, None
            point = self._next(trial_id)
            if point is None:
                break
            if self._unsuggested:
                self._unsuggested.pop(_point_key(point), None)
            record = self._start(point)
            if record.id not in self._suggested:
                self._adopt(trial_id, record)
                return {TRIAL: record.id}
            if not self._repeat(trial_id, record):
                break
        self._is_exhausted = True
        return Searcher.FINISHED

    def is_over(self, trials: int) -> bool:
        """Whether all that it suggested has ended: ``trials`` of them, or all that there are."""
        return not self._open and (self._is_exhausted or len(self._suggested) >= trials)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Give the study the epoch's objective; one of several objectives takes none in between."""
        if self._first is not None:
            self._first.report(self._running[trial_id], result)
        trial, epoch = self._ot_trials.get(trial_id), result["epoch"]
        steps = self._steps[trial_id]
        if trial is not None and len(self._keys) == 1 and epoch not in steps:
            steps.add(epoch)
            trial.report(result[OBJECTIVE], epoch)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the study how the trial ended: COMPLETE, PRUNED by a rung, or FAIL."""
        record = self._running[trial_id]
        self._open.discard(trial_id)
        failed = error or result is None or "failed" in result
        if result is not None and not failed:
            self.on_trial_result(trial_id, result)
        if self._first is not None:
            self._first.end(record)
        if self._ot_trials.get(trial_id) is None:
            return
        if failed or result is None:
            self._end(trial_id, TrialState.FAIL, {"failed": (result or {}).get("failed", "died")})
            return
        constraints = dict(entries_under(result, CONSTRAINTS))
        at = self._storage_id(self._ot_trials[trial_id].number)
        self._study_storage.set_trial_system_attr(at, FEASIBILITY, list(constraints.values()))
        attributes = {
            "best_variant": result["best_variant"],
            **dict(entries_under(result, MEASURED)),
            **named_constraints(constraints),
        }
        if result["epoch"] < record.training.checkpoints:
            self._end(trial_id, TrialState.PRUNED, attributes)
        else:
            values = [result[key] for key in self._keys]
            self._end(trial_id, TrialState.COMPLETE, attributes, values)

    def __getstate__(self) -> dict[str, object]:
        """Nothing: Tune pickles its searcher for a restore, and each run makes its own anew."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study has a storage of its own, and nothing is unpickled from it."""

    def _next(self, trial_id: str) -> dict[str, Choice] | None:
        """The next point: a planned one, else one that waits in the study, else the sampler's."""
        if self._planned:
            return self._planned.popleft()
        waits = self._refuse_unfit()
        if self._search.sampler == "grid" and not waits:
            return next(iter((self._unsuggested or {}).values()), None)
        if self._first is not None and not waits and (point := self._first.next_point()):
            return point
        return self._search_space.point(super().suggest(trial_id) or {})

    def _adopt(self, trial_id: str, record: TrialRecord) -> None:
        """Make ``record`` the study's trial for Tune's ``trial_id``, once."""
        self._suggested.add(record.id)
        self._running[trial_id] = record
        self._open.add(trial_id)
        self._steps[trial_id] = set()
        if self._first is not None:
            self._first.add(record)
        if trial_id in self._ot_trials:
            self._ot_trials[trial_id].set_user_attr(TRIAL, record.id)
            return
        known = self._in_study.get(record.id)
        if known is not None and known.state.is_finished() and record.id in self._ended:
            return  # What it will report, the study has.
        if known is not None and known.state == TrialState.RUNNING:
            self._steps[trial_id] = set(known.intermediate_values)
            self._ot_trials[trial_id] = Trial(self.study, self._storage_id(known.number))
            return
        self._ot_trials[trial_id] = self._create(record)

    def _create(self, record: TrialRecord) -> Trial:
        """Add a running trial at the record's point to the study."""
        begun = create_trial(
            state=TrialState.RUNNING,
            params=self._search_space.params(record.point),
            distributions=self._search_space.distributions,
            user_attrs={TRIAL: record.id},
        )
        # Not Study.add_trial, which does not say which one it added: to look costs all the others.
        added = self._study_storage.create_new_trial(self._study_key, template_trial=begun)
        return Trial(self.study, added)

    def _repeat(self, trial_id: str, record: TrialRecord) -> bool:
        """Drop a point that was suggested before; False where no other is left."""
        drawn = self._ot_trials.pop(trial_id, None)
        if drawn is None:
            return True
        drawn.set_user_attr(REPEATS, record.id)
        self.study.tell(drawn, state=TrialState.FAIL)
        return self._unsuggested is None or self._draw()

    def _draw(self) -> bool:
        """Plan a point that was not suggested yet: TPE by itself may repeat for ever."""
        points = list((self._unsuggested or {}).values())
        if self._first is not None:
            points = [point for point in points if self._first.contains(point)]
            if not points:
                self._first.close()
                return True
        if points:
            self._planned.append(self._random.choice(points))
        return bool(points)

    def _refuse_unfit(self) -> bool:
        """Fail waiting trials that are outside the space; return whether others wait."""
        waits = False
        for waiting in self._trials(TrialState.WAITING):
            params = waiting.system_attrs.get("fixed_params", {})
            unfit = [n for n, value in params.items() if not self._search_space.has(n, value)]
            waits = waits or not unfit
            if unfit:
                at = self._storage_id(waiting.number)
                self._study_storage.set_trial_state_values(at, TrialState.RUNNING)
                self._study_storage.set_trial_user_attr(at, REFUSED, f"not in the space: {unfit}")
                self._study_storage.set_trial_state_values(at, TrialState.FAIL)
        return waits

    def _end(
        self,
        trial_id: str,
        state: TrialState,
        attributes: Mapping[str, Any],
        values: Sequence[float] | None = None,
    ) -> None:
        trial = self._ot_trials.pop(trial_id)
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        self.study.tell(trial, values, state=state)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _storage_id(self, number: int) -> int:
        """The storage's own number of the study's trial ``number``."""
        return self._study_storage.get_trial_id_from_study_id_trial_number(self._study_key, number)


def _point_key(point: Mapping[str, Choice]) -> frozenset[tuple[str, Choice]]:
    """Equal for equal points, and found at once among thousands."""
    return frozenset(point.items())
