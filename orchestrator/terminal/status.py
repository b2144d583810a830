"""How a sweep's status looks to a person."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from orchestrator.status import SweepStatus, TrialStatus
from orchestrator.verdict.table import scientific

_STYLES = {"finished": "green", "stopped": "dim", "failed": "red"}


def show_status(console: Console, status: SweepStatus) -> None:
    """Print a sweep's trials, then its rungs, then what it took."""
    console.print(trial_table(status.trials))
    for rung in status.rungs:
        _say(console, f"rung {rung.epoch}: {rung.reached} came to it, {rung.stopped} stopped there")
    _say(
        console,
        f"{len(status.trials)}/{status.asked} trials, {status.epochs}/{status.most_epochs} epochs, "
        f"{status.training_hours:.2f} training hours, "
        f"at most {status.most_gpu_hours:.2f} GPU-hours",
    )
    _say(console, f"verdict: {status.verdict or 'none yet'}")


def trial_table(trials: Iterable[TrialStatus]) -> Table:
    """A row a trial: what it is, how far it is, its best variant."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("trial", "rank", "learning rate", "epoch", "loss", "validation", "objective"):
        table.add_column(name, justify="left" if name == "trial" else "right")
    table.add_column("best so far")
    table.add_column("")
    for trial in trials:
        cells = (
            trial.trial,
            str(trial.rank),
            scientific(trial.learning_rate),
            f"{trial.epoch}/{trial.epochs}",
            decimals(trial.training_loss),
            decimals(trial.validation_loss),
            decimals(trial.objective),
            (trial.best_variant or "").removeprefix(f"{trial.trial}-"),
            trial.status,
        )
        table.add_row(*cells, style=_STYLES.get(trial.status))
    return table


def decimals(value: float | None) -> str:
    """A loss or score to three decimals; empty where there is none."""
    return "" if value is None else f"{value:.3f}"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
