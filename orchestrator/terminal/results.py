"""A sweep's results in a terminal: its verdict and its study."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.spec.trial import place
from orchestrator.report.report_input import short
from orchestrator.terminal.console import decimals, plain_table, print_line, with_interval
from orchestrator.verdict.outcome import RecipeVerdict, VariantRow, Verdict
from orchestrator.verdict.table import ScoreTable

if TYPE_CHECKING:
    from orchestrator.search.insight import Insight  # imports Optuna

_TITLE = "bold"
_VERDICT_STYLES = {
    "PROMOTE": "bold green",
    "PROMOTE-BY-LANGUAGE": "bold green",
    "PROMOTE-PENDING-LISTENING": "bold green",
    "DO-NOT-FINE-TUNE": "bold yellow",
    "INCONCLUSIVE": "bold yellow",
}


def show_verdict(console: Console, verdict: Verdict, table: ScoreTable, top: int = 12) -> None:
    """Print the base and the ``top`` best variants, then the verdict in one sentence."""
    rows = sorted(verdict.rows, key=lambda row: (row.id != "base", -row.objective))
    constraints = [constraint.metric for constraint in rows[-1].constraints]
    columns = ("variant", verdict.primary, "gain", *constraints, "failed clips", "standing")
    clips = verdict.rows[0].failures.clips
    shown = plain_table(*columns, left=("variant", "standing"))
    for row in rows[: top + 1]:
        lost = row.failures.unscored
        cells = (
            short(table.variants[row.id]),
            decimals(row.means.get(verdict.primary)),
            "" if row.id == "base" else _gain(row),
            *(decimals(row.means.get(metric)) for metric in constraints),
            f"{len(row.failed_clips)}" + (f" (+{lost} not scored)" if lost else ""),
            row.standing,
        )
        shown.add_row(*map(escape, cells))
    title = f"set A: best of {len(verdict.rows) - 1} variants, {clips} clips each"
    print_line(console, title, _TITLE)
    console.print(shown)
    console.print()
    if verdict.groups:
        print_line(console, "set B by language and speaker", _TITLE)
        console.print(_groups(verdict, table))
        console.print()
    if verdict.recipe:
        print_line(console, "set B by the winner's hyperparameters with other seeds", _TITLE)
        console.print(_replicates(verdict.recipe))
        console.print()
    print_line(console, verdict.verdict, _VERDICT_STYLES.get(verdict.verdict, "bold red"))
    console.print(verdict.sentence, highlight=False, markup=False)


def _gain(row: VariantRow) -> str:
    if row.does_nothing:
        return "does nothing"
    return with_interval(row.gain.mean, row.gain.low, row.gain.high)


def _groups(verdict: Verdict, table: ScoreTable) -> Table:
    columns = ("", "prompts", "gain", "p after Holm", "verdict", "variant")
    shown = plain_table(*columns, left=("", "verdict", "variant"))
    for each in verdict.groups:
        effect = each.effect
        shown_of = each.variant or each.own
        p = next((c.p_holm for c in each.confirmed if c.row.id == shown_of), None)
        cells = (
            f"{each.group} {each.name}",
            "" if effect is None else str(effect.n),
            "" if effect is None else with_interval(effect.mean, effect.low, effect.high),
            "" if p is None else f"{p:.2g}",
            each.verdict,
            "" if each.variant is None else short(table.variants[each.variant]),
        )
        shown.add_row(*map(escape, cells))
    return shown


def _replicates(recipe: RecipeVerdict) -> Table:
    shown = plain_table("replicate", "prompts", "gain", "failed clips", left=("replicate",))
    for each in recipe.replicates:
        gain = each.gain
        interval = with_interval(gain.mean, gain.low, gain.high)
        shown.add_row(each.variant, str(gain.n), interval, str(each.failed))
    if mean := recipe.gain:
        interval = with_interval(mean.mean, mean.low, mean.high)
        shown.add_row(f"mean, {recipe.confidence:.0%} interval", str(mean.n), interval, "")
    return shown


def show_insight(console: Console, insight: "Insight") -> None:
    """Print a study's counts of trials, the importance of each key and the Pareto set."""
    ends = ", ".join(f"{count} {state}" for state, count in insight.ends.items())
    print_line(console, f"{insight.sweep}: {ends}")
    if insight.why_none:
        print_line(console, insight.why_none)
    else:
        importances = plain_table("key", "share", left=("key",))
        for name, share in insight.importances.items():
            importances.add_row(name, f"{share:.2f}")
        at = insight.compared_epoch
        by = "" if at is None else f" by {place(at, insight.checkpoint_steps)}"
        title = f"How much the objective depends on each key: {insight.compared} trials{by}"
        print_line(console, title, _TITLE)
        console.print(importances)
    if not insight.pareto:
        print_line(console, "no variant keeps all constraints")
        return
    columns = [f"{name} ({way})" for name, way in insight.directions.items()]
    pareto = plain_table("variant", *columns, left=("variant",))
    for each in insight.pareto:
        pareto.add_row(each.name, *(f"{each.values[name]:.3f}" for name in insight.directions))
    print_line(console, "Variants that no other beats in everything", _TITLE)
    console.print(pareto)
