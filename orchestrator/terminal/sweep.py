"""What a person sees of a running sweep: a live table in a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.spinner import Spinner
from rich.table import Column, Table

from jobs.spec.trial import TrainingSpec
from orchestrator.report.report_input import short
from orchestrator.spec.plan import Plan
from orchestrator.verdict.outcome import VariantRow, Verdict
from orchestrator.verdict.table import ScoreTable, scientific
from orchestrator.workers.preparation import PreparedData

_VERDICT_STYLE = {
    "PROMOTE": "bold green",
    "PROMOTE-PENDING-LISTENING": "bold green",
    "DO-NOT-FINE-TUNE": "bold yellow",
    "INCONCLUSIVE": "bold yellow",
}


@dataclass(frozen=True)
class TrialLine:
    """A trial as the live table shows it."""

    trial: str
    training: TrainingSpec
    epoch: int = 0
    training_loss: float | None = None
    validation_loss: float | None = None
    objective: float | None = None
    best_variant: str = ""
    status: str = "running"


class Progress:
    """Shows a sweep's stages and trials as they go."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: dict[str, TrialLine] = {}
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
        """The sweep has come to a new stage."""
        self._stage = text
        if self._live is None:
            self._console.print(text, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Something that a person should know, said once and left standing."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, line: TrialLine) -> None:
        """A trial has started, finished an epoch, or ended."""
        changed = self._lines.get(line.trial) != line
        self._lines[line.trial] = line
        if self._live is None and changed:
            self._console.print(_plain(line), highlight=False, soft_wrap=True)

    def end(self, trial: str, status: str) -> None:
        """A trial has ended."""
        if trial in self._lines:
            self.update(replace(self._lines[trial], status=status))

    def line(self, trial: str) -> TrialLine | None:
        """The trial as it was last shown."""
        return self._lines.get(trial)

    def __rich__(self) -> Group:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for name in ("trial", "rank", "learning rate", "epoch", "loss", "validation"):
            table.add_column(name, justify="left" if name == "trial" else "right")
        table.add_column("objective", justify="right")
        table.add_column("best so far")
        table.add_column("")
        for line in self._lines.values():
            table.add_row(*_cells(line))
        return Group(Spinner("dots", self._stage), table)


def _cells(line: TrialLine) -> tuple[str, ...]:
    style = {"running": "", "finished": "green", "stopped": "dim", "failed": "red"}[line.status]
    cells = (
        line.trial,
        str(line.training.rank),
        scientific(line.training.learning_rate),
        f"{line.epoch}/{line.training.epochs}",
        _number(line.training_loss),
        _number(line.validation_loss),
        _number(line.objective),
        line.best_variant.removeprefix(f"{line.trial}-"),
        line.status,
    )
    return tuple(f"[{style}]{cell}[/]" if style else cell for cell in cells)


def _plain(line: TrialLine) -> str:
    named = f"{line.trial}  rank {line.training.rank}"
    named += f"  lr {scientific(line.training.learning_rate)}"
    if line.status != "running":
        return f"{named}  {line.status} after epoch {line.epoch}"
    if line.epoch == 0:
        return f"{named}  started"
    return (
        f"{named}  epoch {line.epoch}/{line.training.epochs}  loss {_number(line.training_loss)}"
        f"  validation {_number(line.validation_loss)}  objective {_number(line.objective)}"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def show_plan(console: Console, plan: Plan) -> None:
    """Print a plan, a line each."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in plan.to_dict().items():
        shown = "unknown yet" if value is None else str(value)
        table.add_row(name.replace("_", " "), shown)
    console.print(table)


def show_verdict(console: Console, verdict: Verdict, table: ScoreTable, top: int = 12) -> None:
    """Print the best variants, then the verdict in one sentence."""
    rows = sorted(verdict.rows, key=lambda row: (row.id != "base", -row.objective))
    shown = Table(header_style="bold", title=_title(verdict), box=None)
    constraints = [c.metric for c in rows[-1].constraints]
    columns = ["variant", verdict.primary, "gain", *constraints, "failed clips", "standing"]
    for name in columns:
        shown.add_column(name, justify="left" if name in {"variant", "standing"} else "right")
    for row in rows[: top + 1]:
        shown.add_row(*_variant_cells(row, table, verdict.primary, constraints))
    console.print(shown)
    console.print()
    if verdict.groups:
        console.print(_groups(verdict, table))
        console.print()
    console.print(f"[{_VERDICT_STYLE.get(verdict.verdict, 'bold red')}]{verdict.verdict}[/]")
    console.print(verdict.sentence, highlight=False, markup=False)


def _title(verdict: Verdict) -> str:
    clips = verdict.rows[0].failures.clips
    return f"set A: best of {len(verdict.rows) - 1} variants, {clips} clips each"


def _groups(verdict: Verdict, table: ScoreTable) -> Table:
    shown = Table(header_style="bold", title="set B by language and speaker", box=None)
    for name in ("", "prompts", "gain", "verdict", "variant"):
        shown.add_column(name, justify="right" if name in {"prompts", "gain"} else "left")
    for each in verdict.groups:
        effect, winner = each.effect, each.variant
        cells = (
            f"{each.group} {each.name}",
            "" if effect is None else str(effect.n),
            "" if effect is None else f"{effect.mean:+.3f} [{effect.low:+.3f}, {effect.high:+.3f}]",
            each.verdict,
            "" if winner is None else short(table.variants[winner]),
        )
        shown.add_row(*map(escape, cells))
    return shown


def _variant_cells(
    row: VariantRow, table: ScoreTable, primary: str, constraints: list[str]
) -> list[str]:
    gain = f"{row.gain.mean:+.3f} [{row.gain.low:+.3f}, {row.gain.high:+.3f}]"
    cells = [
        short(table.variants[row.id]),
        _number(row.means.get(primary)),
        "" if row.id == "base" else gain,
        *(_number(row.means.get(metric)) for metric in constraints),
        str(len(row.failed_clips)),
        row.standing,
    ]
    return list(map(escape, cells))


@contextmanager
def encoding_progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar of clips while they are encoded, where the console is a terminal."""
    columns = ("encoding", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("encoding")

        def advanced(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield advanced


def show_prepared(console: Console, prepared: PreparedData) -> None:
    """Where the data lies, what it consists of, and what of it was made just now."""
    table = Table("split", "speaker", "language", Column("clips", justify="right"))
    for split, speaker, language, clips in prepared.groups:
        table.add_row(split, escape(speaker or "-"), language or "-", str(clips))
    console.print(table)
    console.print(f"{prepared.clips} clips: {prepared.encoded} encoded, {prepared.reused} reused")
    if prepared.quieter:
        console.print(f"{prepared.quieter} are less loud than asked for: they would have clipped")
    console.print(f"{prepared.bytes / 1e6:.1f} MB in {prepared.place}", soft_wrap=True)
    console.print(f"digest {prepared.digest}", highlight=False, soft_wrap=True)
