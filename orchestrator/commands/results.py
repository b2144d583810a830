"""What a sweep found: its verdict, its study, its MLflow runs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.storage.base import open_storage
from orchestrator.commands.common import AsJson, StorageUrl, SweepName, print_json
from orchestrator.errors import Exit
from orchestrator.terminal.console import messages, output, print_line


def judge(
    scores: Annotated[
        Path,
        typer.Argument(metavar="SCORES", help="A JSONL file of scores, or a directory of them."),
    ],
    protocol: Annotated[
        Path, typer.Option(help="The protocol.json that names metrics, gates and constraints.")
    ],
    variants: Annotated[
        Path | None,
        typer.Option(help="A variants.jsonl with each variant's rank. Default: ranks are unknown."),
    ] = None,
    ratings: Annotated[
        Path | None,
        typer.Option(help="CSV of a listening test, which can confirm a winner. Default: none."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute a verdict from existing scores, a sweep's own or another tool's."""
    from orchestrator.scores.from_files import judge_files
    from orchestrator.terminal.results import show_verdict

    verdict, table = judge_files(scores, protocol, variants, ratings)
    if as_json:
        typer.echo(verdict.to_json())
    else:
        show_verdict(output, verdict, table)
    if verdict.verdict == "NO-VERDICT":
        raise typer.Exit(Exit.NO_VERDICT)


def study(sweep: SweepName, storage: StorageUrl = "sweeps", as_json: AsJson = False) -> None:
    """Show the importance of each searched hyperparameter and the Pareto-optimal variants."""
    from orchestrator.ledger import Ledger
    from orchestrator.search.insight import study_insight
    from orchestrator.terminal.results import show_insight

    insight = study_insight(Ledger(open_storage(storage), sweep))
    if as_json:
        print_json(asdict(insight))
    else:
        show_insight(output, insight)


def records(
    sweep: SweepName,
    storage: StorageUrl = "sweeps",
    mlflow: Annotated[
        str | None,
        typer.Option(help="The MLflow server to write to. Default: the spec's records.mlflow."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a sweep's missing MLflow runs from its storage; existing runs stay unchanged."""
    from orchestrator.records.recorder import rebuild

    address, done = rebuild(open_storage(storage), sweep, mlflow, lambda text: messages.print(text))
    counts = {"runs": done.runs, "created": done.created, "changes": done.changes}
    if as_json:
        print_json({"sweep": sweep, "mlflow": address, **counts})
    else:
        print_line(
            output,
            f"MLflow at {address} has {done.runs} runs of {sweep}, "
            f"{done.created} of them new; {done.changes} requests changed something.",
        )
