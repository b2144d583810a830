"""The Optuna study of a sweep, as the searcher of Ray Tune.

The study is a view of the ledger: it is built anew for each run, the trials already started first
and in their order, so that a search that was cut off goes on where it was.
"""

import logging
import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from orchestrator.spec import Choice, SearchSpec
from orchestrator.tuning.space import SearchSpace

OBJECTIVE = "objective"
"""The reported metric that the study maximises."""

_MOST_REPEATS = 100
"""Suggestions of known trials in a row after which a small space counts as searched."""

logging.getLogger("optuna").setLevel(logging.WARNING)


class StudySearch(OptunaSearch):
    """Suggests each trial once: the same weights are not trained twice.

    ``start`` records that a point was asked for and gives the trial's id.
    """

    def __init__(
        self,
        search: SearchSpec,
        study_name: str,
        storage: BaseStorage,
        known: Sequence[dict[str, Choice]],
        start: Callable[[dict[str, Choice]], str],
    ) -> None:
        space = SearchSpace(search)
        points = search.grid() if search.sampler == "grid" else known
        super().__init__(
            space,
            metric=OBJECTIVE,
            mode="max",
            points_to_evaluate=[space.params(point) for point in points],
            sampler=_sampler(search),
            study_name=study_name,
            storage=storage,
        )
        self._search_space = space
        self._start = start
        self._suggested: set[str] = set()
        finite = all(dimension.choices for dimension in search.space.values())
        self._left = search.grid() if finite else None
        """The points of a finite space that were not suggested yet."""
        self._random = random.Random(search.seed)

    def suggest(self, trial_id: str) -> Any:  # noqa: ANN401 (Tune takes a marker too)
        """The next point as ``{"point": ...}``; FINISHED when only known ones come."""
        for _ in range(_MOST_REPEATS):
            with warnings.catch_warnings():
                # Ray takes a slow disk under Optuna's database for a function that computes.
                warnings.filterwarnings("ignore", "Define-by-run function", UserWarning)
                params = super().suggest(trial_id)
            if params is None:
                return None
            point = self._search_space.point(params)
            if self._left and point in self._left:
                self._left.remove(point)
            trial = self._start(point)
            if trial not in self._suggested:
                self._suggested.add(trial)
                self._ot_trials[trial_id].set_user_attr("trial", trial)
                return {"point": point}
            repeated = self._ot_trials.pop(trial_id)
            self._ot_study.tell(repeated, state=TrialState.FAIL)  # type: ignore[attr-defined]  # Ray types it None
            if self._left is not None and not self._draw():
                break
        return Searcher.FINISHED

    def _draw(self) -> bool:
        """Have the study ask next for a point that is left: TPE by itself may repeat for ever."""
        if not self._left:
            return False
        point = self._random.choice(self._left)
        self._ot_study.enqueue_trial(self._search_space.params(point))  # type: ignore[attr-defined]  # as above
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study has a storage of its own, and nothing is unpickled from it."""


def study_storage(path: Path) -> RDBStorage:
    """A SQLite study file."""
    return RDBStorage(f"sqlite:///{path}")


def forget_study(name: str, storage: BaseStorage) -> None:
    """Delete the study, so that it can be built anew from the ledger."""
    if name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)


def _sampler(search: SearchSpec) -> BaseSampler:
    if search.sampler == "tpe":
        # Optuna draws the first ten trials at random, which can be all of a small sweep. The
        # constant liar keeps trials that run at the same time apart.
        at_random = min(10, -(-search.trials // 3))
        return TPESampler(seed=search.seed, constant_liar=True, n_startup_trials=at_random)
    return RandomSampler(seed=search.seed)
