"""The ``voxsweep`` command."""

import errno

import typer

from cluster.storage.committed import DamagedError
from jobs.problems import InputError
from orchestrator.commands import cluster, data, release, results, sweeps
from orchestrator.errors import Exit, InfrastructureError
from orchestrator.terminal.console import messages, print_line

app = typer.Typer(
    help="Sweeps of LoRA fine-tuning for LLM-based text-to-speech, judged by how they sound.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
GROUPS = {
    "Sweep": (sweeps.plan, sweeps.run, sweeps.status, sweeps.doctor),
    "Data": (data.check, data.prepare),
    "Results": (results.judge, results.study, results.records),
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
    try:
        app()
    except InputError as error:
        for problem in error.problems:
            print_line(messages, str(problem), "red")
        raise SystemExit(Exit.BAD_INPUT) from None
    except DamagedError as error:
        what = f"{error}. `voxsweep run` with the sweep's spec makes again what it lacks."
        print_line(messages, what, "red")
        raise SystemExit(Exit.INFRASTRUCTURE) from None
    except (InfrastructureError, ConnectionError, PermissionError) as error:
        print_line(messages, str(error), "red")
        raise SystemExit(Exit.INFRASTRUCTURE) from None
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        print_line(messages, str(error), "red")
        raise SystemExit(Exit.INFRASTRUCTURE) from None
