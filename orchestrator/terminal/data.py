"""A dataset in a terminal: the progress and the findings of a check, what a preparation made."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from jobs.audio.files import RESAMPLER
from jobs.data.checks.check import Checked
from jobs.data.checks.listening import Heard
from jobs.data.findings import Finding
from jobs.problems import Problem
from orchestrator.spec.check_summary import by_rule, rates, totals
from orchestrator.terminal.console import plain_table, print_line, progress_bar
from orchestrator.workers.preparation import PreparedData

_SHOWN = 20
"""Findings of one rule, and groups of one kind, that are printed."""
_STYLES = {"error": "red", "warning": "yellow"}
_TENTH = 10
_LONG = 1000
"""Rows from which on a check prints its progress where no terminal shows a bar."""


@contextmanager
def check_progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar in a terminal; elsewhere a line for each tenth of the rows."""
    tenths = 0

    def print_tenths(done: int, total: int) -> None:
        nonlocal tenths
        reached = _TENTH * done // total if total >= _LONG else 0
        if reached > tenths:
            tenths = reached
            print_line(console, f"checked {done} of {total} clips")

    with progress_bar(console, "checking clips") as advance:
        yield advance if console.is_terminal else print_tenths


def show_check(console: Console, checked: Checked, heard: Heard | None = None) -> None:
    """Print the summary, what was heard, the rules that were broken, then where."""
    findings = checked.findings
    print_layouts(console, checked.reads_as)
    console.print(_summary(checked))
    if heard:
        print_line(console, str(heard))
    if checked.changes:
        print_line(console, f"texts changed: {_changes(checked.changes)}")
    console.print()
    if not findings:
        console.print("[green]No problem found.[/]")
        return
    rules = by_rule(findings)
    console.print(_counts(rules))
    for rule, found in rules.items():
        console.print()
        console.print(f"[bold]{escape(rule)}[/]", highlight=False)
        _show_findings(console, found)


def print_layouts(console: Console, reads_as: Mapping[str, str]) -> None:
    """A line for each manifest: what it was read as."""
    for manifest, layout in reads_as.items():
        print_line(console, f"{manifest} reads as: {layout}")


def print_warnings(console: Console, findings: Sequence[Finding], dropped: int) -> None:
    """A line for each rule that a check on the way to something else found broken."""
    lines = [
        f"data: {len(found)} x {rule}, first at {found[0].problem.where}"
        for rule, found in by_rule(findings).items()
    ]
    if dropped:
        lines.append(f"data: {dropped} clips are left out")
    if findings:
        lines.append("data: voxsweep check lists them all")
    for line in lines:
        print_line(console, line, "yellow")


def print_near_duplicates(console: Console, problems: Sequence[Problem]) -> None:
    """Prompts that count as one with another, each with the places of both."""
    for problem in problems[:_SHOWN]:
        print_line(console, str(problem), "yellow")
    if len(problems) > _SHOWN:
        print_line(console, f"and {len(problems) - _SHOWN} more near-duplicates", "yellow")


def _summary(checked: Checked) -> Table:
    table = plain_table("usable", "clips", "minutes", "", left=("usable", ""))
    clips = checked.clips
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
        note = f"resampled to {checked.base_rate} Hz by {RESAMPLER}"
        if rate == checked.base_rate:
            note = "as the base takes it"
        table.add_row(f"{rate} Hz", str(count), "", note)
    return table


def _changes(changes: Mapping[str, int]) -> str:
    """What was changed in texts, most often first."""
    ordered = sorted(changes.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{count} x {change}" for change, count in ordered[:_SHOWN]]
    return ", ".join(told) + f" and {len(ordered) - _SHOWN} more" * (len(ordered) > _SHOWN)


def _counts(rules: dict[str, list[Finding]]) -> Table:
    table = plain_table("rule", "errors", "warnings", left=("rule",))
    for rule, findings in {**rules, "all": list(chain(*rules.values()))}.items():
        errors = sum(finding.severity == "error" for finding in findings)
        counts = (errors, len(findings) - errors)
        table.add_row(escape(rule), *(str(count) if count else "" for count in counts))
    return table


def _show_findings(console: Console, findings: Sequence[Finding]) -> None:
    # Errors first: warnings must not push them out of what is shown.
    ordered = sorted(findings, key=lambda finding: finding.severity == "warning")
    for finding in ordered[:_SHOWN]:
        print_line(console, f"  {finding.severity} {finding.problem}", _STYLES[finding.severity])
    if len(ordered) > _SHOWN:
        print_line(console, f"  and {len(ordered) - _SHOWN} more: --json lists them")


def show_prepared(console: Console, prepared: PreparedData) -> None:
    """Print what the prepared data consists of, where it is, and what of it is new."""
    table = Table("split", "speaker", "language", Column("clips", justify="right"))
    for split, speaker, language, clips in prepared.groups:
        table.add_row(split, escape(speaker or "-"), language or "-", str(clips))
    console.print(table)
    console.print(f"{prepared.clips} clips: {prepared.encoded} encoded, {prepared.reused} reused")
    if prepared.quieter:
        console.print(f"{prepared.quieter} are less loud than asked for: they would have clipped")
    console.print(f"{prepared.bytes / 1e6:.1f} MB in {prepared.place}", soft_wrap=True)
    print_line(console, f"digest {prepared.digest}")
