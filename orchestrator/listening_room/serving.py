"""Serves a listening test until it is interrupted."""

import ipaddress
import socket
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from orchestrator.errors import InfrastructureError


@dataclass(frozen=True)
class Door:
    """A socket that listens, and how a browser on this machine reaches it."""

    socket: socket.socket
    address: str
    """Such as ``http://127.0.0.1:8770/``."""


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_door(host: str, port: int, root_path: str) -> Door:
    """Listen at a port of an address of this machine; 0 takes one that is free.

    Raises:
        InfrastructureError: the port is taken, or the address is not this machine's.
    """
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = info[0]
        listening = socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        raise InfrastructureError(
            f"the listening test must have port {port} of {host} for itself, but: {error}. "
            "Name another with --port."
        ) from None
    at, taken = listening.getsockname()[:2]
    shown = f"[{at}]" if ":" in at else at
    return Door(listening, f"http://{shown}:{taken}{root_path}/")


def serve(app: FastAPI, door: Door) -> None:
    """Answer until SIGINT or SIGTERM."""
    # Addresses have tokens in them once: no request is logged.
    config = uvicorn.Config(app, access_log=False, server_header=False, log_level="warning")
    try:
        uvicorn.Server(config).run(sockets=[door.socket])
    except KeyboardInterrupt:
        pass
    finally:
        door.socket.close()
