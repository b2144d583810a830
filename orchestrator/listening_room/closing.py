"""The end of a listening test: frozen, unblinded once, and written into the sweep's storage.

What is written there is all that the verdict follows from; verdict, report and MLflow's runs are
made from it, and made again where a process died in between.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from jobs.problems import InputError, Problem
from orchestrator.ledger import REPORT_FILE, SCREEN, VERDICT_FILE, Ledger
from orchestrator.listening_room.collected import collected
from orchestrator.listening_room.store import StudyStore
from orchestrator.listening_room.study import ListeningStudy
from orchestrator.records.recorder import rebuild
from orchestrator.release.finished_sweep import FinishedSweep, read_finished
from orchestrator.report.page import carry_over, render
from orchestrator.report.report_input import ReportInput
from orchestrator.report.stored_clips import stored_clips
from orchestrator.scores.from_ledger import (
    ScoredSweep,
    heard_decodings,
    stored_base_decoding,
    table_of,
)
from orchestrator.scores.stored_ratings import (
    FOLDER,
    RATINGS_FILE,
    after_listeners,
    verdict_of_metrics,
)
from orchestrator.verdict.listening.ratings import Rating
from orchestrator.verdict.outcome import Verdict

STUDY_FILE = "study.json"
LOG_FILE = "answers.csv"
_COLUMNS = ("rater", "sentence", "system", "axis", "score", "item", "expected")


@dataclass(frozen=True)
class ClosedTest:
    """What became of a test."""

    key: str
    """Of the storage, where its ratings are."""
    verdict: Verdict


def close(
    store: StudyStore, study: ListeningStudy, ledger: Ledger, note: Callable[[str], None]
) -> ClosedTest:
    """End a test; once more, it changes nothing.

    Raises:
        InputError: nobody has rated anything yet.
    """
    ratings = collected(store, study)
    if not any(rating.item == "rating" for rating in ratings):
        what = "a listening test has ratings, but nobody has rated anything yet"
        raise InputError([Problem(f"listening test of {study.sweep}", what, "Have it rated.")])
    closed_at = store.freeze(study.id)
    # Answers that came before the test was frozen, and after they were first read.
    ratings = collected(store, study)
    about = {**asdict(study), "closed_at": closed_at, "voxsweep": version("voxsweep")}
    files = {
        RATINGS_FILE: ratings_csv(ratings),
        STUDY_FILE: json.dumps(about, indent=2) + "\n",
        LOG_FILE: _log_csv(store, study),
    }
    key = keep(ledger, study.id, files)
    return ClosedTest(key, conclude(ledger, note))


def keep(ledger: Ledger, test: str, files: dict[str, str]) -> str:
    """Commit the files of a closed test to the next number; the same ``test`` only once."""
    folder = ledger.path(FOLDER)
    storage = ledger.storage
    with storage.exclusively(folder):
        number = 1
        while storage.is_committed(key := f"{folder}/{number:04d}"):
            if json.loads(storage.read_from(key, STUDY_FILE))["id"] == test:
                return key
            number += 1
        with storage.commit(key) as directory:
            for name, text in files.items():
                (Path(directory) / name).write_text(text, encoding="utf-8")
    return key


def conclude(ledger: Ledger, note: Callable[[str], None]) -> Verdict:
    """Make verdict, report and MLflow's runs follow from the tests in the storage."""
    sweep = read_finished(ledger)
    verdict = after_listeners(ledger, verdict_of_metrics(ledger), sweep.protocol)
    ledger.write_text(REPORT_FILE, _page(sweep, verdict))
    text = verdict.to_json() + "\n"
    if ledger.read_text(VERDICT_FILE) != text:
        ledger.end()
        ledger.write_text(VERDICT_FILE, text)
    rebuild(ledger.storage, ledger.sweep, None, note)
    return verdict


def _page(sweep: FinishedSweep, verdict: Verdict) -> str:
    """The report with another verdict."""
    ledger = sweep.ledger
    scored = ScoredSweep.read(ledger)
    assert scored is not None, "it came to its verdict"
    table = scored.table
    if heard := heard_decodings(ledger, table, sweep.protocol):
        infos = [*table.adapted, *heard]
        table = table_of(ledger, infos, (SCREEN,), sweep.protocol.screening())
    page = render(
        ReportInput(
            sweep=sweep.spec.name,
            family=sweep.spec.family,
            protocol=sweep.protocol,
            verdict=verdict,
            table=table,
            trials=ledger.histories(),
            replicates=ledger.replicate_histories(),
            decodings=stored_base_decoding(ledger),
            clips=stored_clips(ledger, verdict, table, sweep.protocol),
            facts=[],
        )
    )
    return carry_over(page, ledger.read_text(REPORT_FILE) or "")


def ratings_csv(ratings: Sequence[Rating]) -> str:
    """Ratings as ``voxsweep judge --ratings`` reads them."""
    return _csv(_COLUMNS, [[getattr(row, name) for name in _COLUMNS] for row in ratings])


def _log_csv(store: StudyStore, study: ListeningStudy) -> str:
    """Every answer that was ever accepted, in the order of each rater, with what was heard."""
    columns = ("rater", "trial", "kind", "axis", "sentence", "system", "first", "second")
    more = ("version", "answer", "seconds", "plays", "agent", "answered_at", "submission")
    rows = []
    for rater in store.raters(study.id):
        items = {state.at: state.item for state in store.states(rater.id)}
        for logged in store.log(rater.id):
            item = items[logged.at]
            heard = [clip.system for clip in item.clips]
            of_item = [item.kind, item.axis, item.sentence, item.system, *heard, ""][:6]
            rows.append([rater.name, logged.at, *of_item, *(getattr(logged, n) for n in more)])
    return _csv((*columns, *more), rows)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if cell is None else _plain(cell) for cell in row] for row in rows])
    return text.getvalue()


def _plain(cell: object) -> object:
    """A spreadsheet takes a text with such a beginning for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@\t\r" and cell else cell
