"""What is wrong with a target's clips."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from jobs.spec.strict import EMBEDDED
from orchestrator.commands.options import AsJson, messages, output
from orchestrator.errors import Exit


class Tags(StrEnum):
    """What becomes of annotations in texts."""

    REJECT = "reject"
    STRIP = "strip"


def check(
    manifests: Annotated[
        list[str], typer.Argument(metavar="MANIFEST...", help="What data.manifest may name.")
    ],
    family: Annotated[str, typer.Option(help="Whose bounds the clips must keep.")],
    base: Annotated[
        str, typer.Option(help="The base's directory, whose tokenizer reads the texts.")
    ] = EMBEDDED,
    root: Annotated[
        str | None, typer.Option(help="The folder that audio must lie in, if not the manifest's.")
    ] = None,
    speaker: Annotated[
        str | None, typer.Option(help="Of the clips for which no manifest says it.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Of the clips for which no manifest says it.")
    ] = None,
    tags: Annotated[
        Tags, typer.Option(help="What becomes of annotations such as <laugh>.")
    ] = Tags.REJECT,
    min_seconds: Annotated[float | None, typer.Option(help="Of a clip.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Of a clip.")] = None,
    max_text_tokens: Annotated[int | None, typer.Option(help="Of a text.")] = None,
    language_tag: Annotated[
        bool, typer.Option("--language-tag", help="Each text comes behind its language's tag.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode audio; by default, all CPUs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say every problem of a target's clips, with lines. Touches nothing."""
    from jobs.data.checks.target import check_target
    from orchestrator.spec.check_summary import asked_data, asked_host, to_dict
    from orchestrator.terminal.check import check_progress, show_check

    host = asked_host(family, base)
    data = asked_data(
        manifest=[{"path": p, "speaker": speaker, "language": language} for p in manifests],
        root=root,
        tags=tags.value,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        max_text_tokens=max_text_tokens,
        language_tag=language_tag,
    )
    with check_progress(messages) as tell:
        found = check_target(data, host, workers, tell)
    if as_json:
        typer.echo(json.dumps(to_dict(found)))
    else:
        show_check(output, found)
    if found.checked.errors:
        raise typer.Exit(Exit.BAD_INPUT)
