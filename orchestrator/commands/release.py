"""What becomes of a sweep's winner: the model registry, and speech."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.storage.base import open_storage
from orchestrator.commands.options import AsJson, StorageUrl, messages, output
from orchestrator.errors import Exit

MlflowUri = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="URI",
        help="The registry; by default MLFLOW_TRACKING_URI, or else a file in the storage.",
    ),
]
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="A registered model.")]
Reason = Annotated[str, typer.Option(help="Why, for the history.")]


def promote(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="The name of a finished sweep.")],
    variant: Annotated[
        str | None, typer.Option(help="In place of the winner; it becomes no champion.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The registered model; by default named as the sweep.")
    ] = None,
    ratings: Annotated[
        Path | None, typer.Option(help="A CSV file of listeners' ratings, which may confirm it.")
    ] = None,
    storage: StorageUrl = "sweeps",
    mlflow: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Register a sweep's winner in MLflow: as champion if it beats the one there is."""
    from orchestrator.ledger import Ledger
    from orchestrator.release.finished_sweep import read_finished
    from orchestrator.release.promotion import promote as register
    from orchestrator.release.promotion import slate
    from orchestrator.release.registry import Registry, checked_name, registry_place

    place = open_storage(storage)
    name = checked_name(model or sweep)
    finished = read_finished(Ledger(place, sweep))
    put_up = slate(finished, name, variant, ratings)
    if not put_up.nominees:
        for line in put_up.refusals:
            messages.print(line, style="red", highlight=False, soft_wrap=True, markup=False)
        if as_json:
            typer.echo(json.dumps({"promoted": [], "refused": put_up.refusals}))
        raise typer.Exit(Exit.NO_VERDICT)
    registry = Registry(registry_place(place, mlflow or finished.spec.records.mlflow))
    promoted = [register(registry, finished, nominee) for nominee in put_up.nominees]
    if as_json:
        rows = [each.to_dict() for each in promoted]
        told = {"registry": registry.place.uri, "promoted": rows, "refused": put_up.refusals}
        typer.echo(json.dumps(told))
        return
    for each in promoted:
        done = "is now" if each.is_new else "is already"
        _say(f"{each.variant} {done} {each.version.uri}, {each.alias}: {each.reason}.")
        _say(f'  voxsweep say models:/{each.version.model}@{each.alias} "..." -o out.wav')
    for line in put_up.refusals:
        _say(line)
    _say(f"Registry: {registry.place.uri}")


def demote(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME[@champion|/VERSION]", help="A registered model or version."),
    ],
    reason: Reason = "",
    storage: StorageUrl = "sweeps",
    mlflow: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Take the alias champion away; promote does not give it to that version again."""
    from orchestrator.release.registry import Registry, registry_place

    demoted = Registry(registry_place(open_storage(storage), mlflow)).demote(name, reason)
    if as_json:
        typer.echo(json.dumps({"demoted": demoted and demoted.uri}))
    elif demoted is None:
        _say(f"{name} is not champion; nothing was changed.")
    else:
        _say(f"{demoted.uri} is champion no more.")


def rollback(
    name: ModelName,
    reason: Reason = "",
    storage: StorageUrl = "sweeps",
    mlflow: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Give the alias champion back to the version that had it before."""
    from orchestrator.release.registry import Registry, registry_place

    restored = Registry(registry_place(open_storage(storage), mlflow)).rollback(name, reason)
    if as_json:
        typer.echo(json.dumps({"champion": restored.uri}))
    else:
        _say(f"{restored.uri} is champion again.")


def say(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="models:/NAME@champion, models:/NAME/VERSION, a sweep, or a voice directory.",
        ),
    ],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Of any length.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="WAV", help="The file to write.")],
    variant: Annotated[str | None, typer.Option(help="Of a sweep, in place of its winner.")] = None,
    language: Annotated[
        str | None, typer.Option(help="Of the text, where the voice has several.")
    ] = None,
    speaker: Annotated[
        str | None, typer.Option(help="Who is to say it, where the voice has several.")
    ] = None,
    storage: StorageUrl = "sweeps",
    mlflow: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Say a text with a promoted voice, a sweep's winner, or any of its variants."""
    from orchestrator.release.speech import spoken, voice_of, write_wav

    with voice_of(model, open_storage(storage), variant, mlflow) as files:
        said = spoken(files, text, out, language, speaker)
        if said.audio.size:
            write_wav(out, said, files.facts, model)
    written = str(out) if said.audio.size else None
    if as_json:
        typer.echo(json.dumps({"out": written, **said.to_dict()}))
    elif written:
        _say(f"{written}: {said.seconds:.2f} s, {len(said.chunks)} chunks")
    if said.problem:
        messages.print(
            f"Not all was said: {said.problem}", style="red", soft_wrap=True, markup=False
        )
        raise typer.Exit(Exit.INCOMPLETE)


def _say(line: str) -> None:
    output.print(line, highlight=False, soft_wrap=True, markup=False)
