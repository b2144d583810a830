"""Arguments, options and steps that several commands share."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.storage.base import open_storage
from orchestrator.terminal.console import messages

if TYPE_CHECKING:
    from orchestrator.spec.inputs import Inputs
    from orchestrator.spec.model import SweepSpec


def storage_url(text: str) -> str:
    """``text`` as the storage itself writes it. Raises BadParameter where it names none."""
    try:
        return open_storage(text).url
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def language_option(written: str | None) -> str | None:
    """The tag of ``--language``. Raises BadParameter where it is no language."""
    from jobs.spec.languages import language_tag

    try:
        return written and language_tag(written)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The sweep's YAML file.")]
SweepName = Annotated[
    str, typer.Argument(metavar="SWEEP", help="The sweep's name, as `name:` in its YAML file.")
]
VoiceSource = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A voice: models:/NAME@champion, models:/NAME/VERSION, a sweep or a directory.",
    ),
]
VariantOfSweep = Annotated[
    str | None, typer.Option(help="Use this variant of the sweep. Default: the sweep's winner.")
]
StorageUrl = Annotated[
    str,
    typer.Option(
        "--storage",
        metavar="URL",
        callback=storage_url,
        help="Where sweeps are stored: a directory, or s3://BUCKET/PREFIX.",
    ),
]
MlflowUri = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="URI",
        help="Model registry. Default: $MLFLOW_TRACKING_URI, else a file in the storage.",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure-address",
        help="Use a Ray cluster without a token, on which anybody can run code.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object to stdout instead of text.")
]


def print_json(value: object) -> None:
    """The one object that a command prints under ``--json``."""
    typer.echo(json.dumps(value))


def read_sweep(path: Path) -> "tuple[SweepSpec, Inputs]":
    """The spec at ``path`` and its inputs; progress and warnings go to stderr.

    Raises:
        InputError: with every problem of the spec, or else of its inputs.
    """
    from orchestrator.spec.inputs import read_inputs
    from orchestrator.spec.reading import read_spec
    from orchestrator.terminal.data import (
        check_progress,
        print_layouts,
        print_near_duplicates,
        print_warnings,
    )

    sweep = read_spec(path)
    with check_progress(messages) as progress:
        inputs = read_inputs(sweep, progress)
    print_layouts(messages, inputs.reads_as)
    print_warnings(messages, inputs.warnings, inputs.dropped)
    print_near_duplicates(messages, inputs.near_duplicates)
    return sweep, inputs
