"""Listening tests that were closed, in the storage, and what they make of a sweep's verdict.

Each is a committed directory ``listening/0001``, ``0002`` and so on: written once, read by whoever
needs the verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ledger import VARIANTS_FILE, VERDICT_FILE, Ledger
from orchestrator.scores.from_files import ratings_of_text
from orchestrator.scores.variants import read_variants
from orchestrator.spec.stored import stored_protocol
from orchestrator.verdict.listening.languages import apply_listening_test, panels
from orchestrator.verdict.listening.ratings import Ratings
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import Protocol

FOLDER = "listening"
RATINGS_FILE = "ratings.csv"
METRICS_VERDICT_FILE = "listening/verdict-by-metrics.json"
"""The verdict before listeners; only where there are listeners, else ``verdict.json`` is it."""


@dataclass(frozen=True)
class StoredTest:
    """A closed listening test."""

    key: str
    """Of its directory."""
    ratings: Ratings


def stored_tests(ledger: Ledger) -> list[StoredTest]:
    """The closed tests of a sweep, the first first."""
    folder = ledger.path(FOLDER)
    keys = [f"{folder}/{name}" for name in ledger.storage.children(folder) if name.isdigit()]
    committed = [key for key in keys if ledger.storage.is_committed(key)]
    if not committed:
        return []
    protocol, variants = stored_protocol(ledger), ledger.read_text(VARIANTS_FILE)
    assert protocol is not None, "a test is closed after the verdict"
    assert variants is not None, "likewise"
    sentences = {prompt.id for prompt in protocol.confirmation}
    return [
        StoredTest(
            key,
            ratings_of_text(
                ledger.storage.read_from(key, RATINGS_FILE).decode(),
                Path(f"{ledger.storage.url}/{key}/{RATINGS_FILE}"),
                sentences,
                read_variants(variants),
            ),
        )
        for key in committed
    ]


def verdict_of_metrics(ledger: Ledger) -> Verdict:
    """The verdict of a finished sweep as it was before anybody listened."""
    text = ledger.read_text(METRICS_VERDICT_FILE) or ledger.read_text(VERDICT_FILE)
    assert text is not None, "the sweep has come to its verdict"
    return Verdict.from_json(text)


def heard(test: StoredTest, verdict: Verdict, protocol: Protocol) -> Verdict:
    """The verdict after one test; as it was, where the test is of other variants."""
    try:
        return apply_listening_test(verdict, test.ratings, protocol)
    except ValueError:
        return verdict


def is_settled(test: StoredTest, verdict: Verdict, protocol: Protocol) -> bool:
    """Whether each panel was heard, and was as large as the rule asks: then it is the test."""
    rule, reports = protocol.listening, heard(test, verdict, protocol).listening
    asked = {(panel.group, panel.variant) for panel in panels(verdict, protocol)}
    return (
        bool(asked)
        and asked <= {(each.group, each.variant) for each in reports}
        and all(each.raters >= rule.raters and each.sentences >= rule.sentences for each in reports)
    )


def after_listeners(ledger: Ledger, verdict: Verdict, protocol: Protocol) -> Verdict:
    """What closed tests make of the metrics' verdict, which is kept beside.

    The first test whose panels were large enough counts, and no later one: whoever repeats a test
    until it pleases finds what is not there. Until there is one, the last is told.
    """
    tests: Sequence[StoredTest] = stored_tests(ledger)
    if not tests:
        return verdict
    if ledger.read_text(METRICS_VERDICT_FILE) != (text := verdict.to_json() + "\n"):
        ledger.write_text(METRICS_VERDICT_FILE, text)
    settled = next((test for test in tests if is_settled(test, verdict, protocol)), None)
    if settled is not None:
        return heard(settled, verdict, protocol)
    told = [found for test in tests if (found := heard(test, verdict, protocol)).listening]
    return told[-1] if told else verdict
