"""A sweep whose variants answer text items, from its spec to its page, records and files."""

import json
import random
from pathlib import Path

import mlflow
import pytest

from cluster.storage.base import LocalStorage
from jobs.speech.clips import read_answers
from orchestrator.ledger import CONFIRMATION, SCREEN, SHORTLIST, Ledger
from orchestrator.release.finished_sweep import FinishedSweep, read_finished
from orchestrator.scores.from_files import judge_files
from tests.small_sweep import NAME, Run, write_spec

pytestmark = pytest.mark.full

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def write_items(path: Path, seed: int) -> None:
    """Questions and texts of the words of digits, which the embedded base knows."""
    draw = random.Random(seed)
    rows: list[dict[str, object]] = []
    for _ in range(20):
        text = "".join(f" {word}" for word in draw.choices(WORDS, k=9))
        rows.append({"question": text, "choices": draw.sample(WORDS, 4), "answer": 2})
        rows.append({"text": "".join(f" {word}" for word in draw.choices(WORDS, k=9))})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> FinishedSweep:
    folder = tmp_path_factory.mktemp("items") / "here"
    folder.mkdir()
    path = write_spec(folder)
    for seed, name in enumerate("ab"):
        write_items(folder / f"{name}.jsonl", seed)
    text = path.read_text()
    for before, after in (
        ("  shortlist_after", "  items: a.jsonl\n  confirmation_items: b.jsonl\n  shortlist_after"),
        ("dnsmos_p808]", "dnsmos_p808, choice_accuracy, text_nll]"),
        ("margin: 0.5}]", "margin: 0.5}, {metric: choice_accuracy, margin: 0.9}]"),
    ):
        assert text.count(before) == 1
        text = text.replace(before, after)
    path.write_text(text)
    Run(path, folder / "st").complete()
    return read_finished(Ledger(LocalStorage(folder / "st"), NAME))


def test_every_variant_answers_set_a_and_the_finalists_set_b(finished):
    ledger, protocol = finished.ledger, finished.protocol
    adapted = [name for name in finished.variants if name != "base"]
    assert len(adapted) == 8
    for name in ("base", *adapted):
        (answers,) = (
            read_answers(ledger.storage.fetch(ledger.clips(name, part))) for part in (SCREEN,)
        )
        assert tuple(answer.item for answer in answers) == protocol.items
        scores = {row.prompt: row.values for row in ledger.scores(name)}
        assert {scores[item.id].keys() == {item.metric} for item in protocol.items} == {True}
    for name in ("base", *finished.verdict.finalists):
        answers = read_answers(ledger.storage.fetch(ledger.clips(name, CONFIRMATION)))
        assert tuple(answer.item for answer in answers) == protocol.confirmation_items
    assert read_answers(ledger.storage.fetch(ledger.clips("base", SHORTLIST))) == []
    said = {tuple(row.values["text_nll"] for row in ledger.scores(name)[-1:]) for name in adapted}
    assert len(said) == len(adapted)


def test_the_verdict_the_page_and_the_records_have_the_answers(finished):
    row = finished.verdict.rows[1]
    assert row.differences["choice_accuracy"].n == 20
    assert [check.metric for check in row.constraints] == ["word_error", "choice_accuracy"]
    page = finished.ledger.read_text("report/index.html")
    assert "text items for choice_accuracy" in page
    assert "20 in set A, 20 in set B" in page
    database = Path(finished.ledger.storage.url.removeprefix("file://")) / NAME / "mlflow.db"
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    logged = set().union(*(run.data.metrics for run in client.search_runs(experiments)))
    assert {"choice_accuracy", "text_nll"} <= {name.partition("/")[0] for name in logged}


def test_the_files_alone_give_the_same_verdict(finished):
    folder = Path(finished.ledger.storage.url) / NAME
    judged, _ = judge_files(folder / "scores", folder / "protocol.json", folder / "variants.jsonl")
    assert judged == finished.verdict
