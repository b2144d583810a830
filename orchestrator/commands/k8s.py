"""A sweep on Kubernetes."""

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.commands.options import AsJson, SpecPath, messages

app = typer.Typer(help="A sweep on Kubernetes, as KubeRay runs it.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps ``render`` a command of its own, where Typer would let the only one stand for all."""


@app.command()
def render(
    spec: SpecPath,
    cluster: Annotated[
        Path | None, typer.Option(help="The cluster's YAML file; none is all its defaults.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Where sweeps are kept: s3://, or a path on a volume of the cluster."),
    ] = None,
    out: Annotated[Path, typer.Option("--output", "-o", help="A file; - is stdout.")] = Path("-"),
    as_json: AsJson = False,
) -> None:
    """Write the RayJob that runs a sweep, and the ConfigMap of its spec. Asks no cluster."""
    from cluster.kubernetes.spec import KubeSpec
    from orchestrator.remote import kubernetes

    kube = kubernetes.read_kube_spec(cluster) if cluster else KubeSpec()
    rendered = kubernetes.render(spec, kube, storage)
    if out != Path("-"):
        out.write_text(rendered.to_yaml(), encoding="utf-8")
        messages.print(f"kubectl apply -f {out}", highlight=False, soft_wrap=True, markup=False)
    if as_json:
        typer.echo(json.dumps(rendered.to_dict()))
    elif out == Path("-"):
        typer.echo(rendered.to_yaml(), nl=False)
