"""How a sweep's status looks to a person."""

from rich.console import Console
from rich.table import Table

from orchestrator.status import SweepStatus, TrialStatus
from orchestrator.verdict.table import scientific


def show_status(console: Console, status: SweepStatus) -> None:
    """Print a sweep's trials, then its rungs, then what it took."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("trial", "rank", "learning rate", "epoch", "validation", "objective"):
        table.add_column(name, justify="left" if name == "trial" else "right")
    table.add_column("best so far")
    table.add_column("")
    for trial in status.trials:
        table.add_row(*_cells(trial))
    console.print(table)
    for rung in status.rungs:
        _say(console, f"rung {rung.epoch}: {rung.reached} came to it, {rung.stopped} stopped there")
    _say(
        console,
        f"{len(status.trials)}/{status.asked} trials, {status.epochs}/{status.most_epochs} epochs, "
        f"{status.training_hours:.2f} training hours, "
        f"at most {status.most_gpu_hours:.2f} GPU-hours",
    )
    _say(console, f"verdict: {status.verdict or 'none yet'}")


def _cells(trial: TrialStatus) -> tuple[str, ...]:
    return (
        trial.trial,
        str(trial.rank),
        scientific(trial.learning_rate),
        f"{trial.epoch}/{trial.epochs}",
        _number(trial.validation_loss),
        _number(trial.objective),
        (trial.best_variant or "").removeprefix(f"{trial.trial}-"),
        trial.status,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
