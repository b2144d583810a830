"""The two streams of a terminal, and how lines, numbers, tables and bars are written to them."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

output = Console()
"""stdout: results."""
messages = Console(stderr=True)
"""stderr: progress, warnings and errors."""


def print_line(console: Console, text: str, style: str | None = None) -> None:
    """Print ``text`` as it is: no markup, no highlighting, no line breaks added."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def plain_table(*columns: str, left: Collection[str] = ()) -> Table:
    """A table without borders; columns are right-aligned except those named in ``left``."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", overflow="fold")
    return table


def decimals(value: float | None) -> str:
    """A loss or score to three decimals; empty for None."""
    return "" if value is None else f"{value:.3f}"


def with_interval(mean: float, low: float, high: float) -> str:
    """A difference and its confidence interval, signed, to three decimals."""
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


@contextmanager
def progress_bar(console: Console, doing: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for the block, where the console is a terminal; call what it gives with (done, all)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (doing, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    visible = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not visible) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
