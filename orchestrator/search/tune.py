"""Running a sweep's trials with Ray Tune."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

# Ctrl-C is the driver's own matter (orchestrator/interruption.py).
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
# Tune's loggers are chosen below: its TensorBoard one imports torch, seconds and memory of a driver
# that loads no model.
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
# Where Tune's results go is said to it; it refuses to run where these are set.
os.environ.pop("TUNE_RESULT_DIR", None)
os.environ.pop("RAY_AIR_LOCAL_CACHE_DIR", None)
# Tune's newer tables are printed at any verbosity; the older ones are silent at 0.
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, PlacementGroupFactory, RunConfig, TuneConfig
from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from orchestrator.context import SweepContext
from orchestrator.hosts.fleet import Fleet
from orchestrator.ledger import TrialEnd, TrialResult
from orchestrator.search.budget import Budget
from orchestrator.search.reports import PROMISE, TRIAL
from orchestrator.search.space import directions
from orchestrator.search.study import StudySearch
from orchestrator.search.study_storage import SWEEP, study_answering, study_storage
from orchestrator.search.trial import REPORTED, TrialTrainable
from orchestrator.search.warm_start import add_earlier_trials, earlier_sweeps
from orchestrator.spec.model import OBJECTIVE, SweepSpec
from orchestrator.verdict.table import VariantInfo

_TRIAL_RESOURCES = PlacementGroupFactory([{"memory": 1}])
"""Ray's resources for a trial's own process: next to none, since Tune refuses to ask for none."""

RAY_FOLDER = "ray"
RAY_REPLICATES_FOLDER = "ray-replicates"


class Observer(Protocol):
    """Is notified of the trials' events, in the driver."""

    def trial_started(self, trial: str) -> None:
        """A trial has begun, or begins again."""

    def trial_reported(self, result: dict[str, Any]) -> None:
        """A trial finished an epoch; ``result`` is what it reported to Ray Tune."""

    def trial_ended(self, trial: str, result: TrialResult) -> None:
        """A trial will not run again."""


def search(
    context: SweepContext, hosts: Fleet, directory: Path, observer: Observer, budget: Budget
) -> str:
    """Run the trials that the spec asks for, as far as the budget goes.

    ``directory`` takes Ray's and Optuna's files.
    Both are views of the ledger and built anew: trials of earlier runs are suggested first, and
    report what they committed without training it again.

    Returns:
        Why fewer trials were begun than the spec asks for; empty where none was left out.

    Raises:
        InfrastructureError: all hosts were lost for good; what was committed is.
        KeyboardInterrupt: a signal ended it before all trials had ended.
    """
    spec = context.spec
    slots = hosts.capacity  # not the hosts: Tune writes the searcher to a file
    searcher = searcher_for(context, directory, lambda: budget.refusal(slots))
    tuner = _tuner(
        context,
        hosts,
        directory,
        RAY_FOLDER,
        _Events(context, hosts.reap, observer),
        TuneConfig(
            search_alg=searcher,
            scheduler=scheduler_for(spec),
            # A grid ends by itself, after the points that wait in its study.
            num_samples=-1 if spec.search.sampler == "grid" else spec.search.trial_count,
            max_concurrent_trials=hosts.capacity,
            reuse_actors=True,
        ),
    )
    with study_answering(spec.records.optuna, directory):
        tuner.fit()
    hosts.check()
    if not searcher.is_over(spec.search.trial_count):
        raise KeyboardInterrupt  # nothing is judged while trials are open
    return searcher.undone


def train_replicates(
    context: SweepContext,
    hosts: Fleet,
    directory: Path,
    observer: Observer,
    budget: Budget,
    winner: VariantInfo,
) -> str:
    """Train the winner's hyperparameters with other seeds, up to its epoch, as trials of their own.

    They are in the ledger, and in no study. What is committed is not trained again. Where the
    budget does not hold all that are not begun yet, none of those is.

    Returns:
        Why some were not begun; empty where all were.

    Raises:
        InfrastructureError: all hosts were lost for good; what was committed is.
        KeyboardInterrupt: a signal ended it before all had ended.
    """
    ledger = context.ledger()
    trial, epoch = ledger.trial(str(winner.trial)), winner.epoch
    count = context.spec.search.confirm_seeds
    seeds = [trial.training.seed + number for number in range(1, count + 1)]
    known = {r.training.seed for r in ledger.replicates() if r.replicate_of == trial.id}
    new, refusal = set(seeds) - known, ""
    if new:
        refusal = budget.refusal_of_replicates(len(new), epoch, hosts.capacity)
    started = [
        ledger.start_replicate(trial, seed).id for seed in seeds if seed in known or not refusal
    ]
    left = [r for r in started if not ledger.storage.is_committed(ledger.checkpoint(r, epoch))]
    if not left:
        return refusal
    events = _Events(context, hosts.reap, observer, last_epoch=epoch)
    _tuner(
        context,
        hosts,
        directory,
        RAY_REPLICATES_FOLDER,
        events,
        TuneConfig(
            scheduler=FIFOScheduler(), max_concurrent_trials=hosts.capacity, reuse_actors=True
        ),
        points={TRIAL: tune.grid_search(left)},
        stop={"epoch": epoch},
    ).fit()
    hosts.check()
    if not events.ended.issuperset(left):
        raise KeyboardInterrupt
    return refusal


def _tuner(
    context: SweepContext,
    hosts: Fleet,
    directory: Path,
    folder: str,
    events: "_Events",
    config: TuneConfig,
    points: dict[str, Any] | None = None,
    stop: dict[str, Any] | None = None,
) -> tune.Tuner:
    """A run of Ray Tune in ``folder`` of ``directory``, which is made anew."""
    shutil.rmtree(directory / folder, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(TrialTrainable, context=context, pool=hosts.pool), _TRIAL_RESOURCES
        ),
        param_space=points,
        tune_config=config,
        run_config=RunConfig(
            name=folder,
            storage_path=str(directory),
            stop=stop,
            callbacks=[events, JsonLoggerCallback()],
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            failure_config=FailureConfig(max_failures=context.spec.resources.trial_retries),
            verbose=0,
        ),
    )


class _Events(tune.Callback):
    """Passes Tune's events on, records how trials end, and frees their slots at once.

    A trial's own process gives its slot back too, but only much later, and never if it was killed.
    """

    def __init__(
        self,
        context: SweepContext,
        reap: Callable[[str], None],
        observer: Observer,
        last_epoch: int | None = None,
    ) -> None:
        """``last_epoch``: after which trials have finished; None for the last of each."""
        self._last_epoch = last_epoch
        self._ledger = context.ledger()
        self._reap = reap
        self._observer = observer
        self._reported: dict[str, int] = {}
        """By Tune's trial id, how many epochs were reported to Tune."""
        self.ended: set[str] = set()
        """Ids of the trials that have ended."""
        self._on_sigusr1 = signal.getsignal(signal.SIGUSR1)

    def setup(self, *_: object, **__: object) -> None:
        """Put back the handler that Tune has just replaced by one that ends the search early."""
        signal.signal(signal.SIGUSR1, self._on_sigusr1)

    def __getstate__(self) -> dict[str, object]:
        """Nothing: Tune pickles its callbacks for a restore, and each run makes its own anew."""
        return {}

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: object
    ) -> None:
        """Tune has given the trial to a process."""
        self._observer.trial_started(trial.config[TRIAL])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: object
    ) -> None:
        """An epoch was trained, or read back."""
        if "failed" not in result:
            self._reported[trial.trial_id] = result["epoch"]
            self._observer.trial_reported(result)

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: object
    ) -> None:
        """The trial's process died and it gets another, which must report nothing twice."""
        trial.set_config({**trial.config, REPORTED: self._reported.get(trial.trial_id, 0)})

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: object
    ) -> None:
        """The trial reported its last epoch, or the scheduler stopped it."""
        name, result = trial.config[TRIAL], trial.last_result
        if "failed" in result:
            self._end(name, "failed", result["failed"], final=result["final"])
        elif result["epoch"] >= (self._last_epoch or self._ledger.trial(name).training.checkpoints):
            self._end(name, "finished", "")
        else:
            self._end(name, "stopped", "worse than its peers at a rung")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: object
    ) -> None:
        """The trial's process failed more often than it may."""
        trace = str(trial.get_error() or "its process died").strip()
        self._end(trial.config[TRIAL], "failed", trace.splitlines()[-1], final=False)

    def _end(self, trial: str, end: TrialEnd, reason: str, *, final: bool = True) -> None:
        self.ended.add(trial)
        self._reap(trial)
        result = self._ledger.final_result(trial)
        if result is None:
            result = TrialResult(end, len(self._ledger.epochs(trial)), reason, final)
            self._ledger.end_trial(trial, result)
        self._observer.trial_ended(trial, result)


def searcher_for(
    context: SweepContext, directory: Path, refusal: Callable[[], str] = lambda: ""
) -> StudySearch:
    """The sweep's study, with its known trials and those of earlier sweeps, as Tune's searcher.

    ``refusal`` says why no trial may begin any more; empty while one may.
    """
    spec, ledger = context.spec, context.ledger()
    known = ledger.trials()
    searcher = StudySearch(
        spec.search,
        study_name=spec.name,
        storage=study_storage(spec.records.optuna, directory),
        known=known,
        ended={record.id for record in known if ledger.final_result(record.id)},
        start=lambda point: ledger.start_trial(context.trial_spec(point), point),
        directions=directions(spec.search.objectives, context.protocol),
        settled=spec.grace,
        refusal=refusal,
    )
    searcher.study.set_user_attr(SWEEP, ledger.begin().id)
    add_earlier_trials(searcher.study, spec, earlier_sweeps(spec, ledger))
    return searcher


_RUNG_METRICS = {"objective": OBJECTIVE, "promise": PROMISE, "validation_loss": "validation_loss"}
"""The key of a trial's result, by the spec's ``rungs.metric``."""


def scheduler_for(spec: SweepSpec) -> TrialScheduler:
    """The scheduler that compares running trials."""
    if spec.rungs.scheduler == "none":
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="epoch",
        metric=_RUNG_METRICS[spec.rungs.metric],
        mode="min" if spec.rungs.metric == "validation_loss" else "max",
        grace_period=spec.grace,
        reduction_factor=spec.rungs.reduction,
        max_t=spec.longest_training,
    )
