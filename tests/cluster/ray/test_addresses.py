"""Which addresses are refused, and what is said of them."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cluster.ray.addresses import (
    is_loopback,
    jobs_address_problems,
    open_cluster,
    open_jobs,
    ray_address_problems,
)

TOKEN = "5eed" * 16


@pytest.fixture(autouse=True)
def no_token(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def jobs_refusals(url: str, insecure: bool = False) -> list[str]:
    return [what for what, _ in jobs_address_problems(url, insecure=insecure)]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "localhost", "[::1]"])
def test_loopback_may_do_without_a_token(host):
    assert not jobs_refusals(f"http://{host}:8265")
    assert not list(ray_address_problems(f"{host}:6379", insecure=False))


@pytest.mark.parametrize("host", ["10.0.0.4", "head", "0.0.0.0", "127.0.0.1.example", "[fd00::1]"])
def test_another_machine_needs_a_token(host, monkeypatch):
    [refused] = jobs_refusals(f"https://{host}:8265")
    assert "must demand a token" in refused
    [(refused, hint)] = ray_address_problems(f"{host}:6379", insecure=False)
    assert "must demand a token" in refused
    assert "--insecure-address" in hint
    assert not jobs_refusals(f"http://{host}:8265", insecure=True)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert not jobs_refusals(f"http://{host}:8265")
    assert not list(ray_address_problems(f"{host}:6379", insecure=False))


def test_a_token_that_is_not_sent_is_none(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert jobs_refusals("http://head:8265")


@pytest.mark.parametrize("where", ["file", "default"])
def test_the_token_may_lie_in_a_file(where, monkeypatch, tmp_path):
    path = tmp_path / ("token" if where == "file" else ".ray/auth_token")
    path.parent.mkdir(exist_ok=True)
    path.write_text(TOKEN + "\n")
    if where == "file":
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert not jobs_refusals("http://head:8265")


def test_auto_means_the_cluster_that_ray_address_names(monkeypatch):
    assert list(ray_address_problems("auto", insecure=False))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert not list(ray_address_problems("auto", insecure=False))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.4:6379")
    assert list(ray_address_problems("auto", insecure=False))


@pytest.mark.parametrize(
    "url",
    [
        "head:8265",
        "ray://head:10001",
        "os://head",
        "anyscale://cluster",
        "http://",
        "http://head:8265/?token=1",
        "http://head:8265#x",
        "",
    ],
)
def test_other_kinds_of_addresses_are_refused(url):
    """Ray imports the module that an unknown scheme names."""
    assert jobs_refusals(url, insecure=True)


@pytest.mark.parametrize("address", ["head", "http://head:6379", "ray://head:1", "head:", ":1", ""])
def test_a_driver_connects_to_a_host_and_a_port(address):
    [(refused, _)] = ray_address_problems(address, insecure=True)
    assert "must be HOST:PORT or auto" in refused


def test_a_login_in_an_address_is_refused_and_not_shown():
    refused = "\n".join(jobs_refusals("https://me:hunter2@head:8265", insecure=True))
    assert "must hold no login" in refused
    assert "hunter2" not in refused


@pytest.mark.parametrize(
    ("host", "expected"), [("127.1.2.3", True), ("::1", True), ("8.8.8.8", False), ("", False)]
)
def test_loopback(host, expected):
    assert is_loopback(host) is expected


@pytest.fixture(params=[200, 401, 403, 302])
def dashboard(request):
    """A dashboard that answers with this status, and what it was asked with."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(dict(self.headers))
            self.send_response(request.param)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", request.param, seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_whether_anybody_may_submit_is_asked_without_the_token(dashboard, monkeypatch):
    url, status, seen = dashboard
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert open_jobs(url) is (status == 200)
    assert len(seen) == 1
    assert TOKEN not in str(seen)


def test_nobody_answers():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, and not listening
        port = held.getsockname()[1]
        for ask in (
            lambda: open_jobs(f"http://127.0.0.1:{port}"),
            lambda: open_cluster(f"127.0.0.1:{port}"),
        ):
            with pytest.raises(ConnectionError, match=rf"no Ray cluster answers at .*{port}"):
                ask()


def test_a_cluster_with_a_token_is_not_open(job_cluster):
    assert not open_cluster(job_cluster.address)
    assert not open_jobs(job_cluster.dashboard_url)
