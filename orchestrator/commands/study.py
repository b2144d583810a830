"""What a sweep's search found out."""

import json
from typing import Annotated

import typer

from cluster.storage.base import open_storage
from orchestrator.commands.options import AsJson, StorageUrl, output


def study(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="The sweep's name.")],
    storage: StorageUrl = "sweeps",
    as_json: AsJson = False,
) -> None:
    """Say which searched keys matter, and which variants no other beats in everything."""
    from orchestrator.ledger import Ledger
    from orchestrator.search.insight import study_insight
    from orchestrator.terminal.study import show_insight

    insight = study_insight(Ledger(open_storage(storage), sweep))
    if as_json:
        typer.echo(json.dumps(insight.to_dict()))
    else:
        show_insight(output, insight)
