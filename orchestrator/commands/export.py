"""A voice for other tools."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.storage.base import open_storage
from jobs.export.formats import Format, Quantization
from orchestrator.commands.options import AsJson, StorageUrl, output
from orchestrator.commands.release import MlflowUri


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="models:/NAME@champion, models:/NAME/VERSION, a sweep, or a voice directory.",
        ),
    ],
    wanted: Annotated[Format, typer.Option("--format", help="What the directory will be.")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="DIR", help="The directory; it must not be there."),
    ],
    quantization: Annotated[
        Quantization | None, typer.Option(help="Of a GGUF file's matrices; q8_0 by default.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Of a sweep, in place of its winner.")] = None,
    storage: StorageUrl = "sweeps",
    mlflow: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Write a voice as other tools load it; load it back, and compare it with the voice."""
    from orchestrator.release.export import export_model, lines

    made = export_model(model, wanted, out, quantization, open_storage(storage), variant, mlflow)
    if as_json:
        typer.echo(json.dumps(made.to_dict()))
        return
    for line in lines(made, out):
        output.print(line, highlight=False, soft_wrap=True, markup=False)
