"""Sweeps on a cluster: send one there, see how far it is, read what it prints, stop it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.storage.base import open_storage
from jobs.problems import InputError, Problem
from orchestrator.commands.options import AsJson, SpecPath, StorageUrl, output

if TYPE_CHECKING:
    from cluster.ray.jobs import Job, Jobs

SweepName = Annotated[
    str, typer.Argument(metavar="SWEEP", help="The sweep's name, or the id of one of its jobs.")
]
JobsAddress = Annotated[
    str, typer.Option(help="Where Ray Jobs answer, such as http://127.0.0.1:8265.")
]
ClusterFile = Annotated[
    Path | None, typer.Option("--cluster", help="A cluster's YAML file; see configs/clusters/.")
]
Insecure = Annotated[
    bool,
    typer.Option("--insecure-address", help="Go on though anybody may run code on the cluster."),
]


def submit(
    spec: SpecPath,
    address: Annotated[
        str | None, typer.Option(help="Where Ray Jobs answer; by default, the cluster's file says.")
    ] = None,
    cluster: ClusterFile = None,
    storage: Annotated[
        str | None, typer.Option(help="Where sweeps are kept, as every node reaches it.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")
    ] = False,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Run a sweep as a job of a Ray cluster. The same sweep twice is one job."""
    from cluster.ray.addresses import jobs_address_problems
    from cluster.ray.spec import ClusterSpec
    from orchestrator.remote.ray_job import make_submission
    from orchestrator.spec.reading import read_cluster, read_spec

    problems: list[Problem] = []
    submission = None
    place = ClusterSpec()
    try:
        place = read_cluster(cluster) if cluster else place
    except InputError as error:
        problems += error.problems
    url = address or place.address
    if url is None:
        what = "the address of Ray Jobs is needed, but none is named"
        problems.append(
            Problem("--address", what, "Name it, or write address: in the cluster's file.")
        )
    else:
        found = jobs_address_problems(url, insecure=insecure)
        problems += (Problem("--address", *each) for each in found)
    try:
        kept = storage or place.storage
        submission = make_submission(read_spec(spec), spec, place, kept, insecure=insecure)
    except InputError as error:
        problems += error.problems
    if problems or submission is None or url is None:
        raise InputError(problems)
    if dry_run:
        typer.echo(json.dumps(submission.to_dict(url), indent=None if as_json else 2))
        return
    job, is_new = _connect(url, insecure=insecure).submit(submission)
    if as_json:
        typer.echo(json.dumps({**_job(job), "new": is_new}))
    else:
        said = "submitted" if is_new else "there already, and left as it is"
        _say(f"job {job.id}: {said} ({job.status})")
        _say(f"voxsweep logs {job.id} --address {url} --follow")


def status(
    sweep: SweepName,
    storage: StorageUrl = "sweeps",
    address: Annotated[
        str | None, typer.Option(help="Where Ray Jobs answer, for the state of its jobs too.")
    ] = None,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Say how far a sweep has come: trials, rungs, hours. Touches nothing."""
    from orchestrator.ledger import Ledger
    from orchestrator.status import sweep_status
    from orchestrator.terminal.status import show_status

    jobs = _checked(address, insecure=insecure).named(sweep) if address else []
    if jobs and sweep in {job.id for job in jobs}:
        sweep = jobs[-1].metadata.get("sweep", sweep)
    try:
        found = sweep_status(Ledger(open_storage(storage), sweep))
    except InputError:
        # A job that waits for a node has written nothing yet.
        if not jobs:
            raise
        found = None
    if as_json:
        held = found.to_dict() if found else {"sweep": sweep, "trials": []}
        typer.echo(json.dumps({**held, "jobs": [_job(job) for job in jobs]}))
        return
    for job in jobs:
        _say(f"job {job.id}: {job.status}")
    if found:
        show_status(output, found)


def logs(
    sweep: SweepName,
    address: JobsAddress,
    follow: Annotated[bool, typer.Option("--follow", help="Until the job has ended.")] = False,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Print what a sweep's last job printed."""
    jobs = _checked(address, insecure=insecure)
    job = _last(jobs, sweep, address)
    said: list[str] = []
    if follow:
        job = jobs.follow(job.id, said.append if as_json else _print)
    else:
        said.append(jobs.logs(job.id))
        if not as_json:
            _print(said[0])
    if as_json:
        typer.echo(json.dumps({**_job(job), "logs": "".join(said)}))


def stop(
    sweep: SweepName, address: JobsAddress, insecure: Insecure = False, as_json: AsJson = False
) -> None:
    """Stop a sweep's job, and keep everything: submitted again, it goes on."""
    jobs = _checked(address, insecure=insecure)
    before = _last(jobs, sweep, address)
    job = before if before.has_ended else jobs.stop(before.id)
    if as_json:
        typer.echo(json.dumps({**_job(job), "stopped": not before.has_ended}))
    else:
        _say(f"job {job.id}: {'had ended before' if before.has_ended else 'ended'} ({job.status})")


def _checked(address: str, *, insecure: bool) -> "Jobs":
    """The jobs at an address with which nothing is wrong."""
    from cluster.ray.addresses import jobs_address_problems

    found = jobs_address_problems(address, insecure=insecure)
    if problems := [Problem("--address", *each) for each in found]:
        raise InputError(problems)
    return _connect(address, insecure=insecure)


def _connect(address: str, *, insecure: bool) -> "Jobs":
    """The jobs at ``address``, unless it is beyond this machine and open to everybody."""
    from urllib.parse import urlsplit

    from cluster.ray.addresses import is_loopback, open_jobs, open_problem
    from cluster.ray.jobs import Jobs

    if not (insecure or is_loopback(urlsplit(address).hostname or "")) and open_jobs(address):
        raise InputError([Problem("--address", *open_problem(address))])
    return Jobs(address)


def _last(jobs: "Jobs", sweep: str, address: str) -> "Job":
    """The job that was submitted last for a sweep, or that has this id."""
    found = jobs.named(sweep)
    if not found:
        what = f"a job of this sweep is needed, but {sweep!r} was never submitted there"
        raise InputError([Problem(address, what, "Correct the name, or `voxsweep submit` it.")])
    return found[-1]


def _job(job: "Job") -> dict[str, object]:
    return {
        "job": job.id,
        "status": job.status,
        "metadata": dict(job.metadata),
        "message": job.message,
    }


def _say(text: str) -> None:
    output.print(text, highlight=False, soft_wrap=True, markup=False)


def _print(lines: str) -> None:
    typer.echo(lines, nl=False)
