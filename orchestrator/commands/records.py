"""MLflow's view of a sweep, made again from the storage."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from cluster.storage.base import open_storage
from orchestrator.commands.options import AsJson, StorageUrl, messages, output


def records(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="The sweep's name.")],
    storage: StorageUrl = "sweeps",
    mlflow: Annotated[
        str | None, typer.Option(help="Where to, if not where the spec says: records.mlflow.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell MLflow all that the storage has of a sweep. What it has already stays as it is."""
    from orchestrator.records.rebuild import rebuild

    rebuilt = rebuild(open_storage(storage), sweep, mlflow, lambda text: messages.print(text))
    if as_json:
        typer.echo(json.dumps(asdict(rebuilt)))
    else:
        output.print(
            f"MLflow at {rebuilt.mlflow} has {rebuilt.runs} runs of {rebuilt.sweep}, "
            f"{rebuilt.created} of them new; {rebuilt.changes} requests changed something.",
            highlight=False,
            soft_wrap=True,
        )
