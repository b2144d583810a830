"""An S3 that can be told to fail: moto's server, behind a gate that every request passes.

What fails fails on the wire, so that boto3's own retries and checks are at work too. The gate also
counts requests, and lets one conditional write through at a time, as S3 does and moto does not.
"""

import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from wsgiref.types import StartResponse, WSGIEnvironment

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

Kind = Literal[
    "busy", "failing", "denied", "cut", "answer lost", "torn", "altered", "unknown", "ignored"
]
"""Answered 503 SlowDown, 500 or 403; hung up before anything was done, or after all was; half of
the answer's body; one byte of it changed; a condition not known, by 501, or overlooked."""

_ANSWERS: dict[Kind, tuple[str, str]] = {
    "busy": ("503 Slow Down", "SlowDown"),
    "failing": ("500 Internal Server Error", "InternalError"),
    "denied": ("403 Forbidden", "AccessDenied"),
    "unknown": ("501 Not Implemented", "NotImplemented"),
}


@dataclass
class Fault:
    """What goes wrong with requests such as ``PUT /voices/a/COMMITTED``."""

    kind: Kind
    requests: str
    """A regular expression that is searched in method, path and query."""
    times: float = float("inf")
    met: int = 0
    """How often it has gone wrong so far."""


@dataclass
class Gate:
    """The application between the server and moto."""

    application: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]
    faults: list[Fault] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    """By method: GET, PUT, ..., and LIST for a GET of a bucket."""
    on_request: Callable[[str], None] | None = None
    """Is told of each request before it is served."""
    _one_writes: threading.Lock = field(default_factory=threading.Lock)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        if self.on_request is not None:
            self.on_request(request)
        fault = self._meet(request)
        if fault is None:
            return self._serve(environ, start)
        if fault.kind in _ANSWERS:
            _read(environ)
            status, code = _ANSWERS[fault.kind]
            start(status, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>planted</Message></Error>".encode()]
        if fault.kind == "ignored":
            environ.pop("HTTP_IF_NONE_MATCH", None)
            return self._serve(environ, start)
        if fault.kind == "cut":
            return _hang_up(environ)
        return self._spoil(fault.kind, environ, start)

    def _meet(self, request: str) -> Fault | None:
        with self._counting:
            method, _, path = request.partition(" ")
            is_list = method == "GET" and path.partition("?")[0].strip("/").count("/") == 0
            self.requests["LIST" if is_list else method] += 1
            for fault in self.faults:
                if fault.met < fault.times and re.search(fault.requests, request):
                    fault.met += 1
                    return fault
        return None

    def _serve(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if "HTTP_IF_MATCH" in environ or "HTTP_IF_NONE_MATCH" in environ:
            with self._one_writes:
                return list(self.application(environ, start))
        return self.application(environ, start)

    def _spoil(self, kind: Kind, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        head: list[Any] = []
        body = b"".join(self._serve(environ, lambda *given: head.extend(given)))  # type: ignore[arg-type, return-value]
        if kind == "answer lost":
            return _hang_up(environ)
        start(head[0], head[1])
        if kind == "altered":
            return [bytes([body[0] ^ 1]), body[1:]]
        return _torn(body, environ)


def _read(environ: WSGIEnvironment) -> None:
    """Take the body first, or who sends it may never see the answer."""
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def _hang_up(environ: WSGIEnvironment) -> list[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


def _torn(body: bytes, environ: WSGIEnvironment) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    _hang_up(environ)


@dataclass
class FaultyS3:
    """The server: where it is, and its gate."""

    url: str
    gate: Gate

    @contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """Requests go wrong in the block."""
        self.gate.faults = list(faults)
        try:
            yield
        finally:
            self.gate.faults = []

    def age(self, seconds: float) -> None:
        """Let S3's clock go on: everything there was written so much longer ago."""
        for bucket in s3_backends["123456789012"]["aws"].buckets.values():
            for found in bucket.keys.values():
                found.last_modified -= timedelta(seconds=seconds)


@contextmanager
def serving() -> Iterator[FaultyS3]:
    """The server, on a port that was free, in a thread of this process."""
    gate = Gate(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, gate, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, name="s3", daemon=True)
    thread.start()
    try:
        yield FaultyS3(f"http://127.0.0.1:{server.server_port}", gate)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
