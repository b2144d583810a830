"""The main job: what it would do, its data alone, and all of it."""

import json
import sys
from contextlib import nullcontext, redirect_stdout
from typing import Annotated

import typer

from cluster.storage.base import open_storage
from jobs.problems import InputError, Problem
from orchestrator.commands.options import AsJson, SpecPath, StorageUrl, messages, output
from orchestrator.errors import Exit


def plan(spec: SpecPath, storage: StorageUrl = "sweeps", as_json: AsJson = False) -> None:
    """Say what a sweep would run, and what of it is done. Touches nothing."""
    from orchestrator.spec.inputs import read_inputs
    from orchestrator.spec.plan import plan as make_plan
    from orchestrator.spec.reading import read_spec
    from orchestrator.terminal.check import check_progress, tell_warnings
    from orchestrator.terminal.sweep import show_plan

    sweep = read_spec(spec)
    with check_progress(messages) as tell:
        inputs = read_inputs(sweep, tell)
    tell_warnings(messages, inputs.warnings, inputs.dropped)
    planned = make_plan(
        sweep, inputs.clips, inputs.prompts, inputs.confirmation, open_storage(storage)
    )
    if as_json:
        typer.echo(json.dumps(planned.to_dict()))
    else:
        show_plan(output, planned)


def prepare(spec: SpecPath, storage: StorageUrl = "sweeps", as_json: AsJson = False) -> None:
    """Prepare a sweep's data, as the sweep would: each clip is encoded once, for all sweeps."""
    from orchestrator.spec.inputs import read_inputs
    from orchestrator.spec.reading import read_spec
    from orchestrator.terminal.check import check_progress, tell_warnings
    from orchestrator.terminal.sweep import encoding, show_prepared
    from orchestrator.workers.preparation import prepare_data

    sweep = read_spec(spec)
    with check_progress(messages) as tell:
        inputs = read_inputs(sweep, tell)
    tell_warnings(messages, inputs.warnings, inputs.dropped)
    with encoding(messages) as progress:
        prepared = prepare_data(
            sweep.host(), inputs.clips, sweep.data, open_storage(storage), progress
        )
    if as_json:
        typer.echo(json.dumps(prepared.to_dict()))
    else:
        show_prepared(output, prepared)


def run(
    spec: SpecPath,
    storage: StorageUrl = "sweeps",
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster's address; none starts one here.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure-address", help="Go on though anybody may run code on the cluster."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a sweep to its verdict. Run it again to go on where it was cut off."""
    from cluster.ray.connect import ray_cluster
    from orchestrator.ledger import Ledger
    from orchestrator.spec.inputs import claim, read_inputs
    from orchestrator.spec.reading import read_spec
    from orchestrator.terminal.check import check_progress, tell_warnings
    from orchestrator.terminal.sweep import Progress, show_verdict

    if address is not None and not insecure:
        _refuse_open(address)
    sweep = read_spec(spec)
    with check_progress(messages) as tell:
        inputs = read_inputs(sweep, tell)
    tell_warnings(messages, inputs.warnings, inputs.dropped)
    ledger = Ledger(open_storage(storage), sweep.name)
    claim(ledger, sweep, inputs)
    progress = Progress(messages if as_json else output)
    # Ray prints what becomes of its processes; beside the object it would be one thing too many.
    aside = redirect_stdout(sys.stderr) if as_json else nullcontext()
    with aside, progress.live():
        progress.stage("starting Ray")
        with ray_cluster(address):
            import ray

            from orchestrator.hosts.node_requirements import check_room
            from orchestrator.sweep import Sweep

            if address is None:
                check_room(sweep, ray.nodes())
            outcome = Sweep(sweep, inputs, ledger, progress).run()
    if as_json:
        typer.echo(json.dumps(outcome.to_dict()))
    else:
        show_verdict(output, outcome.verdict, outcome.table)
        output.print(f"Report: {outcome.report}", highlight=False, soft_wrap=True)
    if outcome.verdict.verdict == "NO-VERDICT":
        raise typer.Exit(Exit.NO_VERDICT)


def _refuse_open(address: str) -> None:
    """Raise InputError where a cluster beyond this machine demands no token."""
    from cluster.ray.addresses import (
        gcs_address,
        gcs_host,
        is_loopback,
        open_cluster,
        open_problem,
        ray_address_problems,
    )

    found = list(ray_address_problems(address, insecure=False))
    named = gcs_address(address)
    if not found and named and not is_loopback(gcs_host(address)) and open_cluster(named):
        found = [open_problem(address)]
    if found:
        raise InputError([Problem("--address", *each) for each in found])
