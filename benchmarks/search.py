"""Search that spends less: a whole grid was trained once, and searches are replayed on its table.

Command: python benchmarks/search.py [--quick] [--json] [--record LEDGER]

Claim: a search that learns the learning rate at the lowest rank, with rungs on what is promised,
finds a winner within the interval of the grid's best for at most 0.25 of the grid's epochs in at
least 9 of 10 seeds.
Baseline: the whole grid; random search of a quarter of it; ASHA on the validation loss, in the
same command, each with the product's own searcher, scheduler and rule for choosing.
Where it loses: where the best learning rate of the lowest rank is not good at the others, and on
prompts that did not choose: the table says how often.

The table, search_grid.jsonl.gz, is what search_grid.yaml trained and heard. --record makes it anew
from the folder of such a sweep.
"""

import argparse
import gzip
import heapq
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from cluster.storage.base import open_storage
from jobs.metrics.base import ClipScores
from jobs.spec.trial import BASE_VARIANT, EngineSpec, TrainingSpec, TrialSpec
from orchestrator.ledger import PROTOCOL_FILE, Ledger, TrialRecord
from orchestrator.search.study import StudySearch
from orchestrator.search.tune import scheduler_for
from orchestrator.spec.model import (
    Dimension,
    FirstSpec,
    RungSpec,
    ScoringSpec,
    SearchSpec,
    SweepSpec,
)
from orchestrator.verdict.comparison import Assessment, Comparison
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.table import ScoreTable, VariantInfo

TABLE = Path(__file__).with_name("search_grid.jsonl.gz")
SLOTS = 2
"""Trials at once."""
SEEDS = 10
DIGITS = 5
"""Of a score in the table."""

Point = tuple[int, float]
"""Rank and learning rate."""


# the table


def record(folder: Path) -> None:
    """Write the table from a sweep's folder of a storage."""
    ledger = Ledger(open_storage(str(folder.parent)), folder.name)
    lines = [{"protocol": json.loads(ledger.read_text(PROTOCOL_FILE) or "")}]
    lines.append({"base": _columns(ledger.scores("base") or [])})
    for trial in ledger.trials():
        for losses in ledger.epochs(trial.id):
            scales = {}
            for scale in json.loads(ledger.read_text(PROTOCOL_FILE) or "")["lora_scales"]:
                rows = ledger.scores(f"{trial.id}-e{losses.epoch:02d}-s{scale:.2f}")
                if rows is not None:
                    scales[f"{scale:g}"] = _columns(rows)
            lines.append(
                {
                    "rank": trial.training.rank,
                    "learning_rate": trial.training.learning_rate,
                    "epoch": losses.epoch,
                    "training_loss": round(losses.training_loss, DIGITS),
                    "validation_loss": round(losses.validation_loss, DIGITS),
                    "seconds": round(losses.seconds, 2),
                    "scales": scales,
                }
            )
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    TABLE.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{len(lines) - 2} epochs, {TABLE.stat().st_size} bytes: {TABLE}")


def _columns(rows: Sequence[ClipScores]) -> dict[str, list[float | None]]:
    """Each metric's values in the order of the prompts, which all variants share."""
    names = sorted({name for row in rows for name in (*row.values, *row.failures)})
    return {
        name: [round(row.values[name], DIGITS) if name in row.values else None for row in rows]
        for name in names
    }


@dataclass(frozen=True)
class Epoch:
    """What one epoch of a trial gave."""

    epoch: int
    validation_loss: float
    seconds: float
    heard: tuple[Assessment, ...]
    """Each of its variants."""

    @property
    def best(self) -> Assessment:
        return max(self.heard, key=lambda each: each.objective)

    @property
    def promise(self) -> float:
        return max(each.promise for each in self.heard)


class Grid:
    """The table as heard on some of its prompts."""

    def __init__(self, lines: Sequence[dict[str, Any]], part: slice = slice(None)) -> None:
        whole = Protocol.model_validate(lines[0]["protocol"]).screening()
        self.protocol = whole.model_copy(update={"prompts": whole.prompts[part]})
        self._ids = [(at, prompt.id) for at, prompt in enumerate(whole.prompts)][part]
        clips = self._clips("base", lines[1]["base"])
        infos = [VariantInfo.unlisted(BASE_VARIANT)]
        for line in lines[2:]:
            for scale, columns in line["scales"].items():
                name = _name(line, scale)
                infos.append(_info(name, line, float(scale)))
                clips += self._clips(name, columns)
        self.comparison = Comparison(ScoreTable.build(infos, clips, self.protocol), self.protocol)
        self.epochs: dict[Point, list[Epoch]] = {}
        for line in lines[2:]:
            heard = tuple(self.comparison.assess(_name(line, scale)) for scale in line["scales"])
            self.epochs.setdefault((line["rank"], line["learning_rate"]), []).append(
                Epoch(line["epoch"], line["validation_loss"], line["seconds"], heard)
            )

    def _clips(self, name: str, columns: dict[str, list[float | None]]) -> list[ClipScores]:
        rows = []
        for at, prompt in self._ids:
            values = {metric: column[at] for metric, column in columns.items()}
            found = {metric: value for metric, value in values.items() if value is not None}
            missing = {metric: "no value" for metric in values.keys() - found.keys()}
            rows.append(ClipScores(name, prompt, self.protocol.seed, found, missing))
        return rows

    @cached_property
    def heard(self) -> dict[str, Assessment]:
        """Every variant."""
        return {
            each.variant: each
            for epochs in self.epochs.values()
            for epoch in epochs
            for each in epoch.heard
        }

    @cached_property
    def best(self) -> Assessment:
        """The grid's winner."""
        return max(self.heard.values(), key=lambda each: each.objective)

    def is_within(self, variant: str) -> bool:
        """Whether a variant keeps the constraints and is as good as the best one's interval."""
        gains = self.comparison.gains(self.best.variant)
        interval = self.comparison.bootstrap.interval(gains)
        return self.is_admissible(variant) and self.heard[variant].objective >= interval.low

    def is_equal(self, variant: str) -> bool:
        """Whether a variant cannot even be told apart from the best in pairs of clips."""
        tied = self.comparison.is_tied(self.best.variant, variant)
        return self.is_admissible(variant) and tied

    def gain(self, variant: str) -> float:
        """In similarity, over the base."""
        return float(self.comparison.gains(variant).mean())

    def is_admissible(self, variant: str) -> bool:
        """Whether it keeps the gates and the constraint."""
        return all(value <= 0 for value in self.heard[variant].constraints.values())


def _name(line: dict[str, Any], scale: str) -> str:
    return f"r{line['rank']}-l{line['learning_rate']:g}-e{line['epoch']}-s{scale}"


def _info(name: str, line: dict[str, Any], scale: float) -> VariantInfo:
    return VariantInfo(
        id=name,
        trial=name.split("-e")[0],
        epoch=line["epoch"],
        lora_scale=scale,
        rank=line["rank"],
        learning_rate=line["learning_rate"],
        validation_loss=line["validation_loss"],
    )


# a search, replayed


@dataclass(frozen=True)
class Spent:
    """What a search came to."""

    epochs: int
    clips: int
    winner: str


def replay(grid: Grid, spec: SweepSpec, seed: int) -> Spent:
    """Run the product's searcher and scheduler on the table, two trials at a time.

    An epoch lasts what it lasted, a third more or less: ``seed`` decides which, and so who comes
    first at a rung.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    chance = np.random.default_rng(seed)
    search = spec.search.model_copy(update={"seed": seed})
    started: dict[str, TrialRecord] = {}

    def start(point: dict[str, Any]) -> TrialRecord:
        trial = _trial(point, spec, len(started))
        return started.setdefault(trial.id, trial)

    searcher = StudySearch(
        search,
        "replay",
        optuna.storages.InMemoryStorage(),
        [],
        (),
        start,
        settled=spec.rungs.grace_epochs,
    )
    scheduler = scheduler_for(spec)
    clock, count, spent = 0.0, 0, Counter[str]()
    running: list[tuple[float, int, str, list[Epoch], int]] = []
    heard: list[Assessment] = []
    is_over = False
    while True:
        while len(running) < SLOTS and count < search.trial_count and not is_over:
            asked = searcher.suggest(f"t{count}")
            if asked in (None, Searcher.FINISHED):
                is_over = asked == Searcher.FINISHED
                break
            point = started[asked["trial"]].point
            epochs = grid.epochs[point["rank"], point["learning_rate"]]
            scheduler.on_trial_add(None, SimpleNamespace(trial_id=f"t{count}"))
            until = clock + epochs[0].seconds * chance.uniform(2 / 3, 4 / 3)
            heapq.heappush(running, (until, count, f"t{count}", epochs, 0))
            count += 1
        if not running:
            break
        clock, number, name, epochs, at = heapq.heappop(running)
        spent["epochs"] += 1
        spent["clips"] += len(epochs[at].heard) * len(grid.protocol.prompts)
        heard += epochs[at].heard
        trial, result = SimpleNamespace(trial_id=name), _result(epochs[: at + 1])
        if at + 1 == len(epochs):
            scheduler.on_trial_complete(None, trial, result)
            searcher.on_trial_complete(name, result)
        elif scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
            scheduler.on_trial_remove(None, trial)
            searcher.on_trial_complete(name, result)
        else:
            searcher.on_trial_result(name, result)
            until = clock + epochs[at + 1].seconds * chance.uniform(2 / 3, 4 / 3)
            heapq.heappush(running, (until, number, name, epochs, at + 1))
    winner = max(heard, key=lambda each: each.objective)
    return Spent(spent["epochs"], spent["clips"], winner.variant)


def _trial(point: dict[str, Any], spec: SweepSpec, order: int) -> TrialRecord:
    made = TrialSpec(
        family=spec.family,
        base_digest="b",
        data_digest="d",
        training=TrainingSpec.model_validate({**spec.training.model_dump(), **point}),
        engine=EngineSpec(),
    )
    return TrialRecord(made.id, order, point, made)


def _result(epochs: Sequence[Epoch]) -> dict[str, Any]:
    best = max((epoch.best for epoch in epochs), key=lambda each: each.objective)
    return {
        "epoch": epochs[-1].epoch,
        "training_iteration": epochs[-1].epoch,
        "objective": best.objective,
        "promise": epochs[-1].promise,
        "validation_loss": epochs[-1].validation_loss,
        "best_variant": best.variant,
        **{f"measured/{name}": value for name, value in best.measured.items()},
        **{f"constraints/{name}": value for name, value in best.constraints.items()},
    }


# what is compared


def sweep(points: Sequence[Point], search: dict[str, Any], rung: RungSpec) -> SweepSpec:
    """A spec that searches ``points``."""
    ranks = tuple(dict.fromkeys(rank for rank, _ in points))
    rates = tuple(dict.fromkeys(rate for _, rate in points))
    space = {"rank": Dimension(choices=ranks), "learning_rate": Dimension(choices=rates)}
    return SweepSpec(
        name="replay",
        family="codec_lm",
        training=TrainingSpec(epochs=4),
        search=SearchSpec(**search, space=space),
        rungs=rung,
        scoring=ScoringSpec(
            metrics=({"name": "similarity"},), primary="similarity", min_effect=0.05
        ),
    )


OURS = "voxsweep"
PROMISE = RungSpec(metric="promise", grace_epochs=2, reduction=3)
OBJECTIVE = RungSpec(metric="objective", grace_epochs=2, reduction=3)


def ours(points: Sequence[Point], first_rank: int, rung: RungSpec = PROMISE) -> SweepSpec:
    """Four learning rates at one rank, and the best of them at the others."""
    ranks = {rank for rank, _ in points}
    tried = min(4, len({rate for _, rate in points}))
    first = FirstSpec(hold={"rank": first_rank}, trials=tried)
    search = {"sampler": "tpe", "trials": tried + len(ranks) - 1, "first": first}
    return sweep(points, search, rung)


def arms(points: Sequence[Point]) -> dict[str, SweepSpec]:
    """The searches that are compared, those of others sized for about a quarter of the grid."""
    lowest, quarter = min(rank for rank, _ in points), len(points) // 4
    none = RungSpec(scheduler="none")
    drawn = {"sampler": "random", "trials": quarter * 3 // 2}
    return {
        OURS: ours(points, lowest),
        "voxsweep, rungs on the objective": ours(points, lowest, OBJECTIVE),
        "voxsweep, no rungs": ours(points, lowest, none),
        "random": sweep(points, {"sampler": "random", "trials": quarter}, none),
        "random, rungs on the promise": sweep(points, drawn, PROMISE),
        "random, rungs on the objective": sweep(points, drawn, OBJECTIVE),
        "ASHA on loss": sweep(
            points,
            {"sampler": "random", "trials": 2 * quarter},
            RungSpec(metric="validation_loss", grace_epochs=1, reduction=2),
        ),
        "grid": sweep(points, {"sampler": "grid"}, none),
    }


def row(name: str, spec: SweepSpec, seeds: int, grid: Grid, judge: Grid) -> dict[str, Any]:
    """A search over ``grid`` from each seed, its winners judged on ``judge``."""
    runs = [replay(grid, spec, seed) for seed in range(seeds)]
    epochs = sum(map(len, grid.epochs.values()))
    clips = len(grid.heard) * len(grid.protocol.prompts)
    shares = [run.epochs / epochs for run in runs]
    won = [judge.is_within(run.winner) for run in runs]
    return {
        "search": name,
        "seeds": seeds,
        "within": sum(won),
        "not told apart": sum(judge.is_equal(run.winner) for run in runs),
        "within for a quarter": sum(
            ok and share <= 0.25 for ok, share in zip(won, shares, strict=True)
        ),
        "share of epochs, mean": round(float(np.mean(shares)), 3),
        "share of epochs, most": round(max(shares), 3),
        "share of clips, mean": round(float(np.mean([run.clips / clips for run in runs])), 3),
        "gain, mean": round(
            float(np.mean([judge.gain(run.winner) for run in runs])),
            3,
        ),
        "keeps constraints": sum(judge.is_admissible(run.winner) for run in runs),
    }


def cut(lines: Sequence[dict[str, Any]], rates: Sequence[float]) -> list[dict[str, Any]]:
    """The table without the other learning rates."""
    return [*lines[:2], *(line for line in lines[2:] if line["learning_rate"] in rates)]


def rows(lines: Sequence[dict[str, Any]], seeds: int) -> Iterator[dict[str, Any]]:
    """All searches on the whole table; ours on parts of it, and on prompts that did not choose."""
    whole = Grid(lines)
    points = list(whole.epochs)
    for name, spec in arms(points).items():
        yield row(name, spec, 1 if name == "grid" else seeds, whole, whole)
    for rank in sorted({rank for rank, _ in points})[1:]:
        yield row(f"{OURS}, first at rank {rank}", ours(points, rank), seeds, whole, whole)
    rates = sorted({rate for _, rate in points})
    parts = {
        "without the highest rate": rates[:-1],
        "without the lowest rate": rates[1:],
        "without the two highest rates": rates[:-2],
        "without the two lowest rates": rates[2:],
        "every other rate from the first": rates[::2],
        "every other rate from the second": rates[1::2],
    }
    for name, kept in parts.items():
        part = Grid(cut(lines, kept))
        yield row(f"{OURS}, {name}", arms(list(part.epochs))[OURS], seeds, part, part)
    half = len(whole.protocol.prompts) // 2
    first, second = Grid(lines, slice(half)), Grid(lines, slice(half, None))
    for heard, judge, which in ((first, second, "first"), (second, first, "second")):
        for name, spec in arms(points).items():
            if name in (OURS, "random", "grid"):
                many = 1 if name == "grid" else seeds
                yield row(f"{name}, chosen by the {which} half", spec, many, heard, judge)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 seeds, where there are 10")
    parser.add_argument("--json", action="store_true", help="print the result alone")
    parser.add_argument("--record", type=Path, help="make the table from a sweep's folder")
    options = parser.parse_args()
    if options.record:
        record(options.record)
        return
    lines = [json.loads(line) for line in gzip.decompress(TABLE.read_bytes()).splitlines()]
    found = []
    for each in rows(lines, 2 if options.quick else SEEDS):
        found.append(each)
        if not options.json:
            print(json.dumps(each), flush=True)
    result = {
        "name": "search",
        "ratios": {each["search"]: each["share of epochs, mean"] for each in found},
        "baseline": "the whole grid; random search; ASHA on the validation loss",
        "conditions": {"slots": SLOTS, "rows": found, "quick": options.quick},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
