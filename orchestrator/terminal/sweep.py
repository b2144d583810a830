"""A sweep in a terminal: its plan, its trials as they run, its status."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from jobs.spec.trial import place
from orchestrator.spec.cost import Cost
from orchestrator.spec.plan import Plan
from orchestrator.spec.worked_out import SHARES, WorkedOut
from orchestrator.status import SweepStatus, TrialStatus
from orchestrator.terminal.console import decimals, plain_table, print_line
from orchestrator.verdict.table import scientific

_STYLES = {"finished": "green", "stopped": "dim", "failed": "red"}


class SweepProgress:
    """Shows a sweep's stages and trials as they go: a live table in a terminal, else lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._trials: dict[str, TrialStatus] = {}
        self._stage = ""
        self._live: Live | None = None

    @contextmanager
    def live(self) -> Iterator[None]:
        """Redraw in place for the block, where the console is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with Live(self, console=self._console, refresh_per_second=8, transient=True) as self._live:
            yield
        self._live = None

    def stage(self, text: str) -> None:
        """Show the stage that the sweep has reached."""
        self._stage = text
        if self._live is None:
            print_line(self._console, text)

    def note(self, text: str) -> None:
        """Print a line that stays."""
        print_line(self._console, text)

    def update(self, trial: TrialStatus) -> None:
        """Show a trial that has started, finished an epoch, or ended."""
        changed = self._trials.get(trial.trial) != trial
        self._trials[trial.trial] = trial
        if self._live is None and changed:
            print_line(self._console, _line(trial))

    def end(self, trial: str, status: str, reason: str = "") -> None:
        """Show how a trial ended, and why where it failed."""
        if trial in self._trials:
            self.update(replace(self._trials[trial], status=status, reason=reason))
            if self._live is not None and status == "failed":
                print_line(self._console, _line(self._trials[trial]))

    def __rich__(self) -> Group:
        return Group(Spinner("dots", self._stage), trial_table(self._trials.values()))


def _line(trial: TrialStatus) -> str:
    named = f"{trial.trial}  rank {trial.rank}  lr {scientific(trial.learning_rate)}"
    if trial.status != "running":
        why = f": {trial.reason}" if trial.status == "failed" and trial.reason else ""
        return f"{named}  {trial.status} after {place(trial.epoch, trial.checkpoint_steps)}{why}"
    if trial.epoch == 0:
        return f"{named}  started"
    return (
        f"{named}  {' '.join(trial.progress)}  loss {decimals(trial.training_loss)}"
        f"  validation {decimals(trial.validation_loss)}  objective {decimals(trial.objective)}"
    )


def trial_table(trials: Iterable[TrialStatus]) -> Table:
    """A row for each trial: its hyperparameters, its progress, its best variant."""
    trials = list(trials)
    unit = trials[0].progress[0] if trials else "epoch"
    columns = ("trial", "rank", "learning rate", unit, "loss", "validation", "objective")
    table = plain_table(*columns, "best so far", "", left=("trial", "best so far", ""))
    for trial in trials:
        table.add_row(
            trial.trial,
            str(trial.rank),
            scientific(trial.learning_rate),
            trial.progress[1],
            decimals(trial.training_loss),
            decimals(trial.validation_loss),
            decimals(trial.objective),
            (trial.best_variant or "").removeprefix(f"{trial.trial}-"),
            trial.status,
            style=_STYLES.get(trial.status),
        )
    return table


def show_plan(console: Console, plan: Plan) -> None:
    """Print a plan, a line for each of its fields and for each rule that will seldom decide."""
    table = plain_table("", "", left=("",))
    table.show_header = False
    for name, value in asdict(plan).items():
        if name not in {"weak_rules", "worked_out", "cost"}:
            table.add_row(name.replace("_", " "), "unknown yet" if value is None else str(value))
    console.print(table)
    if plan.trials_done >= plan.trials:
        print_line(console, "All trials have ended.")
    elif plan.cost is None:
        no_sweep = "no sweep of this family on such a machine is in the storage"
        print_line(
            console,
            f"What is left takes an unknown time: {no_sweep}; --measure times this machine.",
        )
    else:
        print_line(console, f"What is left takes {_in_words(plan.cost)}.")
    for card in plan.worked_out:
        print_line(console, _on_card(card))
    if plan.worked_out:
        print_line(
            console,
            f"That is worked out and not measured: {plan.worked_out[0].how}. Memory is the least "
            f"for one slot, hours are of training at {SHARES.high:.0%} to {SHARES.low:.0%} of the "
            "card's peak; docs/spec.md says how.",
        )
    for weakness in plan.weak_rules:
        print_line(console, f"Seldom decided: {weakness}.")


def _on_card(card: WorkedOut) -> str:
    parts = ", ".join(f"{name} {size:.1f}" for name, size in card.parts.items() if size)
    takes = f"takes {card.memory:.1f} of {card.card_memory:.0f} GB ({parts})"
    does = takes if card.fits else f"is too small: it {takes}"
    return f"One {card.card} {does} and {card.hours.low:.1f} to {card.hours.high:.0f} hours."


def _in_words(cost: Cost) -> str:
    parts = [f"{cost.hours.low:.2f} to {cost.hours.high:.2f} hours"]
    if cost.gpu_hours.high:
        parts.append(f"{cost.gpu_hours.low:.2f} to {cost.gpu_hours.high:.2f} GPU-hours")
    if cost.price is not None:
        parts.append(f"{cost.price.low:.2f} to {cost.price.high:.2f} in the currency of --price")
    return f"{', '.join(parts)}, by the seconds of {cost.by}"


def show_status(console: Console, status: SweepStatus) -> None:
    """Print a sweep's trials, its rungs, its cost and its verdict."""
    console.print(trial_table(status.trials))
    for trial in status.trials:
        if trial.reason and trial.status in {"failed", "open"}:
            print_line(console, f"{trial.trial} failed: {trial.reason}", _STYLES["failed"])
    every = status.checkpoint_steps
    for rung in status.rungs:
        reached = f"{rung.reached} came to it, {rung.stopped} stopped there"
        print_line(console, f"rung at {place(rung.epoch, every)}: {reached}")
    print_line(
        console,
        f"{len(status.trials)}/{status.asked} trials, "
        f"{status.epochs * (every or 1)}/{status.most_epochs * (every or 1)} "
        f"{'epochs' if every is None else 'steps'}, "
        f"{status.training_hours:.2f} training hours, "
        f"at most {status.most_gpu_hours:.2f} GPU-hours",
    )
    if status.replicates:
        print_line(console, "replicates: the winner's hyperparameters with other seeds")
        console.print(trial_table(status.replicates))
    if status.undone:
        print_line(console, f"left undone by the budget: {status.undone}")
    print_line(console, f"verdict: {status.verdict or 'none yet'}")
