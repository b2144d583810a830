"""The ``voxsweep`` command."""

import errno

import typer

from jobs.problems import InputError
from orchestrator.commands import (
    cluster,
    data,
    export,
    health,
    k8s,
    records,
    release,
    study,
    sweeps,
    verdicts,
)
from orchestrator.commands.options import messages
from orchestrator.errors import Exit, InfrastructureError

app = typer.Typer(
    help="Sweeps of LoRA fine-tuning for LLM-based text-to-speech, judged by how they sound.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    sweeps.plan,
    sweeps.prepare,
    sweeps.run,
    cluster.submit,
    cluster.status,
    cluster.logs,
    cluster.stop,
    data.check,
    study.study,
    verdicts.judge,
    records.records,
    release.promote,
    release.demote,
    release.rollback,
    release.say,
    export.export,
    health.doctor,
):
    app.command()(command)
app.add_typer(k8s.app, name="k8s")


def main() -> None:
    """Run the command; turn what can go wrong for a user into a message and an exit code."""
    try:
        app()
    except InputError as error:
        for problem in error.problems:
            messages.print(str(problem), style="red", highlight=False, soft_wrap=True, markup=False)
        raise SystemExit(Exit.BAD_INPUT) from None
    except (InfrastructureError, ConnectionError, PermissionError) as error:
        messages.print(str(error), style="red", highlight=False, soft_wrap=True, markup=False)
        raise SystemExit(Exit.INFRASTRUCTURE) from None
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        messages.print(str(error), style="red", highlight=False, soft_wrap=True, markup=False)
        raise SystemExit(Exit.INFRASTRUCTURE) from None
