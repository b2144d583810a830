"""A sweep that was really trained, before listeners who come through the real web server.

A sweep this small has no winner by the metrics; here its finalist is said to be one, and everything
after that is real: the clips, the adapter, the ratings, MLflow's runs and registry.
"""

import shutil
from dataclasses import replace

import mlflow
import pytest
from typer.testing import CliRunner

from cluster.storage.base import open_storage
from orchestrator.cli import app
from orchestrator.commands.listening import database_of
from orchestrator.ledger import PROTOCOL_FILE, REPORT_FILE, VERDICT_FILE, Ledger
from orchestrator.listening_room.opening import enter
from orchestrator.listening_room.plans import BEEPS, ClipName
from orchestrator.listening_room.store import StudyStore
from orchestrator.release.finished_sweep import read_finished
from orchestrator.release.registry import registry_store
from orchestrator.spec.stored import stored_protocol, stored_verdict
from orchestrator.verdict.protocol import Listening
from tests.orchestrator.listening_room.conftest import Clock, Room, Served
from tests.simulated_raters import (
    BEEP,
    PITCH,
    HttpBrowser,
    SimulatedRater,
    heard_pitch,
    join_path,
    prefers,
)
from tests.small_sweep import NAME, undisturbed

RULE = Listening(raters=3, sentences=4)


@pytest.fixture
def pending(shared_folder, tmp_path, monkeypatch) -> Ledger:
    """A copy of the sweep, whose finalist awaits listeners."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = undisturbed(shared_folder)
    assert run.code == 0, run.stderr
    shutil.copytree(run.storage, tmp_path / "sweeps")
    ledger = Ledger(open_storage(str(tmp_path / "sweeps")), NAME)
    protocol = stored_protocol(ledger).model_copy(update={"listening": RULE})
    ledger.write_text(PROTOCOL_FILE, protocol.model_dump_json())
    verdict = stored_verdict(ledger)
    (finalist,) = verdict.confirmed
    verdict = replace(
        verdict,
        verdict="PROMOTE-PENDING-LISTENING",
        sentence="Promote it, once listeners confirm it.",
        variant=finalist.row.id,
        confirmed=(replace(finalist, finding="better"),),
        protocol_hash=protocol.digest(),
    )
    ledger.write_text(VERDICT_FILE, verdict.to_json() + "\n")
    return ledger


def hold(ledger: Ledger, points: int) -> str:
    """Three raters, over HTTP, who hear the variant so many points better; returns its id."""
    clock = Clock()
    store = StudyStore(database_of(ledger, None), clock)
    study = enter(store, ledger, stored_protocol(ledger), None, "en")
    ((_, variant), *_) = study.pairs[""]
    pitches = {"base": PITCH["base"], variant: PITCH["variant"]}
    known = {
        store.clip(study.id, ClipName(system, sentence)): pitch
        for sentence, _ in (*study.pairs[""], *study.training[""])
        for system, pitch in pitches.items()
    }
    known |= {store.clip(study.id, ClipName(BEEPS, str(n))): BEEP for n in (1, 2, 3, 5)}
    served = Served(Room(store, study, ledger, clock))
    for place, name in enumerate(("ann", "ben", "eve")):
        browser = HttpBrowser(served.door.address)
        assert browser.get(join_path(served.link(name))).status == 200
        SimulatedRater(
            browser,
            prefers(points, 0.4 if points else 0.0),
            place,
            clock.wait,
            ear=lambda wav: known.get(wav) or heard_pitch(wav),
        ).run()
        browser.close()
    served.stop()
    store.close()
    return variant


def command(ledger: Ledger, *arguments: str, code: int = 0) -> str:
    storage = ["--storage", ledger.storage.url]
    ended = CliRunner().invoke(app, [*arguments, *storage], catch_exceptions=False)
    assert ended.exit_code == code, ended.output
    return ended.output


@pytest.mark.full
@pytest.mark.parametrize(("points", "verdict"), [(2, "PROMOTE"), (0, "DO-NOT-FINE-TUNE")])
def test_listeners_decide_and_promote_follows_without_a_file_of_ratings(pending, points, verdict):
    variant = hold(pending, points)
    assert verdict in command(pending, "listen", NAME, "--close")
    found = read_finished(pending).verdict
    assert found.verdict == verdict
    assert "Listening test" in pending.read_text(REPORT_FILE)

    client = mlflow.MlflowClient(f"sqlite:///{pending.storage.workspace(NAME) / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == NAME)
    runs = client.search_runs([experiment.experiment_id])
    (run,) = (r for r in runs if r.data.tags.get("voxsweep.sweep") == NAME)
    (report,) = found.listening
    assert run.data.tags["voxsweep.verdict"] == verdict
    assert run.data.metrics["listening/raters"] == 3
    assert run.data.metrics["listening/sentences"] == RULE.sentences
    assert run.data.metrics["listening/difference"] == report.result.difference.mean

    registry = mlflow.MlflowClient(registry_store(pending.storage).uri)
    if verdict == "PROMOTE":
        assert found.variant == variant
        assert "champion" in command(pending, "promote", NAME)
        version = registry.get_model_version_by_alias(NAME, "champion")
        assert version.tags["voxsweep.verdict"] == "PROMOTE"
        assert version.tags["voxsweep.listeners"] == "3"
        assert float(version.tags["voxsweep.listening_low"]) > 0
    else:
        assert verdict in command(pending, "promote", NAME, code=3)
        assert registry.search_model_versions(f"name = '{NAME}'") == []
