"""What can run here."""

import json

import typer

from orchestrator.commands.options import AsJson, output


def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which families can run here, and what is missing for the others."""
    from orchestrator.doctor import examine

    health = examine()
    if as_json:
        typer.echo(json.dumps(health.to_dict()))
    else:
        for line in health.lines():
            output.print(line, highlight=False, soft_wrap=True, markup=False)
