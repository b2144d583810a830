"""A sweep on this machine or as the driver on a cluster: its dry run, its run, its progress."""

import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.storage.base import open_storage
from jobs.problems import InputError
from orchestrator.commands.cluster import JobName, job_fields, jobs_at, refuse_open_cluster
from orchestrator.commands.common import (
    AsJson,
    Insecure,
    SpecPath,
    StorageUrl,
    print_json,
    read_sweep,
    storage_url,
)
from orchestrator.errors import Exit
from orchestrator.terminal.console import messages, output, print_line


def plan(
    spec: SpecPath,
    storage: StorageUrl = "sweeps",
    price: Annotated[
        float | None,
        typer.Option(min=0, help="The price of a GPU-hour, in any currency. Default: unknown."),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Where no earlier sweep tells, train, speak and score here for about a minute.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a sweep would run, what is done and what is left, without starting anything."""
    from orchestrator.ledger import Ledger
    from orchestrator.spec.cost import Measured
    from orchestrator.spec.machine import machine_type, this_machine
    from orchestrator.spec.plan import plan as make_plan
    from orchestrator.spec.stored import refuse_changes
    from orchestrator.terminal.sweep import show_plan

    sweep, inputs = read_sweep(spec)
    refuse_changes(Ledger(open_storage(storage), sweep.name), sweep, inputs)
    here = machine_type(sweep, [gpu.type for gpu in this_machine(Path.cwd()).gpus])

    def time_here() -> Measured:
        from orchestrator.workers import pilot

        return pilot.measure(sweep, inputs, lambda what: print_line(messages, what))

    pilot_run = time_here if measure else None
    planned = make_plan(sweep, inputs, open_storage(storage), here, price, pilot_run)
    if as_json:
        print_json(asdict(planned))
    else:
        show_plan(output, planned)


def run(
    spec: SpecPath,
    storage: StorageUrl = "sweeps",
    address: Annotated[
        str | None,
        typer.Option(help="A Ray cluster, HOST:PORT or auto. Default: start Ray on this machine."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try trials again that failed in earlier runs.")
    ] = False,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Run a sweep to its verdict; run it again to resume after an interruption."""
    from cluster.ray.connect import ray_cluster
    from orchestrator.ledger import Ledger
    from orchestrator.spec.stored import store_spec
    from orchestrator.status import failures
    from orchestrator.terminal.results import show_verdict
    from orchestrator.terminal.sweep import SweepProgress

    if address is not None and not insecure:
        refuse_open_cluster(address)
    sweep, inputs = read_sweep(spec)
    ledger = Ledger(open_storage(storage), sweep.name)
    progress = SweepProgress(messages if as_json else output)
    # Ray prints the state of its processes to stdout, where --json allows one object only.
    aside = redirect_stdout(sys.stderr) if as_json else nullcontext()
    with ledger.driven(progress.note), aside, progress.live():
        store_spec(ledger, sweep, inputs)
        if retry_failed:
            ledger.reopen_failed()
        progress.stage("starting Ray")
        with ray_cluster(address):
            import ray

            from orchestrator.hosts.node_requirements import check_resources
            from orchestrator.sweep import Sweep

            if address is None:
                check_resources(sweep, ray.nodes())
            outcome = Sweep(sweep, inputs, ledger, progress).run()
    if as_json:
        print_json(outcome.to_dict())
    else:
        show_verdict(output, outcome.verdict, outcome.table)
        print_line(output, f"Report: {outcome.report}")
    if outcome.verdict.verdict == "NO-VERDICT":
        for line in failures(ledger):
            print_line(messages, line)
        raise typer.Exit(Exit.NO_VERDICT)


def status(
    sweep: JobName,
    storage: StorageUrl = "sweeps",
    address: Annotated[
        str | None,
        typer.Option(help="Show jobs too, from Ray's dashboard http://HOST:8265. Default: none."),
    ] = None,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Show a sweep's progress: trials, rungs, epochs and GPU-hours."""
    from orchestrator.ledger import Ledger
    from orchestrator.status import sweep_status
    from orchestrator.terminal.sweep import show_status

    jobs = jobs_at(address, insecure=insecure).named(sweep) if address else []
    if jobs and sweep in {job.id for job in jobs}:
        sweep = jobs[-1].metadata.get("sweep", sweep)
    try:
        found = sweep_status(Ledger(open_storage(storage), sweep))
    except InputError:
        # A job that waits for a node has written nothing to the storage yet.
        if not jobs:
            raise
        found = None
    if as_json:
        fields = asdict(found) if found else {"sweep": sweep, "trials": []}
        print_json({**fields, "jobs": [job_fields(job) for job in jobs]})
        return
    for job in jobs:
        print_line(output, f"job {job.id}: {job.status}")
    if found:
        show_status(output, found)


def doctor(
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Try a storage too: locks, renames, space, clock, S3's conditions. Default: none.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the installed packages and the model families that can run on this machine."""
    from orchestrator.doctor import examine

    health = examine(open_storage(storage_url(storage)) if storage else None)
    if as_json:
        print_json(health.to_dict())
    else:
        for line in health.lines():
            print_line(output, line)
    if not all(check.is_met for check in health.storage):
        raise typer.Exit(Exit.INFRASTRUCTURE)
