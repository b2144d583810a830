"""The ``voxsweep`` command."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from cluster.storage.committed import DamagedError
from jobs.problems import InputError
from orchestrator.commands import cluster, data, listening, release, results, sweeps
from orchestrator.errors import Exit, InfrastructureError
from orchestrator.interruption import InterruptedRunError, catch_signals, received
from orchestrator.terminal.console import messages, print_line


class _Commands(TyperGroup):
    """All commands; an interrupt leaves them as an error of ours, not as Typer's exit code 130."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 (as Typer has it)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedRunError from None


app = typer.Typer(
    cls=_Commands,
    help="Sweeps of LoRA fine-tuning for LLM-based text-to-speech, judged by how they sound.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
GROUPS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Sweep": (sweeps.plan, sweeps.run, sweeps.status, sweeps.doctor),
    "Data": (data.init, data.check, data.prepare, data.make_base),
    "Results": (results.judge, results.study, results.records, listening.listen),
    "Release": (release.promote, release.demote, release.rollback, release.say, release.export),
    "Cluster": (cluster.submit, cluster.logs, cluster.stop),
}
"""Commands as ``voxsweep --help`` groups them."""
for group, commands in GROUPS.items():
    for command in commands:
        app.command(rich_help_panel=group)(command)
app.add_typer(cluster.k8s, name="k8s", rich_help_panel="Cluster")


def main() -> None:
    """Run the command; turn what can go wrong for a user into a message and an exit code."""
    catch_signals()
    try:
        app()
    except (InterruptedRunError, KeyboardInterrupt):
        what = f"Interrupted by {received()}. Everything committed stays"
        print_line(messages, f"{what}; run the same command again to go on.", "red")
        raise SystemExit(Exit.INTERRUPTED) from None
    except InputError as error:
        for problem in error.problems:
            print_line(messages, str(problem), "red")
        raise SystemExit(Exit.BAD_INPUT) from None
    except DamagedError as error:
        what = f"{error}. `voxsweep run` with the sweep's spec makes again what it lacks."
        print_line(messages, what, "red")
        raise SystemExit(Exit.INFRASTRUCTURE) from None
    except (InfrastructureError, OSError) as error:
        print_line(messages, str(error) or repr(error), "red")
        raise SystemExit(Exit.INFRASTRUCTURE) from None
