"""What a person sees of a running sweep: a live table in a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.spinner import Spinner
from rich.table import Column, Table

from orchestrator.report.report_input import short
from orchestrator.spec.plan import Plan
from orchestrator.status import TrialStatus
from orchestrator.terminal.status import decimals, trial_table
from orchestrator.verdict.outcome import VariantRow, Verdict
from orchestrator.verdict.table import ScoreTable, scientific
from orchestrator.workers.preparation import PreparedData

_VERDICT_STYLE = {
    "PROMOTE": "bold green",
    "PROMOTE-PENDING-LISTENING": "bold green",
    "DO-NOT-FINE-TUNE": "bold yellow",
    "INCONCLUSIVE": "bold yellow",
}


class Progress:
    """Shows a sweep's stages and trials as they go."""

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
        """The sweep has come to a new stage."""
        self._stage = text
        if self._live is None:
            self._console.print(text, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Something that a person should know, said once and left standing."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, trial: TrialStatus) -> None:
        """A trial has started, finished an epoch, or ended."""
        changed = self._trials.get(trial.trial) != trial
        self._trials[trial.trial] = trial
        if self._live is None and changed:
            self._console.print(_plain(trial), highlight=False, soft_wrap=True)

    def end(self, trial: str, status: str) -> None:
        """A trial has ended."""
        if trial in self._trials:
            self.update(replace(self._trials[trial], status=status))

    def __rich__(self) -> Group:
        return Group(Spinner("dots", self._stage), trial_table(self._trials.values()))


def _plain(trial: TrialStatus) -> str:
    named = f"{trial.trial}  rank {trial.rank}  lr {scientific(trial.learning_rate)}"
    if trial.status != "running":
        return f"{named}  {trial.status} after epoch {trial.epoch}"
    if trial.epoch == 0:
        return f"{named}  started"
    return (
        f"{named}  epoch {trial.epoch}/{trial.epochs}  loss {decimals(trial.training_loss)}"
        f"  validation {decimals(trial.validation_loss)}  objective {decimals(trial.objective)}"
    )


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
        decimals(row.means.get(primary)),
        "" if row.id == "base" else gain,
        *(decimals(row.means.get(metric)) for metric in constraints),
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
