"""A sweep's budget: whether one more trial could end within it, and all that follows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobs.spec.trial import PromptSpec
from orchestrator.ledger import Ledger, SweepRun, TrialHistory, TrialRecord
from orchestrator.spec.cost import Pace, clips_of_an_epoch, measured_before
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.plan import SweepEnd, most_epochs

if TYPE_CHECKING:
    from orchestrator.spec.inputs import Inputs  # imports what reads audio

_HOUR = 3600.0


@dataclass(frozen=True)
class Budget:
    """What the spec allows, and what this run of the sweep may still take of it."""

    spec: SweepSpec
    ledger: Ledger
    prompts: Sequence[PromptSpec]
    """Set A."""
    confirmation: Sequence[PromptSpec]
    """Set B."""
    started_at: float
    """When this run started, Unix time in seconds."""
    expected: Pace | None = None
    """By an earlier sweep, for epochs of this one; None where there is none."""
    _ended: dict[str, TrialHistory] = field(default_factory=dict)
    """Trials that will not change any more, by id: a far storage is asked once."""

    @classmethod
    def of(
        cls,
        spec: SweepSpec,
        ledger: Ledger,
        machine: str,
        inputs: "Inputs",
    ) -> "Budget":
        """The budget of a run that starts now on such machines."""
        earlier = measured_before(ledger.storage, spec, machine) if spec.budget.is_set else None
        clips = sum(clip.row.split == "train" for clip in inputs.clips)
        pace = earlier.pace(spec, clips, len(inputs.prompts)) if earlier else None
        return cls(spec, ledger, inputs.prompts, inputs.confirmation, time.time(), pace)

    def note(self, undone: str = "") -> None:
        """Record what this run has taken by now, and what was left undone."""
        self.ledger.note_run(SweepRun(self.started_at, time.time(), self._gpus), undone)

    def left(self) -> float | None:
        """Seconds until it is used up; None without a budget."""
        wanted, now = self.spec.budget, time.time()
        lefts = []
        if wanted.deadline is not None:
            lefts.append(wanted.deadline.timestamp() - now)
        if wanted.gpu_hours_allowed:
            earlier = (run for run in self._runs if run.started_at != self.started_at)
            spent = sum(run.seconds * run.gpus for run in earlier)
            allowed = min(wanted.gpu_hours_allowed) * _HOUR - spent
            lefts.append(allowed / self._gpus - (now - self.started_at))
        return min(lefts, default=None)

    def refusal(self, slots: int) -> str:
        """Why no trial of the search may begin, with so many at once; empty where one may."""
        if (left := self.left()) is None:
            return ""
        spec = self.spec
        begun = len(self.ledger.trials())
        epochs = min(most_epochs(spec), (begun + 1) * spec.longest_training)
        end = SweepEnd.of(spec, epochs, self.prompts, self.confirmation)
        pace = self._pace
        trial = spec.longest_training * pace.epoch
        after = end.seconds(pace, slots)
        return _refusal(left, trial + after, f"a trial takes up to {_hours(trial)}", after)

    def refusal_of_replicates(self, replicates: int, epochs: int, slots: int) -> str:
        """The same of so many trainings of the winner's hyperparameters, of so many epochs each."""
        if (left := self.left()) is None:
            return ""
        end = SweepEnd(0, 0, 0, len(self.confirmation), replicates, epochs)
        seconds = end.seconds(self._pace, slots)
        return _refusal(left, seconds, f"they take up to {_hours(seconds)}")

    @property
    def _pace(self) -> Pace:
        """Of the slowest of all trials so far; no time at all where nothing is known."""
        spoken = clips_of_an_epoch(self.spec, len(self.prompts))
        records = (*self.ledger.trials(), *self.ledger.replicates())
        own = Pace.slowest(map(self._history, records), self._runs, spoken)
        return own or self.expected or Pace(0.0, 0.0)

    def _history(self, record: TrialRecord) -> TrialHistory:
        if known := self._ended.get(record.id):
            return known
        history = self.ledger.history(record)
        if history.result is not None and history.result.final:
            self._ended[record.id] = history
        return history

    @property
    def _runs(self) -> Sequence[SweepRun]:
        record = self.ledger.record()
        return record.runs if record else ()

    @property
    def _gpus(self) -> float:
        """That the hosts hold, as long as the run lasts."""
        return self.spec.resources.gpus_per_rank * self.spec.engine.ranks * self.spec.hosts


def _refusal(left: float, needed: float, what: str, after: float = 0.0) -> str:
    if 0 < left >= needed:
        return ""
    follows = f", and what follows it {_hours(after)}" if after else ""
    return f"the budget has {_hours(max(0.0, left))} left; {what}{follows}"


def _hours(seconds: float) -> str:
    return f"{seconds / _HOUR:.2g} hours"
