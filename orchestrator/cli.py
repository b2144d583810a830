"""The ``voxsweep`` command."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.storage import open_storage
from jobs.problems import InputError
from jobs.strict import EMBEDDED
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


class Tags(StrEnum):
    """What becomes of annotations in texts."""

    REJECT = "reject"
    STRIP = "strip"


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
    from orchestrator.check_console import check_progress, tell_warnings
    from orchestrator.console import show_plan
    from orchestrator.inputs import read_inputs
    from orchestrator.plan import plan as make_plan
    from orchestrator.read_spec import read_spec

    sweep = read_spec(spec)
    with check_progress(_messages) as tell:
        inputs = read_inputs(sweep, tell)
    tell_warnings(_messages, inputs.warnings, inputs.dropped)
    planned = make_plan(
        sweep, inputs.clips, inputs.prompts, inputs.confirmation, open_storage(storage)
    )
    if as_json:
        typer.echo(json.dumps(planned.to_dict()))
    else:
        show_plan(_output, planned)


@app.command()
def prepare(spec: SpecPath, storage: StorageUrl = "sweeps", as_json: AsJson = False) -> None:
    """Prepare a sweep's data, as the sweep would: each clip is encoded once, for all sweeps."""
    from orchestrator.check_console import check_progress, tell_warnings
    from orchestrator.console import encoding, show_prepared
    from orchestrator.inputs import read_inputs
    from orchestrator.preparation import prepare_data
    from orchestrator.read_spec import read_spec

    sweep = read_spec(spec)
    with check_progress(_messages) as tell:
        inputs = read_inputs(sweep, tell)
    tell_warnings(_messages, inputs.warnings, inputs.dropped)
    with encoding(_messages) as progress:
        prepared = prepare_data(
            sweep.host(), inputs.clips, sweep.data, open_storage(storage), progress
        )
    if as_json:
        typer.echo(json.dumps(prepared.to_dict()))
    else:
        show_prepared(_output, prepared)


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
    from orchestrator.check_console import check_progress, tell_warnings
    from orchestrator.console import Progress, show_verdict
    from orchestrator.inputs import claim, read_inputs
    from orchestrator.ledger import Ledger
    from orchestrator.read_spec import read_spec

    sweep = read_spec(spec)
    with check_progress(_messages) as tell:
        inputs = read_inputs(sweep, tell)
    tell_warnings(_messages, inputs.warnings, inputs.dropped)
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
    from jobs.data.check_target import check_target
    from orchestrator.check_console import check_progress, show_check
    from orchestrator.check_data import asked_data, asked_host, to_dict

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
    with check_progress(_messages) as tell:
        found = check_target(data, host, workers, tell)
    if as_json:
        typer.echo(json.dumps(to_dict(found)))
    else:
        show_check(_output, found)
    if found.checked.errors:
        raise typer.Exit(Exit.BAD_INPUT)


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
