"""How ``voxsweep study`` looks in a terminal."""

from rich.console import Console
from rich.table import Table

from orchestrator.search.insight import Insight


def show_insight(console: Console, insight: Insight) -> None:
    """Print the counts, the importances and the Pareto set."""
    ends = ", ".join(f"{count} {state}" for state, count in insight.ends.items())
    console.print(f"{insight.sweep}: {ends}", highlight=False)
    if insight.why_none:
        console.print(insight.why_none, highlight=False)
    else:
        console.print(_importances(insight))
    if insight.pareto:
        console.print(_pareto(insight))
    else:
        console.print("no variant keeps all constraints", highlight=False)


def _importances(insight: Insight) -> Table:
    table = Table(title="How much the objective depends on each key")
    table.add_column("key")
    table.add_column("share", justify="right")
    for name, share in insight.importances.items():
        table.add_row(name, f"{share:.2f}")
    return table


def _pareto(insight: Insight) -> Table:
    table = Table(title="Variants that no other beats in everything")
    table.add_column("variant", overflow="fold")
    for name, way in insight.directions.items():
        table.add_column(f"{name} ({way})", justify="right")
    for each in insight.pareto:
        numbers = (f"{each.values[name]:.3f}" for name in insight.directions)
        table.add_row(each.name, *numbers)
    return table
