"""What a sweep will cost, by the measured seconds of an earlier one of its family and machine."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import quantiles

from pydantic import ValidationError

from cluster.storage.base import Storage
from jobs.spec.yaml_files import load_yaml
from orchestrator.ledger import PLAN_FILE, SPEC_FILE, SWEEP_FILE, Ledger, SweepRun, TrialHistory
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
class Pace:
    """Wall seconds of a trial's work, waiting and the other trials of its host included."""

    epoch: float
    """An epoch, with its speech and scores."""
    clip: float
    """A clip spoken and scored."""

    @classmethod
    def slowest(
        cls, trials: Iterable[TrialHistory], runs: Sequence[SweepRun], spoken: int
    ) -> "Pace | None":
        """Of the slowest trial, by the middle epoch of each; None before the first has ended.

        Args:
            trials: of a sweep.
            runs: of that sweep: an epoch between two of them is not counted.
            spoken: clips of an epoch.
        """
        middles = [middle for trial in trials if (middle := _middle_epoch(trial, runs))]
        if not middles:
            return None
        speaking = max(wall - training for wall, training in middles)
        return cls(max(wall for wall, _ in middles), max(0.0, speaking) / spoken)


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
    slowest_train: float
    """As ``train``, of its slowest trial."""
    slowest_speak: float

    def pace(self, spec: SweepSpec, clips: int, prompts: int) -> Pace:
        """What a trial of ``spec`` is expected to take at most, whose epochs may be others.

        Args:
            spec: of the sweep that is to run.
            clips: its training clips.
            prompts: those of its set A.
        """
        sharing = max(1.0, (spec.slots_per_host or 1) / self.slots_per_host)
        clip = self.slowest_speak * sharing
        training = self.slowest_train * sharing * trained_clips(spec, clips)
        return Pace(training + clip * clips_of_an_epoch(spec, prompts), clip)

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
    record = ledger.record()
    if record is None or spec.family != family or record.machine != machine:
        return None
    histories = ledger.histories()
    epochs = sum(len(trial.epochs) for trial in histories)
    planned = json.loads(ledger.read_text(PLAN_FILE) or "{}")
    clips = trained_clips(spec, planned["training_clips"])
    spoken = clips_of_an_epoch(spec, planned["prompts"])
    middles = [middle for trial in histories if (middle := _middle_epoch(trial, record.runs))]
    if epochs < _LEAST_EPOCHS or not middles:
        return None
    train = _spread([losses.seconds for trial in histories for losses in trial.epochs])
    between = _spread([wall for wall, _ in middles])
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
        slowest_train=max(training for _, training in middles) / clips,
        slowest_speak=max(0.0, *(wall - training for wall, training in middles)) / spoken,
    )
    return epochs, measured


def clips_of_an_epoch(spec: SweepSpec, prompts: int) -> int:
    """Clips that a trial speaks after an epoch, of so many prompts of set A."""
    first = min(spec.variants.shortlist_after or prompts, prompts)
    return len(spec.variants.adapted_scales) * first


def trained_clips(spec: SweepSpec, clips: int) -> int:
    """Clips that an epoch trains on, of so many; in steps, those of the largest batches."""
    every = spec.training.checkpoint_steps
    if every is None:
        return clips
    return every * max(spec.corners("batch_size")) * max(spec.corners("accumulation"))


def _middle_epoch(trial: TrialHistory, runs: Sequence[SweepRun]) -> tuple[float, float] | None:
    """Seconds from the start of an epoch to that of the next, and those of its training.

    Of the epoch in the middle by the former; None while no epoch is over.
    """
    starts = [losses.finished_at - losses.seconds for losses in trial.epochs]
    if trial.result is not None and trial.result.ended_at is not None:
        starts.append(trial.result.ended_at)
    whole = sorted(
        (later - sooner, losses.seconds)
        for (sooner, later), losses in zip(pairwise(starts), trial.epochs, strict=False)
        if not any(sooner < run.started_at < later for run in runs)
    )
    return whole[len(whole) // 2] if whole else None


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
    fewest, before, passing, rung = 0, 0, float(trials), float(spec.grace)
    while before < longest:
        to = min(int(rung), longest)
        fewest += max(1, int(passing)) * (to - before)
        before, passing, rung = to, passing / spec.rungs.reduction, rung * spec.rungs.reduction
    return Range(max(0, min(fewest, most) - done), max(0, most - done))
