"""Listening tests that were held elsewhere: our CSV, and the results file of webMUSHRA."""

import csv
import hashlib
from collections.abc import Collection
from importlib.metadata import version
from json import dumps
from pathlib import Path

from jobs.problems import InputError, Problem, read_text
from jobs.spec.trial import BASE_VARIANT
from orchestrator.ledger import VERDICT_FILE, Ledger
from orchestrator.listening_room.closing import STUDY_FILE, keep, ratings_csv
from orchestrator.release.finished_sweep import FinishedSweep
from orchestrator.scores.from_files import read_ratings
from orchestrator.scores.stored_ratings import (
    RATINGS_FILE,
    is_settled,
    stored_tests,
    verdict_of_metrics,
)
from orchestrator.verdict.listening.ratings import COMPARISON_SCALE, PREFERENCE, Rating

_MUSHRA = ("session_uuid", "trial_id", "rating_stimulus", "rating_score")
"""Columns of webMUSHRA's ``mushra.csv`` (github.com/audiolabs/webMUSHRA, service/write.php)."""
_CATEGORY = 20
"""Points of the 100 of ITU-R BS.1534 that make one of its five categories."""
_HOW = (
    "A trial's id is a prompt of set B, a stimulus the id of a variant or base; others, such as "
    "anchors, are left out."
)


def bring(sweep: FinishedSweep, path: Path) -> str:
    """Keep the ratings of a file as a closed test of the sweep; returns its key.

    Raises:
        InputError: with every line that cannot be used; or listeners have decided already.
    """
    ledger, protocol = sweep.ledger, sweep.protocol
    text = read_text(path, "Name a CSV file of ratings.")
    sentences = {prompt.id for prompt in protocol.confirmation}
    first = text.partition("\n")[0]
    if all(name in first for name in _MUSHRA):
        text = ratings_csv(from_webmushra(text, path, sentences, sweep.variants))
    else:
        read_ratings(path, sentences, sweep.variants)
    test = hashlib.sha256(text.encode()).hexdigest()[:16]
    _refuse_a_second(ledger, sweep, test)
    about = {"id": test, "imported": path.name, "voxsweep": version("voxsweep")}
    return keep(ledger, test, {RATINGS_FILE: text, STUDY_FILE: dumps(about, indent=2) + "\n"})


def _refuse_a_second(ledger: Ledger, sweep: FinishedSweep, test: str) -> None:
    verdict = verdict_of_metrics(ledger)
    if any(is_settled(each, verdict, sweep.protocol) for each in stored_tests(ledger)):
        what = "a verdict is confirmed by one listening test, and this one's has been closed"
        step = "To hear more, run the spec under another name with a new set B."
        raise InputError([Problem(ledger.path(VERDICT_FILE), what, step)])


def from_webmushra(
    text: str, path: Path, sentences: Collection[str], systems: Collection[str]
) -> list[Rating]:
    """Comparisons of each variant with the base, from scores of 0 to 100 on one page.

    A difference of 20 points is one category of BS.1534's scale, and one point here, to at most 3.

    Raises:
        InputError: with every line that is no score, and every page without the base.
    """
    problems: list[Problem] = []
    pages: dict[tuple[str, str], dict[str, float]] = {}
    rows = csv.DictReader(text.splitlines())
    for row in rows:
        where = f"{path}:{rows.line_num}"
        rater, trial, stimulus, score = (row[name] or "" for name in _MUSHRA)
        if stimulus not in systems:
            continue
        if trial not in sentences:
            problems.append(Problem(where, f"a trial is a prompt of set B, got {trial!r}", _HOW))
            continue
        try:
            value = float(score)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 100:
            problems.append(Problem(where, f"a score is from 0 to 100, got {score!r}", _HOW))
            continue
        page = pages.setdefault((rater, trial), {})
        if stimulus in page:
            what = f"a stimulus is scored once on a page, got {stimulus!r} of {trial!r} again"
            problems.append(Problem(where, what, _HOW))
        page[stimulus] = value
    ratings = []
    for (rater, trial), page in pages.items():
        if BASE_VARIANT not in page:
            what = f"a page has the base, got {', '.join(page)} of {trial!r} by {rater!r}"
            problems.append(Problem(str(path), what, _HOW))
            continue
        for system, value in page.items():
            if system != BASE_VARIANT:
                points = round((value - page[BASE_VARIANT]) / _CATEGORY)
                given = max(COMPARISON_SCALE[0], min(COMPARISON_SCALE[-1], points))
                ratings.append(Rating(rater, trial, system, PREFERENCE, given))
    if problems:
        raise InputError(problems)
    if not ratings:
        what = "there is no page with the base and a variant"
        raise InputError([Problem(str(path), what, _HOW)])
    return ratings
