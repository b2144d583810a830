"""``voxsweep records``: all of MLflow, from the storage alone."""

import json

import pytest

from jobs.problems import InputError
from orchestrator.errors import InfrastructureError
from orchestrator.ledger import SPEC_FILE
from orchestrator.records import recorder as room
from orchestrator.records.recorder import rebuild
from tests.orchestrator.records.made_sweep import everything


def test_it_prints_one_object(made, store, capsys, monkeypatch):
    from orchestrator.cli import main

    made.run()
    command = ["voxsweep", "records", "small", "--storage", made.ledger.storage.url]
    monkeypatch.setattr("sys.argv", [*command, "--mlflow", store.uri, "--json"])
    for created in (3, 0):
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        printed = json.loads(capsys.readouterr().out)
        assert (printed["changes"] > 0) == (created > 0)
        assert {**printed, "changes": 0} == {
            "sweep": "small",
            "mlflow": store.uri,
            "runs": 3,
            "created": created,
            "changes": 0,
        }
    assert len(everything(store.uri, "small")) == 3


def test_without_an_address_it_is_where_the_sweep_told_it(made, store, tmp_path):
    """Artifacts of a database go beside the sweep: it has no place for them."""
    made.run()
    text = made.ledger.read_text(SPEC_FILE).replace("mlflow: null", f"mlflow: {store.uri}")
    made.ledger.write_text(SPEC_FILE, text)
    address, _ = rebuild(made.ledger.storage, "small", None, print)
    assert address == store.uri
    assert list((tmp_path / "st/small/mlartifacts").rglob("verdict.json"))


@pytest.mark.parametrize("name", ["other", "../st/small", ""])
def test_no_such_sweep(made, name):
    with pytest.raises(InputError, match="must hold the sweep"):
        rebuild(made.ledger.storage, name, None, print)


def test_an_address_with_a_secret(made):
    with pytest.raises(InputError, match="--mlflow: may hold no password") as caught:
        rebuild(made.ledger.storage, "small", "http://ann:hunter2@host", print)
    assert "hunter2" not in str(caught.value)


def test_a_server_that_is_gone(made, monkeypatch):
    monkeypatch.setattr(room, "_REBUILD_PATIENCE", 0.05)
    with pytest.raises(InfrastructureError, match=r"must answer, but: .*run this again"):
        rebuild(made.ledger.storage, "small", "http://127.0.0.1:9", print)
