"""A voice for other tools."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jobs.export.formats import Format, Quantization
from orchestrator.commands.options import AsJson, StorageUrl, output


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A sweep, or the directory of a voice.")
    ],
    wanted: Annotated[Format, typer.Option("--format", help="What the directory will be.")],
    target: Annotated[
        Path, typer.Option("--output", "-o", help="The directory; it must not be there yet.")
    ],
    variant: Annotated[
        str | None, typer.Option(help="Of a sweep, instead of the one that its verdict chose.")
    ] = None,
    quantization: Annotated[
        Quantization | None, typer.Option(help="Of a GGUF file; q8_0 by default.")
    ] = None,
    storage: StorageUrl = "sweeps",
    as_json: AsJson = False,
) -> None:
    """Write a voice as other tools load it; load it back, and compare it with the voice."""
    from orchestrator.exporting import export_model, lines

    made = export_model(model, variant, storage, wanted, target, quantization)
    if as_json:
        typer.echo(json.dumps(made.to_dict()))
        return
    for line in lines(made, target):
        output.print(line, highlight=False, soft_wrap=True, markup=False)
