"""Sweeps as jobs of a Ray cluster or of Kubernetes: submit one, read its output, stop it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from jobs.problems import InputError, Problem, collecting
from orchestrator.commands.common import AsJson, Insecure, SpecPath, print_json
from orchestrator.terminal.console import messages, output, print_line

if TYPE_CHECKING:
    from cluster.ray.jobs import Job, Jobs

JobName = Annotated[
    str, typer.Argument(metavar="SWEEP", help="The sweep's name, or the id of one of its jobs.")
]
JobsAddress = Annotated[
    str, typer.Option(help="Ray's dashboard, which serves Ray Jobs, such as http://127.0.0.1:8265.")
]

k8s = typer.Typer(help="Run a sweep on Kubernetes, as a RayJob of KubeRay.", no_args_is_help=True)


def submit(
    spec: SpecPath,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray's dashboard, http://HOST:8265. Default: the cluster file's `address:`."
        ),
    ] = None,
    cluster: Annotated[
        Path | None,
        typer.Option(help="The Ray cluster's YAML file: see configs/clusters/. Default: none."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Storage that all nodes reach. Default: the cluster file's `storage:`."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the job that would be sent; send nothing.")
    ] = False,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Submit a sweep to a Ray cluster as a job; submitting it twice runs one job."""
    from cluster.ray.addresses import jobs_address_problems
    from cluster.ray.spec import ClusterSpec
    from orchestrator.remote.ray_job import make_submission
    from orchestrator.spec.reading import read_cluster_file, read_spec

    problems: list[Problem] = []
    place, submission = ClusterSpec(), None
    with collecting(problems):
        place = read_cluster_file(cluster, ClusterSpec) if cluster else place
    url = address or place.address
    if url is None:
        what = "the address of Ray Jobs is needed, but none is named"
        problems.append(Problem("--address", what, "Name it, or address: in the cluster file."))
    else:
        found = jobs_address_problems(url, insecure=insecure)
        problems += (Problem("--address", *each) for each in found)
    with collecting(problems):
        kept = storage or place.storage
        submission = make_submission(read_spec(spec), spec, place, kept, insecure=insecure)
    if problems or submission is None or url is None:
        raise InputError(problems)
    if dry_run:
        typer.echo(json.dumps(submission.to_dict(url), indent=None if as_json else 2))
        return
    job, is_new = jobs_at(url, insecure=insecure).submit(submission)
    if as_json:
        print_json({**job_fields(job), "new": is_new})
    else:
        state = "submitted" if is_new else "there already, and left as it is"
        print_line(output, f"job {job.id}: {state} ({job.status})")
        print_line(output, f"voxsweep logs {job.id} --address {url} --follow")


def logs(
    sweep: JobName,
    address: JobsAddress,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep printing until the job has ended.")
    ] = False,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Print the output of a sweep's latest Ray job."""
    jobs = jobs_at(address, insecure=insecure)
    job = _latest(jobs, sweep, address)
    printed: list[str] = []
    write = printed.append if as_json else _echo
    if follow:
        job = jobs.follow(job.id, write)
    else:
        write(jobs.logs(job.id))
    if as_json:
        print_json({**job_fields(job), "logs": "".join(printed)})


def stop(
    sweep: JobName, address: JobsAddress, insecure: Insecure = False, as_json: AsJson = False
) -> None:
    """Stop a sweep's Ray job and keep its results; submit the sweep again to resume it."""
    jobs = jobs_at(address, insecure=insecure)
    before = _latest(jobs, sweep, address)
    job = before if before.has_ended else jobs.stop(before.id)
    if as_json:
        print_json({**job_fields(job), "stopped": not before.has_ended})
    else:
        state = "had ended before" if before.has_ended else "ended"
        print_line(output, f"job {job.id}: {state} ({job.status})")


@k8s.callback()
def _group() -> None:
    """Keeps ``render`` a subcommand: Typer would make the only command the group itself."""


@k8s.command()
def render(
    spec: SpecPath,
    cluster: Annotated[
        Path | None,
        typer.Option(help="The Kubernetes cluster's YAML file. Default: the default of each key."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="An s3:// URL, or a path on a volume. Default: the cluster file's `storage:`."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--output", "-o", help="The YAML file to write; - is stdout.")
    ] = Path("-"),
    as_json: AsJson = False,
) -> None:
    """Write the RayJob and the ConfigMap that run a sweep, without contacting a cluster."""
    from cluster.kubernetes.spec import KubeSpec
    from orchestrator.remote import kubernetes
    from orchestrator.spec.reading import read_cluster_file

    kube = KubeSpec()
    if cluster:
        kube = read_cluster_file(cluster, KubeSpec, may_be_empty=True)
    rendered = kubernetes.render(spec, kube, storage)
    if out != Path("-"):
        out.write_text(rendered.to_yaml(), encoding="utf-8")
        print_line(messages, f"kubectl apply -f {out}")
    if as_json:
        print_json(rendered.to_dict())
    elif out == Path("-"):
        _echo(rendered.to_yaml())


def jobs_at(address: str, *, insecure: bool) -> "Jobs":
    """The jobs of the Ray cluster at ``address``.

    Raises:
        InputError: the address is wrong, or the cluster is not this machine's and requires no
            token.
    """
    from cluster.ray import addresses
    from cluster.ray.jobs import Jobs

    _refuse(addresses.jobs_address_problems(address, insecure=insecure))
    is_here = addresses.is_loopback(urlsplit(address).hostname or "")
    if not (insecure or is_here) and addresses.open_jobs(address):
        _refuse([addresses.open_problem(address)])
    return Jobs(address)


def refuse_open_cluster(address: str) -> None:
    """Raise InputError where a driver's address is wrong, or its cluster requires no token."""
    from cluster.ray import addresses

    _refuse(addresses.ray_address_problems(address, insecure=False))
    named, host = addresses.gcs_address(address), addresses.gcs_host(address)
    if named and not addresses.is_loopback(host) and addresses.open_cluster(named):
        _refuse([addresses.open_problem(address)])


def _refuse(found: Iterable[tuple[str, str]]) -> None:
    if problems := [Problem("--address", *each) for each in found]:
        raise InputError(problems)


def _latest(jobs: "Jobs", sweep: str, address: str) -> "Job":
    """The latest job of a sweep, or the one that has this id."""
    found = jobs.named(sweep)
    if not found:
        what = f"a job of this sweep is needed, but {sweep!r} was never submitted there"
        raise InputError([Problem(address, what, "Correct the name, or `voxsweep submit` it.")])
    return found[-1]


def job_fields(job: "Job") -> dict[str, object]:
    """A job as ``--json`` prints it."""
    return {
        "job": job.id,
        "status": job.status,
        "metadata": dict(job.metadata),
        "message": job.message,
    }


def _echo(text: str) -> None:
    typer.echo(text, nl=False)
