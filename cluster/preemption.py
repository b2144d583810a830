"""Notices that this node, or this process, is about to be taken away (preemption).

The sources are set on each node, in the environment of what starts Ray there:

======================= ==============================================================
VOXSWEEP_NOTICE_FILE    a path; once a file is there the node is leaving
VOXSWEEP_NOTICE_SERVICE ``aws`` or ``gcp``: the metadata service of a virtual machine is
                        asked, at its link-local address or where the cloud's own variable
                        says (AWS_EC2_METADATA_SERVICE_ENDPOINT, GCE_METADATA_HOST)
======================= ==============================================================

SIGTERM is always a source.
"""

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

FILE, SERVICE = "VOXSWEEP_NOTICE_FILE", "VOXSWEEP_NOTICE_SERVICE"

_POLL = 1.0
"""Seconds between polls; a cloud gives 30 to 120 seconds of notice."""
_TIMEOUT = 2.0
"""Of a request to a metadata service, which is on the same machine; seconds."""
_TOKEN_SECONDS = 60
"""Lifetime of a token of AWS's service."""


_EC2_ADDRESS, _COMPUTE_ENGINE_HOST = "http://169.254.169.254", "metadata.google.internal"

Source = Callable[[], str]
"""A source of notices: why this process must leave; empty while it may stay."""


def sigterm_notice() -> Source:
    """SIGTERM to this process, whose former handler is replaced. Called on the main thread."""
    received = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: received.set())
    return lambda: "its process was told to end (SIGTERM)" if received.is_set() else ""


def _file_notice(path: Path) -> str:
    """A file that somebody puts on the node, for one a Kubernetes preStop hook."""
    return f"{path} is there" if path.exists() else ""


def _ec2_notice(url: str) -> str:
    """The interruption notice of an EC2 spot instance, by version 2 of its metadata service.

    Source: "Spot Instance interruption notices" in the Amazon EC2 user guide.
    """
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
    token = _ask(f"{url}/latest/api/token", lifetime, method="PUT")
    answer = _ask(
        f"{url}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token}
    )
    if not answer:
        return ""
    action = json.loads(answer)
    return f"EC2 will {action['action']} its machine at {action['time']}"


def _compute_engine_notice(host: str) -> str:
    """Whether a Compute Engine machine is being preempted, by its metadata service.

    Source: "Preemptible VM instances" in the Compute Engine documentation.
    """
    url = f"http://{host}/computeMetadata/v1/instance/preempted"
    answer = _ask(url, {"Metadata-Flavor": "Google"})
    return "Compute Engine preempts its machine" if answer.strip() == "TRUE" else ""


class Notices:
    """All sources of one process."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def current(self) -> str:
        """The notice of the first source that has one; empty when none has."""
        return next((notice for source in self._sources if (notice := source())), "")

    def wait(self, pause: Callable[[float], object]) -> str:
        """Wait for a notice and return it; ``pause`` is called with the seconds between polls."""
        while not (notice := self.current()):
            pause(_POLL)
        return notice

    def wait_until_none(self, pause: Callable[[float], object]) -> None:
        """Return when there is no notice: at once, or when one was withdrawn."""
        while self.current():
            pause(_POLL)


def node_sources(environment: Mapping[str, str]) -> list[Source]:
    """The sources of notices that this node's environment names.

    Raises:
        ValueError: the environment names a service that is not known.
    """
    sources: list[Source] = []
    if path := environment.get(FILE):
        sources.append(partial(_file_notice, Path(path)))
    service = environment.get(SERVICE, "")
    if service == "aws":
        url = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _EC2_ADDRESS
        sources.append(partial(_ec2_notice, url.rstrip("/")))
    elif service == "gcp":
        host = environment.get("GCE_METADATA_HOST") or _COMPUTE_ENGINE_HOST
        sources.append(partial(_compute_engine_notice, host))
    elif service:
        raise ValueError(f"{SERVICE} must be aws or gcp, got {service!r}; correct it on this node")
    return sources


def end_with_raylet() -> None:
    """End this process when the one that started it is gone: its node is then dead for Ray.

    Ray lets its workers finish what they do, and some are never done: one call to a host waits for
    its end. So it would stay, with its GPU, on a node that Ray starts anew.
    """
    raylet = os.getppid()

    def watch() -> None:
        while os.getppid() == raylet:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=watch, name="raylet", daemon=True).start()


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> str:
    """The answer; empty where there is none: 404 is how EC2 says that all is well."""
    # Never through a proxy: it would ask for itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        with opener.open(request, timeout=_TIMEOUT) as response:
            body: bytes = response.read()
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return ""
    return body.decode()
