"""Who is told that a node is going, by whom, and that nobody is told without cause."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cluster.preemption import FILE, SERVICE, Notices, node_sources, sigterm_notice


@contextmanager
def metadata(answers: dict[str, str]) -> Iterator[str]:
    """A metadata service on loopback; ``answers`` are by method, path and the header it demands.

    What is not among them is not found.
    """

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            headers = ("X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds")
            said = [self.headers[h] for h in (*headers, "Metadata-Flavor") if self.headers[h]]
            body = answers.get(" ".join((self.command, self.path, *said)))
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write((body or "").encode())

        do_GET = do_PUT = _answer

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_nothing_is_heard_where_nothing_was_set():
    assert node_sources({}) == []
    assert Notices(node_sources({})).current() == ""


def test_a_file_is_a_notice_until_it_is_taken_away(tmp_path):
    path = tmp_path / "going"
    notices = Notices(node_sources({FILE: str(path)}))
    assert notices.current() == ""
    looks = []

    def pause(seconds):
        assert seconds > 0
        looks.append(seconds)
        if len(looks) == 2:
            path.touch()

    assert notices.wait(pause) == f"{path} is there"
    assert len(looks) == 2
    notices.wait_until_none(lambda seconds: path.unlink())
    assert notices.current() == ""


def test_ec2_tells_of_a_spot_instance_that_is_reclaimed():
    """By version 2 of its service, which asks for a token first."""
    action = "GET /latest/meta-data/spot/instance-action t0ken"
    answers = {"PUT /latest/api/token 60": "t0ken"}
    with metadata(answers) as host:
        environment = {SERVICE: "aws", "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{host}/"}
        notices = Notices(node_sources(environment))
        assert notices.current() == ""
        answers[action] = '{"action": "terminate", "time": "2026-11-22T08:22:00Z"}'
        assert notices.current() == "EC2 will terminate its machine at 2026-11-22T08:22:00Z"


def test_compute_engine_tells_of_a_machine_that_is_preempted():
    path = "GET /computeMetadata/v1/instance/preempted Google"
    answers = {path: "FALSE"}
    with metadata(answers) as host:
        notices = Notices(node_sources({SERVICE: "gcp", "GCE_METADATA_HOST": host}))
        assert notices.current() == ""
        answers[path] = "TRUE\n"
        assert notices.current() == "Compute Engine preempts its machine"


def test_a_service_that_does_not_answer_tells_nothing(monkeypatch):
    """And it is never asked for through a proxy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with metadata({}) as host:
        pass
    for environment in (
        {SERVICE: "aws", "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{host}"},
        {SERVICE: "gcp", "GCE_METADATA_HOST": host},
    ):
        assert Notices(node_sources(environment)).current() == ""


def test_an_unknown_service_is_refused():
    with pytest.raises(ValueError, match="must be aws or gcp, got 'azure'"):
        node_sources({SERVICE: "azure"})


def test_sigterm_is_heard():
    former = signal.getsignal(signal.SIGTERM)
    try:
        notices = Notices([sigterm_notice()])
        assert notices.current() == ""
        os.kill(os.getpid(), signal.SIGTERM)
        assert notices.current() == "its process was told to end (SIGTERM)"
    finally:
        signal.signal(signal.SIGTERM, former)
