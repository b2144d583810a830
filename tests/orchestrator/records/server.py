"""A real MLflow server on loopback that can be killed, and a proxy that fails as networks do."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

_SECONDS = 400
"""Until a server that does not answer is given up."""


class Server:
    """``mlflow server`` on a database and a bucket; it may be killed and started again."""

    def __init__(self, database: str, artifacts: str, environment: dict[str, str], log: Path):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self._port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.database = database
        self._artifacts = artifacts
        # Its job runner is of no use here, and takes seconds to start.
        self._environment = environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        options = {
            "backend-store-uri": self.database,
            "artifacts-destination": self._artifacts,
            "host": "127.0.0.1",
            "port": str(self._port),
            "workers": "1",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server"]
                + [f"--{name}={value}" for name, value in options.items()],
                env=self._environment,
                cwd=self._log.parent,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"mlflow server did not start: {self._log.read_text()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Without a word, with all its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


Fault = Literal["", "unavailable", "too many", "lost", "late"]
"""What becomes of a request: it passes; 503; 429; it is carried out, but the connection breaks
before the answer; it is carried out only once :meth:`Proxy.release` is called, and nobody hears."""


class Proxy:
    """Stands before a server and fails as ``fault`` says of each request's number and path."""

    def __init__(self, server: str, fault: Callable[[int, str], Fault]) -> None:
        self._server = server.removeprefix("http://")
        self._fault = fault
        self._lock = threading.Lock()
        self._requests = 0
        self.failed: list[Fault] = []
        self.held = threading.Event()
        """A late request has come."""
        self._released = threading.Event()
        self._done = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy._handle(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    @contextmanager
    def serving(self) -> Iterator["Proxy"]:
        thread = threading.Thread(target=self._http.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._released.set()
            self._http.shutdown()
            self._http.server_close()
            thread.join()

    def release(self) -> None:
        """Let the late request be carried out, and wait until it is."""
        self._released.set()
        assert self._done.wait(_SECONDS)

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with self._lock:
            fault = self._fault(self._requests, request.path)
            self._requests += 1
            if fault:
                self.failed.append(fault)
        request.close_connection = True
        if fault in ("unavailable", "too many"):
            request.send_error(503 if fault == "unavailable" else 429)
            return
        if fault == "late":
            self.held.set()
            self._released.wait(_SECONDS)
        status, headers, answer = self._forward(request, body)
        if fault == "late":
            self._done.set()
        if fault in ("lost", "late"):
            return
        request.send_response(status)
        for name in ("Content-Type", "Content-Disposition"):
            if name in headers:
                request.send_header(name, headers[name])
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def _forward(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(self._server, timeout=_SECONDS)
        try:
            headers = {
                name: value
                for name, value in request.headers.items()
                if name.lower() not in ("host", "connection", "accept-encoding")
            }
            connection.request(request.command, request.path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()
