"""Addresses of Ray clusters: their form, and whether a cluster demands a token.

Anybody who reaches a Ray cluster without token authentication can run code on it. So only a
cluster on this machine's loopback may do without.
"""

import ipaddress
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import grpc
import requests

from cluster.names import shown
from cluster.ray.tokens import TOKEN_SOURCES, sends_token

AUTO = "auto"
"""The cluster that this machine is a node of."""

INSECURE = "--insecure-address"
"""The option that overrules a refusal."""

_TIMEOUT = 30.0
"""Seconds for a cluster to say whether it demands a token."""

AddressProblem = tuple[str, str]
"""The broken rule with the value, and the next step."""


def jobs_address_problems(url: str, *, insecure: bool) -> Iterator[AddressProblem]:
    """What is wrong with where jobs are submitted, such as ``https://head:8265``. Asks nobody."""
    parts = urlsplit(url)
    what = f"the address of Ray Jobs must be http://HOST:PORT or https://..., got {shown(url)}"
    # Ray takes an unknown scheme for the name of a module, and imports it.
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        yield what, "Write the dashboard's address, such as http://127.0.0.1:8265."
        return
    if "@" in parts.netloc:
        what = f"an address must hold no login, got {shown(url)}"
        yield what, f"Delete it; Ray's token comes from {TOKEN_SOURCES}."
    yield from _without_token(url, parts.hostname, insecure=insecure)


def ray_address_problems(address: str, *, insecure: bool) -> Iterator[AddressProblem]:
    """What is wrong with where a driver connects: ``HOST:PORT`` or ``auto``. Asks nobody."""
    host, colon, port = address.rpartition(":")
    if address != AUTO and not (host and colon and port.isdigit() and "/" not in host):
        what = f"the address of a Ray cluster must be HOST:PORT or {AUTO}, got {shown(address)}"
        yield what, "Write the head's address, such as 10.0.0.4:6379; jobs have `voxsweep submit`."
        return
    yield from _without_token(address, gcs_host(address), insecure=insecure)


def _without_token(address: str, host: str, *, insecure: bool) -> Iterator[AddressProblem]:
    if not (insecure or is_loopback(host) or sends_token()):
        what = f"a cluster beyond this machine must demand a token, and for {shown(address)} none"
        step = f"Put the cluster's in {TOKEN_SOURCES}, with RAY_AUTH_MODE=token"
        yield f"{what} is known", f"{step}; {INSECURE} goes without."


def gcs_address(address: str) -> str | None:
    """``HOST:PORT`` of what a driver will connect to; None where Ray finds it by itself."""
    return (os.environ.get("RAY_ADDRESS") or None) if address == AUTO else address


def gcs_host(address: str) -> str:
    """The host of a cluster's address; empty where Ray finds it by itself."""
    return (gcs_address(address) or "").rpartition(":")[0].strip("[]")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, reached without a network."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_jobs(url: str) -> bool:
    """Whether Ray Jobs at ``url`` answer somebody without a token; sends none.

    Raises:
        ConnectionError: nobody answers there, or not with a certificate that can be trusted.
    """
    try:
        answer = requests.get(
            f"{url.rstrip('/')}/api/jobs/", timeout=_TIMEOUT, allow_redirects=False
        )
    except requests.RequestException as error:
        raise ConnectionError(unreachable(url, error)) from None
    return answer.status_code == requests.codes.ok


def open_cluster(address: str) -> bool:
    """Whether the cluster at ``HOST:PORT`` answers somebody without a token; sends none.

    Raises:
        ConnectionError: nobody answers there.
    """
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        try:
            ask(b"", timeout=_TIMEOUT)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return False
            raise ConnectionError(unreachable(address, error.code())) from None
    return True


def open_problem(address: str) -> AddressProblem:
    """For a cluster beyond this machine that answers without a token."""
    what = f"the cluster at {shown(address)} answers anybody who reaches it, without a token"
    return what, (
        "Start it with RAY_AUTH_MODE=token and a token on every node (docs/cluster.md); "
        f"{INSECURE} goes on."
    )


def unreachable(address: str, reason: object) -> str:
    """For a cluster that does not answer."""
    kind = reason.__class__.__name__ if isinstance(reason, Exception) else reason
    return f"no Ray cluster answers at {shown(address)} ({kind}). Check the address and the port."
