"""What a sweep will cost, by the measured seconds of an earlier one of its family and machine."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import quantiles

from pydantic import ValidationError

from cluster.storage.base import Storage
from jobs.spec.yaml_files import load_yaml
from orchestrator.ledger import PLAN_FILE, SPEC_FILE, SWEEP_FILE, Ledger, TrialHistory
from orchestrator.spec.model import SweepSpec

_LEAST_EPOCHS = 3
"""Epochs that a sweep must have committed to be measured by."""


@dataclass(frozen=True)
class Range:
    """A number that is known to lie between two, as far as earlier ones tell."""

    low: float
    high: float


@dataclass(frozen=True)
class Cost:
    """What is left of a sweep, or all of it."""

    by: str
    """What it was measured by: a sweep, with the number of its epochs."""
    hours: Range
    """Wall time."""
    gpu_hours: Range
    """Of all GPUs that the hosts hold all the time."""
    price: Range | None
    """In the currency of the rate that was given; None without one, or without GPUs."""


@dataclass(frozen=True)
class Work:
    """How much a sweep is to do."""

    epochs: Range
    """Fewest if every rung stops all that it may, most if none stops any."""
    clips: int
    """Training clips of an epoch."""
    prompts: int
    """Clips that are spoken and scored after an epoch."""
    slots: int
    """Trials at once, over all hosts."""
    hosts: int
    gpus: float
    """That these hold."""


@dataclass(frozen=True)
class Measured:
    """Seconds of an earlier sweep, each between its 10th and its 90th percentile over trials."""

    by: str
    train: Range
    """A training clip in an epoch, validation included, with ``slots_per_host`` trials at once."""
    speak: Range
    """A clip spoken and scored, waiting included."""
    slots_per_host: float
    rest: Range
    """Before the first trial and after the last: loading, the base's speech, set B, the report."""

    def cost(self, work: Work, rate: float | None) -> Cost:
        """The cost of ``work``; ``rate`` is the price of a GPU-hour.

        Between hosts with another number of slots, the low end takes slots for independent and the
        high end for sharing one processor.
        """
        sharing = max(1.0, work.slots / work.hosts / self.slots_per_host)
        hours = []
        for epochs, train, speak, rest, slowed in (
            (work.epochs.low, self.train.low, self.speak.low, self.rest.low, 1.0),
            (work.epochs.high, self.train.high, self.speak.high, self.rest.high, sharing),
        ):
            epoch = (train * work.clips + speak * work.prompts) * slowed
            hours.append((epochs * epoch / work.slots + rest) / 3600)
        of_gpus = Range(hours[0] * work.gpus, hours[1] * work.gpus)
        price = None
        if rate is not None and work.gpus > 0:
            price = Range(of_gpus.low * rate, of_gpus.high * rate)
        return Cost(self.by, Range(*hours), of_gpus, price)


def measured_before(storage: Storage, spec: SweepSpec, machine: str) -> Measured | None:
    """The seconds of the sweep of the family on such a machine that trained most epochs.

    The sweep itself counts too, once it has trained a few. None where there is none.
    """
    found = [
        (epochs, measured)
        for ledger in _sweeps(storage)
        if (read := _measure(ledger, spec.family, machine))
        for epochs, measured in [read]
    ]
    return max(found, key=lambda each: each[0])[1] if found else None


def _sweeps(storage: Storage) -> Iterator[Ledger]:
    for name in storage.children(""):
        if {PLAN_FILE, SPEC_FILE, SWEEP_FILE} <= {*storage.children(name)}:
            yield Ledger(storage, name)


def _measure(ledger: Ledger, family: str, machine: str) -> tuple[int, Measured] | None:
    try:
        # As in spec/stored.py, which imports the plan, of which this is a part.
        spec = SweepSpec.model_validate(load_yaml(ledger.read_text(SPEC_FILE) or ""))
    except ValidationError:
        return None  # another version of voxsweep wrote it
    record = ledger.begin()
    if spec.family != family or record.machine != machine:
        return None
    histories = ledger.histories()
    epochs = sum(len(trial.epochs) for trial in histories)
    walls = [wall for trial in histories if (wall := _epoch_wall(trial)) is not None]
    if epochs < _LEAST_EPOCHS or not walls:
        return None
    planned = json.loads(ledger.read_text(PLAN_FILE) or "{}")
    clips, prompts = planned["training_clips"], planned["prompts"]
    first = min(spec.variants.shortlist_after or prompts, prompts)
    spoken = len(spec.variants.adapted_scales) * first
    train = _spread([losses.seconds for trial in histories for losses in trial.epochs])
    between = _spread(walls)
    slots = _at_once(histories)
    after = (record.ended_at or 0) - max(map(_end, histories))
    before = min(map(_start, histories)) - record.started_at
    rest = before + after if record.ended_at and before >= 0 <= after else None
    measured = Measured(
        by=f"sweep {ledger.sweep}, {epochs} epochs",
        train=Range(train.low / clips, train.high / clips),
        speak=Range(
            max(0.0, between.low - train.low) / spoken, max(0.0, between.high - train.low) / spoken
        ),
        slots_per_host=max(1.0, slots / spec.hosts),
        rest=Range(rest or 0.0, rest or 0.0),
    )
    return epochs, measured


def _epoch_wall(trial: TrialHistory) -> float | None:
    """Seconds from the end of one epoch to that of the next: training, speech, scores, waiting."""
    ends = [losses.finished_at for losses in trial.epochs]
    if trial.result is not None and trial.result.ended_at is not None:
        ends.append(trial.result.ended_at)
    gaps = sorted(later - sooner for sooner, later in pairwise(ends))
    # The middle one: an interruption of the sweep lies in one of them.
    return gaps[len(gaps) // 2] if gaps else None


def _start(trial: TrialHistory) -> float:
    first = trial.epochs[0] if trial.epochs else None
    known = trial.record.started_at
    return known if known is not None else first.finished_at - first.seconds if first else 0.0


def _end(trial: TrialHistory) -> float:
    if trial.result is not None and trial.result.ended_at is not None:
        return trial.result.ended_at
    return trial.epochs[-1].finished_at if trial.epochs else _start(trial)


def _at_once(trials: Sequence[TrialHistory]) -> int:
    """The most trials that ran at the same time."""
    events = sorted([(_start(t), 1) for t in trials] + [(_end(t), -1) for t in trials])
    running = most = 0
    for _, step in events:
        running += step
        most = max(most, running)
    return most


def _spread(values: Sequence[float]) -> Range:
    """From the 10th to the 90th percentile."""
    if len(values) == 1:
        return Range(values[0], values[0])
    tenths = quantiles(values, n=10, method="inclusive")
    return Range(tenths[0], tenths[-1])


def epochs_left(spec: SweepSpec, most: int, done: int) -> Range:
    """Epochs that are left: fewest if every rung passes one in ``reduction``, else all."""
    trials, longest = spec.search.trial_count, spec.longest_training
    if spec.rungs.scheduler == "none":
        return Range(max(0, most - done), max(0, most - done))
    fewest, before, passing, rung = 0, 0, float(trials), float(spec.rungs.grace_epochs)
    while before < longest:
        to = min(int(rung), longest)
        fewest += max(1, int(passing)) * (to - before)
        before, passing, rung = to, passing / spec.rungs.reduction, rung * spec.rungs.reduction
    return Range(max(0, min(fewest, most) - done), max(0, most - done))
