"""What deciding costs: a thousand trials that do nothing, through all that decides about trials.

Command: python benchmarks/overhead.py [--quick] [--json] [--sweep DIRECTORY]

Claim: hundreds of trials a minute, ten times what Ray Tune's defaults do, for some 30 ms of the
driver's CPU a report and 0.1 MB of its memory a trial; in a sweep at most 2 % of a step's time.
Baseline: Ray Tune as it comes, with a class trainable that does nothing, an Optuna search and as
many trials at once: a process for each trial, no hosts, no pool and no ledger.
Ours: hosts without a model that answer at once, and everything else as in a sweep: pool, leases,
trials' processes, Tune, an Optuna study in a journal, and a ledger that commits each epoch; and
the same with the study in SQLite. "All CPU" is of every process, Ray's own included.
--sweep adds the share of the orchestrator in a sweep that was run for itself (such as sweeps/demo,
which `make sweep` leaves): between an epoch's last score and the next epoch's first step.
Where it loses: Optuna's TPE looks at every earlier trial for each suggestion; the thousand are
drawn at random, and a row with TPE stands beside it.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from cluster.ray.connect import ray_cluster
from jobs.spec.trial import PromptSpec, TrainingSpec
from orchestrator.spec.model import (
    Dimension,
    RecordsSpec,
    ResourcesSpec,
    RungSpec,
    ScoringSpec,
    SearchSpec,
    SweepSpec,
)

REPORTS = 3
HOSTS, SLOTS = 2, 4


def no_op_spec(trials: int, sampler: str, study: str | None) -> SweepSpec:
    """A search whose trials report three times."""
    return SweepSpec(
        name="overhead",
        family="codec_lm",
        training=TrainingSpec(epochs=REPORTS),
        search=SearchSpec(
            sampler=sampler,
            trials=trials,
            space={
                "learning_rate": Dimension(low=1e-5, high=1e-2, log=True),
                "rank": Dimension(choices=(8, 16, 32, 64)),
            },
        ),
        rungs=RungSpec(scheduler="none"),
        scoring=ScoringSpec(metrics=("wada_snr",), primary="wada_snr", min_effect=0.05),
        records=RecordsSpec(optuna=study),
        resources=ResourcesSpec(hosts=HOSTS, slots_per_host=SLOTS, cpus_per_rank=0.5),
    )


def no_op_loop(task: object, end: object) -> Any:  # noqa: ANN401 (a HostLoop)
    """A host's loop that has no model, and answers at once when all its slots have been taken.

    Real trials last longer than a process takes to start. When they do not, Tune gives a trial
    whose process is starting to one that has become free, and ends the other unused.
    """
    import threading

    from jobs.training.epochs import EpochLosses, write_losses
    from jobs.training.packing import HostProgress, PackingPlan

    class Snapshot:
        write = staticmethod(write_losses)

    class Loop:
        def __init__(self) -> None:
            self._epochs: dict[str, int] = {}
            self._begun = 0
            self._all_begun = threading.Event()

        def measure(self, training: object, batch_sizes: tuple[int, ...], slots: int) -> object:
            return PackingPlan(slots, dict.fromkeys(batch_sizes, 1), {}, 0.0, "no model")

        def attach(self, slot: str, trial: object, checkpoint: object) -> None:
            self._epochs[slot] = 0
            self._begun += 1
            if self._begun == SLOTS:
                self._all_begun.set()

        def detach(self, slot: str) -> None:
            self._epochs.pop(slot, None)

        def advance(self, slot: str) -> object:
            self._all_begun.wait()
            self._epochs[slot] += 1
            return EpochLosses(self._epochs[slot], 1.0, 1.0, (), (), 0.0, time.time())

        def cut(self, slot: str) -> None:
            """Nothing is trained that could be cut short."""

        def snapshot(self, slot: str) -> object:
            return Snapshot()

        def progress(self) -> object:
            return HostProgress(0, "", 0.0)

    return Loop()


class Meter:
    """Notes when each of ``trials`` ends, and what the driver has used by then."""

    def __init__(self, trials: int) -> None:
        self._reports = 0
        self._began = self._now()
        self._ends: list[tuple[float, float, float]] = []
        self._first, self._trials = trials // 4, trials
        self._everything: list[float] = []
        """CPU seconds of the driver and all its processes after a quarter, and at the end."""

    def trial_started(self, trial: str) -> None:
        """Nothing."""

    def trial_reported(self, result: dict[str, Any]) -> None:
        """Counts, so that trials that failed are not taken for fast ones."""
        self._reports += 1

    def trial_ended(self, trial: str, result: object) -> None:
        """A trial is over."""
        self._ends.append(self._now())
        if len(self._ends) in (self._first + 1, self._trials):
            self._everything.append(sum(map(_cpu, psutil.Process().children(recursive=True))))
            self._everything[-1] += time.process_time()

    def found(self) -> dict[str, float]:
        """The last three quarters of the trials by themselves: processes start in the first."""
        assert self._reports == self._trials * REPORTS, "a trial did not report all its epochs"
        trials, first, (second, cpu, memory) = len(self._ends), self._first, self._ends[-1]
        begun, _, before = self._ends[first]
        return {
            "trials": trials,
            "trials a minute": 60 * trials / (second - self._began[0]),
            "trials a minute, after a quarter": 60 * (trials - first - 1) / (second - begun),
            "driver CPU a report, ms": 1e3 * (cpu - self._began[1]) / trials / REPORTS,
            "all CPU a trial, after a quarter, ms": 1e3
            * (self._everything[-1] - self._everything[0])
            / (trials - first - 1),
            "driver memory a trial, KB": (memory - before) / (trials - first - 1) / 1024,
        }

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), time.process_time(), psutil.Process().memory_info().rss


def _cpu(process: psutil.Process) -> float:
    try:
        spent = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(spent.user + spent.system)


def run_ours(trials: int, sampler: str, storage: Path, study: str | None) -> dict[str, float]:
    """No-op trials through the whole orchestrator, whose study is at the address ``study``."""
    from _silent import run_silently

    from orchestrator.context import SweepContext
    from orchestrator.scores.from_ledger import protocol_for
    from orchestrator.workers.preparation import Prepared

    spec = no_op_spec(trials, sampler, study)
    prompts = [PromptSpec(id=f"p{i}", text=f"text {i}") for i in range(9)]
    protocol = protocol_for(spec, prompts[:1], prompts[1:], Prepared("b", "d", "e"))
    nobody: Any = None
    context = SweepContext(spec, str(storage), "b", "d", protocol, nobody)
    meter = Meter(trials)
    run_silently(context, storage / "overhead", meter, no_op_loop)
    return meter.found()


def run_plain(trials: int, storage: Path) -> dict[str, float]:
    """No-op trials through Ray Tune alone."""
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    class NoOp(tune.Trainable):
        def step(self) -> dict[str, Any]:
            return {"objective": 1.0, "done": self.iteration + 1 >= REPORTS}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing."""

    meter = Meter(trials)

    class Ends(tune.Callback):
        def __getstate__(self) -> dict[str, object]:
            return {}

        def on_trial_result(self, *_: object, **__: object) -> None:
            meter.trial_reported({})

        def on_trial_complete(self, *_: object, **__: object) -> None:
            meter.trial_ended("", None)

    search = OptunaSearch(
        {"rank": tune.choice([8, 16, 32, 64]), "learning_rate": tune.loguniform(1e-5, 1e-2)},
        metric="objective",
        mode="max",
    )
    tune.Tuner(
        tune.with_resources(NoOp, {"cpu": 0.05}),
        tune_config=tune.TuneConfig(
            search_alg=search, num_samples=trials, max_concurrent_trials=HOSTS * SLOTS
        ),
        run_config=tune.RunConfig(
            name="plain", storage_path=str(storage), verbose=0, callbacks=[Ends()]
        ),
    ).fit()
    return meter.found()


def share_of(sweep: Path) -> dict[str, float]:
    """How much of its trials' time went between an epoch's last score and the next one's start."""
    from cluster.storage.base import open_storage
    from orchestrator.ledger import Ledger

    ledger = Ledger(open_storage(str(sweep.parent)), sweep.name)
    spent, steps = [], []
    for record in ledger.trials():
        begun = [epoch.finished_at - epoch.seconds for epoch in ledger.epochs(record.id)]
        for epoch, (begin, following) in enumerate(itertools.pairwise(begun), start=1):
            heard = [
                path.stat().st_mtime
                for path in (sweep / "scores/screen").glob(f"{record.id}-e{epoch:02d}-*.jsonl")
            ]
            spent.append(following - max(heard))
            steps.append(following - begin)
    return {
        "epochs": len(steps),
        "median, seconds": statistics.median(spent),
        "median epoch, seconds": statistics.median(steps),
        "share": sum(spent) / sum(steps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    parser.add_argument("--sweep", type=Path, help="the directory of a sweep that was run")
    options = parser.parse_args()
    many, few = (100, 20) if options.quick else (1000, 100)
    load = os.getloadavg()[0]
    rows: dict[str, dict[str, float]] = {}
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # Ray's workers import _silent too

    def done(name: str, row: dict[str, float]) -> None:
        rows[name] = {key: float(f"{value:.3g}") for key, value in row.items()}
        if not options.json:
            print(f"{name}: " + ", ".join(f"{k} {v:g}" for k, v in rows[name].items()), flush=True)

    for name, trials in (("random", many), ("tpe", 3 * few), ("random, SQLite", 3 * few)):
        sampler, _, kind = name.partition(", ")
        with tempfile.TemporaryDirectory() as storage, ray_cluster(None):
            study = f"sqlite:///{storage}/study.db" if kind else None
            done(name, run_ours(trials, sampler, Path(storage), study))
    with tempfile.TemporaryDirectory() as storage, ray_cluster(None):
        done("plain", run_plain(few, Path(storage)))
    if options.sweep:
        done("sweep", share_of(options.sweep))
    rate, driver = "trials a minute, after a quarter", "driver CPU a report, ms"
    result = {
        "name": "overhead",
        "ratios": {
            "rate over plain Ray Tune's": round(rows["random"][rate] / rows["plain"][rate], 2),
            "driver CPU with the study in SQLite, over the journal": round(
                rows["random, SQLite"][driver] / rows["random"][driver], 2
            ),
            **({"share of a step": rows["sweep"]["share"]} if options.sweep else {}),
        },
        "baseline": "Ray Tune and Optuna with a class trainable that does nothing, Tune's defaults",
        "conditions": {
            "rows": rows,
            "at once": HOSTS * SLOTS,
            "reports a trial": REPORTS,
            "load before": load,
            "quick": options.quick,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
