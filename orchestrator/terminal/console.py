"""The two streams of a terminal, and how lines, numbers and tables are written to them."""

from collections.abc import Collection

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


def number(value: float | None) -> str:
    """Three decimals; an empty cell for None."""
    return "" if value is None else f"{value:.3f}"


def with_interval(mean: float, low: float, high: float) -> str:
    """A signed difference and its confidence interval."""
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
