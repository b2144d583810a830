"""``voxsweep listen`` as a user gives it."""

import json

import pytest
from typer.testing import CliRunner

from jobs.problems import InputError
from orchestrator.cli import app
from orchestrator.errors import InfrastructureError
from orchestrator.listening_room import closing, serving
from orchestrator.listening_room.serving import is_loopback, open_door
from tests.asgi_browser import AsgiBrowser
from tests.orchestrator.listening_room.test_closing import ratings_text
from tests.simulated_raters import join_path


@pytest.fixture
def run(ledger, monkeypatch):
    """Runs the command on a copy of the sweep; what it would serve is put aside."""
    served = []
    monkeypatch.setattr(serving, "serve", lambda app, door: served.append((app, door)))
    monkeypatch.setattr(closing, "rebuild", lambda *_: None)
    monkeypatch.setattr(closing, "_page", lambda _, verdict: verdict.sentence)

    def run(*arguments):
        storage = ["--storage", ledger.storage.url]
        result = CliRunner().invoke(app, ["listen", "small", *arguments, *storage])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    run.served = served
    yield run
    for _, door in served:
        door.socket.close()


def test_it_prints_links_that_let_in(run):
    told = json.loads(run("--me", "--port", "0", "--json").stdout)
    ((app_, door),) = run.served
    assert door.address.startswith("http://127.0.0.1:")
    assert told["mode"] == "cmos"
    for who, words in (("me", "Practice"), ("organiser", "Raters")):
        assert told[who].startswith(door.address)
        assert words in AsgiBrowser(app_).get(join_path(told[who])).text


def test_it_warns_where_others_may_reach_it_and_nowhere_else(run):
    assert "no encryption" not in run("--port", "0").output
    assert "no encryption" in run("--port", "0", "--host", "0.0.0.0").output
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "10.0.0.1", "a.b")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_it_goes_on_with_the_open_test(run):
    first, second = (json.loads(run("--port", "0", "--json").stdout) for _ in range(2))
    assert first["study"] == second["study"]


def test_a_port_that_is_taken_is_told():
    door = open_door("127.0.0.1", 0, "")
    port = int(door.address.rpartition(":")[2].strip("/"))
    with pytest.raises(InfrastructureError, match=f"port {port} of 127.0.0.1"):
        open_door("127.0.0.1", port, "")
    door.socket.close()


def test_ratings_come_in_and_go_out(run, room, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(ratings_text(room))
    told = json.loads(run("--import", str(path), "--json").stdout)
    assert (told["verdict"], told["variant"]) == ("PROMOTE", room.variant)
    out = tmp_path / "out.csv"
    assert run("--export", str(out)).exit_code == 0
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--close"], "must have been opened"),
        (["--export", "x.csv"], "none is"),
        (["--close", "--export", "x.csv"], "choose one of"),
        (["--path", "here"], "a path begins with /"),
    ],
)
def test_what_cannot_be_done_is_told(run, arguments, what):
    try:
        told = run(*arguments).output
    except InputError as error:
        told = str(error)
    assert what in told
