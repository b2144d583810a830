"""What a person sees of a check: a bar, a summary, and the findings with their places."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jobs.audio.files import RESAMPLER
from jobs.data.checks.target import CheckedTarget
from jobs.data.checks.target import Progress as Tell
from jobs.data.findings import Finding
from orchestrator.spec.check_summary import by_rule, rates, totals

_SHOWN = 20
"""Findings of one rule, and groups of one kind, that are printed."""
_STYLE = {"error": "red", "warning": "yellow"}
_TENTH = 10
_LONG = 1000
"""Rows from which on a check that is not watched in a terminal says how far it is."""


@contextmanager
def check_progress(console: Console) -> Iterator[Tell]:
    """A bar in a terminal; elsewhere a line for each tenth of the rows."""
    if not console.is_terminal:
        yield _Lines(console).tell
        return
    columns = (
        TextColumn("checking clips"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._tenths = 0

    def tell(self, done: int, total: int) -> None:
        tenths = _TENTH * done // total if total >= _LONG else 0
        if tenths > self._tenths:
            self._tenths = tenths
            self._console.print(f"checked {done} of {total} clips", highlight=False, soft_wrap=True)


def show_check(console: Console, found: CheckedTarget) -> None:
    """Print the summary, the rules that were broken, then where."""
    checked = found.checked
    console.print(_summary(found))
    console.print()
    if not checked.findings:
        console.print("[green]No problem found.[/]")
        return
    rules = by_rule(checked.findings)
    console.print(_counts(rules))
    for rule, findings in rules.items():
        console.print()
        console.print(f"[bold]{escape(rule)}[/]", highlight=False)
        _show_findings(console, findings)


def print_warnings(console: Console, findings: Sequence[Finding], dropped: int) -> None:
    """Warnings of a check that was made on the way to something else: a line for each rule."""
    lines = [
        f"data: {len(found)} x {rule}, first at {found[0].problem.where}"
        for rule, found in by_rule(findings).items()
    ]
    if dropped:
        lines.append(f"data: {dropped} clips are left out")
    if findings:
        lines.append("data: voxsweep check lists them all")
    for line in lines:
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)


def _summary(found: CheckedTarget) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("usable", overflow="fold")
    table.add_column("clips", justify="right")
    table.add_column("minutes", justify="right")
    table.add_column("")
    clips = found.checked.clips
    minutes = sum(clip.seconds for clip in clips) / 60
    table.add_row("all", str(len(clips)), f"{minutes:.1f}", "")
    for kind in ("split", "speaker", "language"):
        groups = totals(clips, kind)
        for name, (count, seconds) in list(groups.items())[:_SHOWN]:
            named = f"no {kind}" if name is None else f"{kind} {name}"
            table.add_row(escape(named), str(count), f"{seconds / 60:.1f}", "")
        if len(groups) > _SHOWN:
            table.add_row(f"... and {len(groups) - _SHOWN} more {kind}s: --json lists them")
    for rate, count in rates(clips).items():
        table.add_row(f"{rate} Hz", str(count), "", _resampled(rate, found.rate))
    return table


def _resampled(rate: int, to: int) -> str:
    return "as the base takes it" if rate == to else f"resampled to {to} Hz by {RESAMPLER}"


def _counts(rules: dict[str, list[Finding]]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("rule")
    table.add_column("errors", justify="right")
    table.add_column("warnings", justify="right")
    for rule, findings in {**rules, "all": list(chain(*rules.values()))}.items():
        errors = sum(finding.severity == "error" for finding in findings)
        warnings = len(findings) - errors
        cells = (str(count) if count else "" for count in (errors, warnings))
        table.add_row(escape(rule), *cells)
    return table


def _show_findings(console: Console, findings: Sequence[Finding]) -> None:
    # Errors first: a warning may not push them over the edge of what is shown.
    ordered = sorted(findings, key=lambda finding: finding.severity == "warning")
    for finding in ordered[:_SHOWN]:
        line = f"  {finding.severity} {finding.problem}"
        style = _STYLE[finding.severity]
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
    if len(ordered) > _SHOWN:
        console.print(f"  and {len(ordered) - _SHOWN} more: --json lists them", highlight=False)
