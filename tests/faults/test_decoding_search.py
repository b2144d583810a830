"""A sweep that searches decodings, killed in the search of the base and in that of checkpoints."""

import json
from pathlib import Path

import pytest

from cluster.storage.base import LocalStorage
from orchestrator.ledger import CONFIRMATION, SCREEN, Ledger
from orchestrator.release.finished_sweep import FinishedSweep, read_finished
from orchestrator.scores.from_files import judge_files
from orchestrator.scores.from_ledger import base_decoding_id, stored_base_decoding
from tests.small_sweep import NAME, Run, write_spec

pytestmark = pytest.mark.full

SEARCH = "  decoding_search: {space: {temperature: [0.3, 0.6], repetition_penalty: [1.0, 1.1]}}\n"


def spec_in(folder: Path) -> Path:
    folder.mkdir()
    path = write_spec(folder)
    text = path.read_text().replace("scoring:\n", f"{SEARCH}scoring:\n", 1)
    path.write_text(text)
    return path


def ledger_of(run: Run) -> Ledger:
    return Ledger(LocalStorage(Path(run.storage)), NAME)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("straight") / "here"
    return Run(spec_in(folder), folder / "st").complete()


@pytest.fixture(scope="module")
def killed(tmp_path_factory, straight) -> Run:
    """Killed once the base, and once a checkpoint, has spoken with some of the decodings."""
    folder = tmp_path_factory.mktemp("killed") / "here"
    run = Run(spec_in(folder), folder / "st")
    ledger = ledger_of(run)
    tried = stored_base_decoding(ledger_of(straight)).tried
    base = [base_decoding_id(each.decoding) for each in tried]

    def speaks(names: list[str]) -> bool:
        return any(ledger.storage.is_committed(ledger.clips(name)) for name in names)

    def checkpoint_speaks() -> bool:
        spoken = ledger.storage.children(ledger.path("clips", SCREEN))
        return speaks([name for name in spoken if name.startswith("t") and "-d" in name])

    for moment in (lambda: speaks(base[1:]), checkpoint_speaks):
        run.start()
        try:
            run.wait_for(moment)
            run.kill()
            run.left_behind()
        finally:
            run.end()
    return run.complete()


@pytest.fixture(scope="module")
def finished(straight) -> FinishedSweep:
    return read_finished(ledger_of(straight))


def test_the_base_and_the_finalists_each_have_a_decoding(finished):
    ledger, protocol = finished.ledger, finished.protocol
    found = stored_base_decoding(ledger)
    assert len(found.tried) == len(protocol.decodings) == 5
    assert protocol.decoding.at(found.chosen) == protocol.decoding
    own = [info for info in finished.variants.values() if info.own_decoding]
    assert len(own) == 4  # of one finalist
    assert {info.trial for info in own} <= {record.id for record in ledger.trials()}
    assert set(ledger.scored_variants(CONFIRMATION)) == {"base", *finished.verdict.finalists}


def test_a_voice_decodes_as_its_variant(finished):
    own = next(info for info in finished.variants.values() if info.own_decoding)
    facts = finished.facts(finished.variant(own.id))
    assert facts.variant.id == own.id
    assert facts.decoding == finished.protocol.decoding.at(own.own_decoding)
    as_the_sweep = finished.facts(finished.variant(own.decoding_as({}).id))
    assert as_the_sweep.decoding == finished.protocol.decoding


def test_the_files_alone_give_the_same_verdict(finished):
    folder = Path(finished.ledger.storage.url) / NAME
    judged, _ = judge_files(folder / "scores", folder / "protocol.json", folder / "variants.jsonl")
    assert judged == finished.verdict


def test_the_page_and_the_records_show_what_was_tried(finished):
    page = finished.ledger.read_text("report/index.html")
    assert "Decodings of the base" in page
    assert page.count("repetition_penalty 1.1") > 1


def test_killed_twice_it_is_the_same_sweep(killed, finished):
    again = read_finished(ledger_of(killed))
    one, other = (
        {name: info.own_decoding for name, info in of.variants.items()} for of in (finished, again)
    )
    assert one == other
    assert stored_base_decoding(again.ledger) == stored_base_decoding(finished.ledger)
    assert json.loads(again.verdict.to_json()) == json.loads(finished.verdict.to_json())
