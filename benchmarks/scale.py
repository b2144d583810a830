"""A thousand GPUs and ten thousand trials: what the driver can decide, in virtual time.

Command: python benchmarks/scale.py [--quick] [--json] [--trials N --hosts N] [--part NAME ...]

Claim: one core decides for 1,000 GPUs with epochs of minutes, at 10,000 trials too. The study is in
a journal; in SQLite a suggestion beside 1,000 running trials fills the core by itself.
Baseline: the same driver with 100 trials on 10 hosts; for a suggestion, Optuna's own ask and tell.
Ours: the real StudySearch, ASHA, TuneController, Tune's callbacks, ledger, Pool and Leases, MLflow
tracker. Simulated, in this one process: trials' processes, hosts and their time.
Where it loses: a study in SQLite beside a thousand running trials; TPE in one of ten thousand:
docs/scaling.md says from where on.

CPU time of this process without what is simulated. Not in it: what Ray's own calls to a thousand
actors cost, the network, and trials' processes.
"""

import argparse
import asyncio
import concurrent.futures
import gc
import json
import logging
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1e9"
# Tune's own state is written at intervals of real time, and is measured by itself.

import optuna
import psutil
from _simulated import (
    MemoryContext,
    MemoryStorage,
    SimulatedActors,
    SimulatedHost,
    Stopwatch,
    local_folder,
)
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState, create_trial

from cluster.storage.base import LocalStorage
from jobs.spec.trial import PromptSpec, TrainingSpec
from orchestrator.ledger import Ledger, TrialResult
from orchestrator.scores.from_ledger import protocol_for
from orchestrator.search.space import sampler_for
from orchestrator.search.study import StudySearch
from orchestrator.search.study_storage import study_storage
from orchestrator.spec.model import Dimension, RungSpec, ScoringSpec, SearchSpec, SweepSpec
from orchestrator.workers.preparation import Prepared

EPOCH_SECONDS = 300.0
HOST_LOSS = 0.005
"""Of an epoch: a host is lost every 17 hours."""
BEAT_SECONDS = 15.0
MEMORY_DISK = Path("/dev/shm")
"""Where files of databases are, if it is there: a busy disk's waiting is no CPU time of ours."""
SPACE = {
    "learning_rate": Dimension(low=1e-5, high=1e-2, log=True),
    "rank": Dimension(choices=(8, 16, 32, 64)),
}


def spec_of(trials: int, sampler: str) -> SweepSpec:
    """A search with rungs after 1, 3, 9 and 27 epochs."""
    return SweepSpec(
        name="scale",
        family="codec_lm",
        training=TrainingSpec(epochs=27),
        search=SearchSpec(sampler=sampler, trials=trials, space=SPACE),
        rungs=RungSpec(grace_epochs=1, reduction=3),
        scoring=ScoringSpec(metrics=("wada_snr",), primary="wada_snr", min_effect=0.05),
    )


def context_of(spec: SweepSpec) -> MemoryContext:
    prompts = [PromptSpec(id=f"p{i}", text=f"text {i}") for i in range(9)]
    protocol = protocol_for(spec, prompts[:1], prompts[1:], Prepared("b", "d", "e"))
    nobody: Any = None
    return MemoryContext(spec, "memory:", "b", "d", protocol, nobody, MemoryStorage())


# the driver's loop


class Meter:
    """What the parts of the loop cost, and when trials end."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.ends: list[float] = []
        """CPU seconds by then."""
        self.times: list[float] = []
        """The same in virtual time."""
        self.started = watch.now()

    def time(self, of: object, name: str, label: str) -> None:
        """Have calls of a method counted."""
        method = getattr(of, name)

        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            started = self._watch.now()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds[label] += self._watch.now() - started
                self.calls[label] += 1

        setattr(of, name, timed)


class Shown:
    """Does what a sweep does when it hears of a trial, but for MLflow."""

    def __init__(
        self, context: MemoryContext, meter: Meter, watch: Stopwatch, actors: SimulatedActors
    ) -> None:
        from rich.console import Console

        from orchestrator.terminal.sweep import SweepProgress

        self._ledger, self._meter = context.ledger(), meter
        self._watch, self._actors = watch, actors
        self._progress = SweepProgress(Console(file=open(os.devnull, "w")))  # noqa: SIM115

    def trial_started(self, trial: str) -> None:
        from orchestrator.status import TrialStatus

        self._progress.update(TrialStatus.started(self._ledger.trial(trial)))

    def trial_reported(self, result: dict[str, Any]) -> None:
        from orchestrator.status import TrialStatus

        started = TrialStatus.started(self._ledger.trial(result["trial"]))
        self._progress.update(replace(started, epoch=result["epoch"], objective=1.0))

    def trial_ended(self, trial: str, result: TrialResult) -> None:
        self._progress.end(trial, result.end)
        self._meter.ends.append(self._watch.now())
        self._meter.times.append(self._actors.clock)


def run_loop(trials: int, hosts: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """A sweep through Tune's own loop: random search, the study in memory."""
    from ray.train._internal import storage as sessions
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Experiment
    from ray.tune.logger import JsonLoggerCallback
    from ray.tune.search import ConcurrencyLimiter, SearchGenerator

    from orchestrator.search import tune as searches

    context, watch = context_of(spec_of(trials, "random")), Stopwatch()
    memory_before = psutil.Process().memory_info().rss
    with (
        tempfile.TemporaryDirectory() as folder,
        # Ray is not started; Tune only asks it for a folder.
        mock.patch.object(sessions, "_get_ray_train_session_dir", return_value=folder),
    ):
        with mock.patch.object(searches, "study_storage", return_value=InMemoryStorage()):
            searcher = searches.searcher_for(context, Path(folder))
        scheduler, meter = searches.scheduler_for(context.spec), Meter(watch)
        for name in ("suggest", "on_trial_result", "on_trial_complete"):
            meter.time(searcher, name, f"study: {name}")
        meter.time(scheduler, "on_trial_result", "ASHA: on_trial_result")
        meter.time(scheduler, "choose_trial_to_run", "Tune: choose_trial_to_run")
        actors = SimulatedActors(context, watch, EPOCH_SECONDS, HOST_LOSS)
        shown = Shown(context, meter, watch, actors)
        events = searches._Events(context, lambda _: None, shown)
        logger = JsonLoggerCallback()
        for callback, label in ((events, "ours"), (logger, "Tune's JSON logger")):
            for name in ("on_trial_start", "on_trial_result", "on_trial_complete"):
                meter.time(callback, name, f"callbacks: {label}")
        experiment = Experiment(
            "ray",
            searches.TrialTrainable,
            num_samples=trials,
            storage_path=folder,
            resources_per_trial=searches._TRIAL_RESOURCES,
        )
        generator = SearchGenerator(ConcurrencyLimiter(searcher, max_concurrent=hosts))
        controller = TuneController(
            search_alg=generator,
            scheduler=scheduler,
            callbacks=[events, logger],
            reuse_actors=True,
            storage=experiment.storage,
        )
        controller._actor_manager = actors
        generator.add_configurations([experiment])
        controller.update_max_pending_trials()
        controller.setup_experiments([experiment], trials)
        meter.started = watch.now()
        told = 0
        while not controller.is_finished():
            controller.step()
            if len(meter.ends) >= (told + 1) * trials // 10:
                told += 1
                spent, hours = watch.now() - meter.started, actors.clock / 3600
                tell(
                    f"  {len(meter.ends)} trials ended, {actors.epochs} epochs, "
                    f"{hours:.2f} h: {spent:.1f} s of CPU"
                )
        total = watch.now() - meter.started
        began = watch.now()
        controller.checkpoint(force=True, wait=True)
        state = watch.now() - began
        found = _loop_figures(context, meter, actors, total, trials, hosts)
        found["Tune's state file, s"] = state
        found["memory a trial, KB"] = (
            (psutil.Process().memory_info().rss - memory_before) / 1024 / trials
        )
    return found


def _loop_figures(
    context: MemoryContext,
    meter: Meter,
    actors: SimulatedActors,
    total: float,
    trials: int,
    hosts: int,
) -> dict[str, Any]:
    decisions = 2 * trials + actors.epochs
    """Points, reports and ends."""
    tenth = max(1, trials // 10)
    ends, times = meter.ends, meter.times
    first, last = trials // 10, 8 * trials // 10
    share = (ends[last] - ends[first]) / (times[last] - times[first])
    """While all hosts are busy."""
    return {
        "trials": trials,
        "hosts": hosts,
        "epochs": actors.epochs,
        "epochs begun again": actors.losses,
        "virtual hours": actors.clock / 3600,
        "decisions": decisions,
        "CPU, s": total,
        "CPU a decision, ms": 1e3 * total / decisions,
        "CPU a trial, ms": 1e3 * total / trials,
        "CPU a trial, second tenth, ms": 1e3 * (ends[2 * tenth - 1] - ends[tenth - 1]) / tenth,
        "CPU a trial, last tenth, ms": 1e3 * (ends[-1] - ends[-1 - tenth]) / tenth,
        "decisions a CPU second": decisions / total,
        "share of a core, from a tenth to eight tenths": share,
        "hosts that fill a core": hosts / share,
        "requests to S3 a trial": {
            kind: count / trials for kind, count in sorted(context.storage.requests.items())
        },
        "shares": {
            label: seconds / total
            for label, seconds in sorted(meter.seconds.items(), key=lambda item: -item[1])
        },
    }


# one suggestion


def study_cost(
    sampler: str, storage: BaseStorage, done: int, running: int, asks: int
) -> dict[str, float]:
    """What a trial costs a study that has ``done`` trials and ``running`` ones, ours and plain."""
    spec = spec_of(20_000, sampler)
    context = context_of(spec)
    ledger = context.ledger()
    searcher = StudySearch(
        spec.search, "ours", storage, [], (), lambda p: ledger.start_trial(context.trial_spec(p), p)
    )
    study = searcher.study
    chance = optuna.samplers.RandomSampler(seed=1)._rng.rng
    for state, count in ((TrialState.COMPLETE, done), (TrialState.RUNNING, running)):
        for _ in range(count):
            rate, rank = 10 ** chance.uniform(-5, -2), int(chance.choice((8, 16, 32, 64)))
            value = -abs(chance.normal())
            study.add_trial(
                create_trial(
                    state=state,
                    params={"learning_rate": rate, "rank": rank},
                    distributions=searcher._search_space.distributions,
                    value=value if state == TrialState.COMPLETE else None,
                    intermediate_values={1: value},
                    user_attrs={"trial": "x"},
                )
            )
    result = {
        "epoch": spec.training.epochs,
        "objective": 0.0,
        "promise": 0.0,
        "best_variant": "v",
    }

    def ours(number: int) -> None:
        searcher.suggest(f"t{number}")
        searcher.on_trial_complete(f"t{number}", result)

    plain = optuna.load_study(
        study_name="ours", storage=storage, sampler=sampler_for(spec.search, 0)
    )

    def theirs(_: int) -> None:
        plain.tell(plain.ask(searcher._search_space.distributions), 0.0)

    return {
        "done": done,
        "running": running,
        "ours, ms": 1e3 * _each(ours, asks),
        "plain Optuna, ms": 1e3 * _each(theirs, asks),
    }


def _each(call: Callable[[int], None], times: int) -> float:
    """CPU seconds of a call, after a first one."""
    call(-1)
    started = time.process_time()
    for number in range(times):
        call(number)
    return (time.process_time() - started) / times


def run_study(quick: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """Suggestions in studies of several sizes and storages."""
    at_once, asks = (20, 2) if quick else (1000, 4)
    sizes = (100, 300) if quick else (100, 1000, 3000, 10_000)
    with tempfile.TemporaryDirectory() as folder:
        for sampler in ("random", "tpe"):
            for done in sizes:
                running = at_once if done > at_once else 10
                row = study_cost(sampler, InMemoryStorage(), done, running, asks)
                yield f"{sampler}, in memory, {done}", row
        for number, (name, running) in enumerate((("few", 10), ("many", at_once))):
            for kind, address in (
                ("SQLite", f"sqlite:///{folder}/{number}.db"),
                ("journal", f"journal:{folder}/{number}.log"),
            ):
                storage = study_storage(address, Path(folder))
                row = study_cost("random", storage, 100, running, asks)
                yield f"random, {kind}, {name} running", row


# the pool


def run_pool(hosts: int, slots: int, trials: int, beats: int) -> dict[str, float]:
    """Trials that take the slots of simulated hosts, which die now and then."""
    from orchestrator.hosts import pool as pools

    made = [SimulatedHost(slots, concurrent.futures.Future) for _ in range(hosts)]
    names = {f"host-{number}": host for number, host in enumerate(made)}

    async def serve() -> dict[str, float]:
        with mock.patch.object(pools.ray, "get_actor", names.__getitem__):
            pool = pools.Pool(list(names), 600.0, 60.0)
        started = time.process_time()
        first = [pool.acquire(f"t{n}", f"t{n}-a", False) for n in range(hosts * slots)]
        await asyncio.gather(*first)
        opened = time.process_time()
        for number in range(trials):
            if number % 200 == 199:
                made[number % hosts].die()
                await asyncio.sleep(0)
            await pool.reap(f"t{number}")
            after = number + hosts * slots
            await pool.acquire(f"t{after}", f"t{after}-a", False)
        leased = time.process_time()
        for _ in range(beats):
            await pool.beat()
            for _ in range(3):
                await asyncio.sleep(0)
        beaten = time.process_time()
        deaths = (await pool.state())["deaths"]
        beat = (beaten - leased) / beats
        return {
            "hosts": hosts,
            "slots": slots,
            "trials": trials,
            "hosts lost": deaths,
            "opening and first leases, s": opened - started,
            "CPU a lease, ms": 1e3 * (leased - opened) / trials,
            "CPU a beat, ms": 1e3 * beat,
            "share of a core for beats": beat / BEAT_SECONDS,
        }

    return asyncio.run(serve())


# the ledger


def run_ledger(trials: int) -> dict[str, float]:
    """What a new driver reads of a sweep in a folder, and what a suggestion asks of it."""
    context = context_of(spec_of(trials, "random"))
    made = context.ledger()
    points = [{"learning_rate": 1e-5 * 1.0005**n, "rank": 8} for n in range(trials + 20)]
    for point in points[:trials]:
        record = made.start_trial(context.trial_spec(point), point)
        made.end_trial(record.id, TrialResult("finished", 1))
    with tempfile.TemporaryDirectory() as folder:
        local_folder(made, Path(folder))
        ledger = Ledger(LocalStorage(Path(folder)), "scale")
        started = time.process_time()
        records = ledger.trials()
        read = time.process_time()
        for record in records:
            ledger.result(record.id)
        ended = time.process_time()
        ledger.trials()
        listed = time.process_time()
        for point in points[trials:]:
            ledger.start_trial(context.trial_spec(point), point)
        asked = time.process_time()
    return {
        "trials": trials,
        "all trials, first time, s": read - started,
        "all results, s": ended - read,
        "all trials again, s": listed - ended,
        "a trial started, ms": 1e3 * (asked - listed) / (len(points) - trials),
    }


# MLflow


def run_mlflow(trials: int, epochs: int) -> dict[str, float]:
    """Runs of trials told to MLflow in SQLite, by the sweep's own tracker."""
    from mlflow.entities import Metric

    from orchestrator.records.runs import TRIAL_TAG, RunContent
    from orchestrator.records.tracking import SWEEP_ID_TAG, Tracker, mlflow_store

    values = [f"metric_{n}/scale_1.00" for n in range(40)]

    def content(trial: str | None, done: int) -> RunContent:
        tags = {SWEEP_ID_TAG: "s"} | ({TRIAL_TAG: trial} if trial else {})
        params = {f"p{n}": "1" for n in range(25)}
        return RunContent(
            trial,
            trial or "sweep",
            1,
            params,
            tags,
            epochs=done,
            epoch_values=lambda epoch: [Metric(name, 1.0, epoch, epoch) for name in values],
        )

    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        store = mlflow_store(None, Path(folder))
        tracker = Tracker(store, "scale", "s", LocalStorage(Path(folder)))
        tracker.record(content(None, 0))
        opened = time.process_time()
        for number in range(trials):
            for epoch in range(1, epochs + 1):
                tracker.record(content(f"t{number}", epoch))
        told = time.process_time() - opened
        looked = time.process_time()
        Tracker(store, "scale", "s", LocalStorage(Path(folder)))
        again = time.process_time() - looked
    return {
        "metrics an epoch": len(values),
        "opening a new database, s": opened - started,
        "CPU an epoch, ms": 1e3 * told / trials / epochs,
        "metrics a CPU second": trials * epochs * len(values) / told,
        "finding a run again, ms": 1e3 * again / (trials + 1),
    }


# all of it


def rounded(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200 trials on 20 hosts")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--hosts", type=int, default=1000)
    parts = ("loop", "study", "pool", "ledger", "mlflow")
    parser.add_argument("--part", action="append", choices=parts, help="only this; may be repeated")
    options = parser.parse_args()
    quick, asked = options.quick, options.part or parts
    logging.getLogger("ray.tune").setLevel(logging.ERROR)  # it warns by wall time
    if MEMORY_DISK.is_dir():
        tempfile.tempdir = str(MEMORY_DISK)
    trials, hosts = (200, 20) if quick else (options.trials, options.hosts)
    rows: dict[str, Any] = {}

    def done(name: str, row: dict[str, Any]) -> None:
        rows[name] = rounded(row)
        gc.collect()
        if not options.json:
            print(f"{name}: {json.dumps(rows[name])}", flush=True)

    def tell(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    if "pool" in asked:
        done("pool", run_pool(hosts, 1, trials, 10))
        done("pool of packs", run_pool(hosts // 4, 4, trials, 10))
    if "ledger" in asked:
        done("ledger", run_ledger(trials))
    if "study" in asked:
        for name, row in run_study(quick):
            done(f"study: {name}", row)
    if "mlflow" in asked:
        done("mlflow", run_mlflow(5 if quick else 50, 3))
    if "loop" in asked:
        # First what is imported and compiled the first time.
        run_loop(20, 5, lambda _: None)
        done("loop, small", run_loop(100, 10, lambda _: None))
        done("loop", run_loop(trials, hosts, tell))
    print(json.dumps(result_of(rows, asked, trials, hosts, quick)))


def result_of(
    rows: dict[str, Any], parts: Sequence[str], trials: int, hosts: int, quick: bool
) -> dict[str, Any]:
    ratios = {}
    if "loop" in parts:
        a_decision = "CPU a decision, ms"
        ratios["CPU a decision, over 100 trials on 10 hosts"] = round(
            rows["loop"][a_decision] / rows["loop, small"][a_decision], 2
        )
        ratios["GPUs that fill a driver's core"] = rows["loop"]["hosts that fill a core"]
    if "study" in parts:
        largest = [row for name, row in rows.items() if name.startswith("study: tpe")][-1]
        ratios["a TPE trial in the largest study, over plain Optuna's"] = round(
            largest["ours, ms"] / largest["plain Optuna, ms"], 2
        )
    return {
        "name": "scale",
        "ratios": ratios,
        "baseline": "the same driver with 100 trials on 10 hosts; Optuna's own ask and tell",
        "conditions": {
            "rows": rows,
            "parts": list(parts),
            "trials": trials,
            "hosts": hosts,
            "epoch, seconds": EPOCH_SECONDS,
            "quick": quick,
        },
    }


if __name__ == "__main__":
    main()
