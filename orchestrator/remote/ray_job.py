"""A sweep as a job of a Ray cluster, or every reason why it cannot be sent."""

import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cluster
import jobs
import orchestrator
from cluster.names import SourceError, shown
from cluster.ray.jobs import Submission
from cluster.ray.package import Package, code_files
from cluster.ray.spec import LOGIN, ClusterSpec
from cluster.sources.local_files import LocalFolder, open_file
from jobs.families.description import is_path
from jobs.problems import InputError, Problem, collecting
from jobs.spec.yaml_files import dump_yaml
from jobs.speech.sentences import PREFIX
from orchestrator.ledger import SPEC_FILE
from orchestrator.remote.local_values import SENT_FILES, is_local, texts, what_instead
from orchestrator.spec.document import Document, Violation, dotted
from orchestrator.spec.model import MAY_CHANGE, REMOTE, SweepSpec
from orchestrator.spec.reading import read_document

_MOST_PROMPT_BYTES = 4 * 2**20
_NAME_IN_ID = 60
"""Most characters of the sweep's name in a job's id, which names files on the head node."""


def make_submission(
    spec: SweepSpec,
    path: Path,
    where: ClusterSpec,
    storage: str | None,
    *,
    insecure: bool = False,
) -> Submission:
    """The job that runs the sweep at ``path`` on a cluster; contacts nobody.

    Args:
        spec: The sweep.
        path: Its file; prompt sets must lie in the same folder to be sent.
        where: The cluster.
        storage: Where the sweep is stored; None is an error.
        insecure: Whether the driver may use a cluster that requires no token.

    Raises:
        InputError: with every reason why it cannot be sent.
    """
    problems: list[Problem] = []
    document = read_document(path)
    values = spec.model_dump(mode="json")
    files: dict[str, bytes] = {}
    if storage is None:
        what = "a submitted sweep needs a storage that every node reaches, but none is named"
        problems.append(Problem("--storage", what, "Name one, or storage: in the cluster file."))
    elif found := where.storage_problem(storage):
        problems.append(Problem("--storage", *found))
    if not where.nodes_share_files:
        for location in SENT_FILES:
            with collecting(problems):
                _pack(values, location, document, files)
    problems += document.problems(_unreachable(values, where))
    text = dump_yaml(values)
    code = _code() if where.code == "sent" else {}
    package = Package({SPEC_FILE: text.encode(), **files, **code})
    problems += (Problem(str(path), *found) for found in package.problems())
    if problems or storage is None:
        raise InputError(problems)
    digest = _digest(values, storage, files)
    return Submission(
        id=f"{spec.name[:_NAME_IN_ID]}-{digest[:12]}",
        command=(
            *("python", "-m", "orchestrator", "run", SPEC_FILE, "--storage", storage),
            *("--address", "auto", *(["--insecure-address"] if insecure else []), "--json"),
        ),
        metadata={
            "sweep": spec.name,
            "digest": digest,
            "storage": storage,
            "voxsweep": version("voxsweep"),
        },
        cluster=where,
        package=package,
    )


def _digest(values: dict[str, Any], storage: str, files: dict[str, bytes]) -> str:
    """Of what the results depend on: spec, storage and files, not the cluster and the code."""
    question = {key: value for key, value in values.items() if key not in MAY_CHANGE}
    identity = json.dumps([question, storage, Package(files).digest])
    return hashlib.sha256(identity.encode()).hexdigest()


def _code() -> dict[str, bytes]:
    """The installed code of voxsweep, by file name."""
    packages = (cluster, jobs, orchestrator)
    roots = [Path(str(package.__file__)).parent for package in packages]
    return {name: data for root in roots for name, data in code_files(root).items()}


def _pack(
    values: dict[str, Any],
    location: tuple[str, str],
    document: Document,
    files: dict[str, bytes],
) -> None:
    """Put a file that the spec names into ``files``, and its new name into the spec's ``values``.

    It must lie in the spec's folder: a spec from somebody else cannot have other files sent.
    """
    section, key = location
    value = values[section][key]
    if value is None or not is_path(value) or value.startswith((REMOTE, PREFIX)):
        return
    folder = document.path.absolute().parent
    try:
        real = LocalFolder(str(folder), str(folder)).locate(value)
        with open_file(real, _MOST_PROMPT_BYTES) as file:
            data = file.read()
    except SourceError as error:
        what = f"{section}.{key} {error.what}"
        raise InputError([Problem(document.where(location), what, error.next_step)]) from None
    SENT_FILES[location](Path(real))
    values[section][key] = name = f"inputs/{key}.jsonl"
    files[name] = data


def _unreachable(values: dict[str, Any], where: ClusterSpec) -> Iterator[Violation]:
    """Values of the spec that mean something on this machine alone, or that hold a login."""
    for location, value in texts(values):
        if LOGIN.search(value):
            what = f"{dotted(location)}: an address must hold no login, since every node and the "
            what += f"job's own page show it, got {shown(value)}"
            yield Violation(location, what, "Give the nodes the login in their environment.")
        elif is_local(value) and not where.nodes_share_files:
            what = f"{dotted(location)} must be what every node reaches, but is of this machine: "
            step = f"{what_instead(location)}; where all nodes mount it, say so with "
            step += "nodes_share_files: true in the cluster file."
            yield Violation(location, what + shown(value), step)
