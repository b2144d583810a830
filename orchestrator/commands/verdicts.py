"""A verdict from files."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.commands.options import AsJson, output
from orchestrator.errors import Exit


def judge(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="A JSONL file of clips, or a folder of them.")
    ],
    protocol: Annotated[Path, typer.Option(help="The protocol.json they were made under.")],
    variants: Annotated[
        Path | None, typer.Option(help="A variants.jsonl that says what each variant is.")
    ] = None,
    ratings: Annotated[
        Path | None, typer.Option(help="A CSV file of listeners' ratings, which may promote.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge scores that were measured already, a sweep's own or another tool's."""
    from orchestrator.scores.from_files import judge_files
    from orchestrator.terminal.sweep import show_verdict

    verdict, table = judge_files(scores, protocol, variants, ratings)
    if as_json:
        typer.echo(verdict.to_json())
    else:
        show_verdict(output, verdict, table)
    if verdict.verdict == "NO-VERDICT":
        raise typer.Exit(Exit.NO_VERDICT)
