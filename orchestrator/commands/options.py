"""Arguments and consoles that several commands share."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.storage.base import open_storage

output = Console()
messages = Console(stderr=True)


def _storage_url(text: str) -> str:
    """``text`` if it names a storage that there is."""
    try:
        return open_storage(text).url
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The sweep's YAML file.")]
StorageUrl = Annotated[
    str,
    typer.Option(
        "--storage",
        callback=_storage_url,
        help="Where sweeps are kept: a directory, or s3://bucket/prefix.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
