"""Asks a study's searcher and tells it results, as Ray Tune does."""

import itertools
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from ray.tune.search import Searcher

from cluster.storage.base import LocalStorage
from jobs.spec.data import MixSpec
from jobs.spec.trial import EngineSpec, TrainingSpec, TrialSpec
from orchestrator.ledger import Ledger, TrialRecord, TrialResult
from orchestrator.search.study import StudySearch
from orchestrator.search.study_storage import study_storage
from orchestrator.spec.model import OBJECTIVE, SearchSpec

MIXES = {
    "single": MixSpec(by="speaker", shares={"ann": 1}),
    "mixed": MixSpec(by="speaker", shares={"ann": 0.4, "bob": 0.6}),
}


class Driver:
    """Asks and tells as Ray Tune does; its ledger is real."""

    def __init__(
        self, folder: Path, search: dict, directions=None, address: str | None = None
    ) -> None:
        self.directions, self.address = directions, address
        self.ledger = Ledger(LocalStorage(folder / "st"), "sweep")
        self.folder = folder
        self.spec = SearchSpec.model_validate(search)
        self.build()

    def build(self) -> None:
        """Begin as each run of a sweep does."""
        storage = self.storage()
        known = self.ledger.trials()
        ended = {record.id for record in known if self.ledger.final_result(record.id)}
        self.search = StudySearch(
            self.spec, "sweep", storage, known, ended, self._start, self.directions
        )
        self._ids = (f"tune{n}" for n in itertools.count())

    def _start(self, point) -> TrialRecord:
        return self.ledger.start_trial(self.trial_spec(point), point)

    @staticmethod
    def trial_spec(point) -> TrialSpec:
        return TrialSpec(
            family="codec_lm",
            base_digest="b",
            data_digest="d",
            training=TrainingSpec.model_validate(point),
            engine=EngineSpec(),
            mix=MIXES.get(point.get("mix")),
        )

    def suggest(self, name: str) -> dict:
        """The point of the trial that is suggested to Tune's trial ``name``."""
        return self.point(self.search.suggest(name))

    def point(self, suggested: dict) -> dict:
        return self.ledger.trial(suggested["trial"]).point

    def ask(self, count: int) -> list[dict]:
        """So many points, each told a result, until there is none any more."""
        points = []
        for _ in range(count):
            name = next(self._ids)
            suggested = self.search.suggest(name)
            if suggested == Searcher.FINISHED:
                break
            points.append(self.point(suggested))
            self.tell(name, points[-1])
        return points

    def tell(self, name: str, point: dict, **changes) -> None:
        """A trial ends after its last epoch, unless ``changes`` say otherwise."""
        record = self._start(point)
        objective = 1.0 / point.get("rank", 1)
        result = {
            "epoch": record.training.epochs,
            OBJECTIVE: objective,
            "promise": objective,
            "best_variant": f"{record.id}-e01-s1.00",
            "measured/word_error": 0.25,
            "measured/seconds": 10.0,
            "constraints/word_error": -0.1,
            **changes,
        }
        end = "finished" if result["epoch"] == record.training.epochs else "stopped"
        self.search.on_trial_complete(name, result)
        self.ledger.end_trial(record.id, TrialResult(end, result["epoch"]))

    def storage(self) -> BaseStorage:
        return study_storage(self.address, self.folder)

    def study(self) -> optuna.Study:
        return optuna.load_study(study_name="sweep", storage=self.storage())
