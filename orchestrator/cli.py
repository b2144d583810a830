"""The ``voxsweep`` command."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.storage import open_storage
from jobs.problems import InputError
from orchestrator.errors import Exit, InfrastructureError


def _storage_url(text: str) -> str:
    """``text`` if it names a storage that there is."""
    try:
        return open_storage(text).url
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


app = typer.Typer(
    help="Sweeps of LoRA fine-tuning for LLM-based text-to-speech, judged by how they sound.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The sweep's YAML file.")]
StorageUrl = Annotated[
    str, typer.Option("--storage", callback=_storage_url, help="Where sweeps are kept.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

_output = Console()
_messages = Console(stderr=True)


@app.command()
def plan(spec: SpecPath, storage: StorageUrl = "sweeps", as_json: AsJson = False) -> None:
    """Say what a sweep would run, and what of it is done. Touches nothing."""
    from orchestrator.console import show_plan
    from orchestrator.inputs import read_inputs
    from orchestrator.plan import plan as make_plan
    from orchestrator.read_spec import read_spec

    sweep = read_spec(spec)
    inputs = read_inputs(sweep)
    planned = make_plan(
        sweep, inputs.rows, inputs.prompts, inputs.confirmation, open_storage(storage)
    )
    if as_json:
        typer.echo(json.dumps(planned.to_dict()))
    else:
        show_plan(_output, planned)


@app.command()
def run(
    spec: SpecPath,
    storage: StorageUrl = "sweeps",
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster's address; none starts one here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a sweep to its verdict. Run it again to go on where it was cut off."""
    from cluster.connect import ray_cluster
    from orchestrator.console import Progress, show_verdict
    from orchestrator.inputs import claim, read_inputs
    from orchestrator.ledger import Ledger
    from orchestrator.read_spec import read_spec

    sweep = read_spec(spec)
    inputs = read_inputs(sweep)
    ledger = Ledger(open_storage(storage), sweep.name)
    claim(ledger, sweep, inputs)
    progress = Progress(_messages if as_json else _output)
    with progress.live():
        progress.stage("starting Ray")
        with ray_cluster(address):
            from orchestrator.sweep import Sweep

            outcome = Sweep(sweep, inputs, ledger, progress).run()
    if as_json:
        typer.echo(json.dumps(outcome.to_dict()))
    else:
        show_verdict(_output, outcome.verdict, outcome.table)
        _output.print(f"Report: {outcome.report}", highlight=False, soft_wrap=True)
    if outcome.verdict.verdict == "NO-VERDICT":
        raise typer.Exit(Exit.NO_VERDICT)


@app.command()
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
    from orchestrator.console import show_verdict
    from orchestrator.score_files import judge_files

    verdict, table = judge_files(scores, protocol, variants, ratings)
    if as_json:
        typer.echo(verdict.to_json())
    else:
        show_verdict(_output, verdict, table)
    if verdict.verdict == "NO-VERDICT":
        raise typer.Exit(Exit.NO_VERDICT)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which families can run here, and what is missing for the others."""
    from orchestrator.doctor import examine

    health = examine()
    if as_json:
        typer.echo(json.dumps(health.to_dict()))
    else:
        for line in health.lines():
            _output.print(line, highlight=False, soft_wrap=True, markup=False)


def main() -> None:
    """Run the command; turn what can go wrong for a user into a message and an exit code."""
    try:
        app()
    except InputError as error:
        for problem in error.problems:
            _messages.print(
                str(problem), style="red", highlight=False, soft_wrap=True, markup=False
            )
        raise SystemExit(Exit.BAD_INPUT) from None
    except (InfrastructureError, ConnectionError) as error:
        _messages.print(str(error), style="red", highlight=False, soft_wrap=True, markup=False)
        raise SystemExit(Exit.INFRASTRUCTURE) from None
