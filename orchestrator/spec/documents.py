"""The documents of a sweep's folder, read back; None for one that is not there."""

import yaml

from orchestrator.ledger import PROTOCOL_FILE, SPEC_FILE, VERDICT_FILE, Ledger
from orchestrator.spec.model import SweepSpec
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import Protocol


def read_spec(ledger: Ledger) -> SweepSpec | None:
    """What the sweep was asked. Raises ValidationError for a spec of another version."""
    text = ledger.read_text(SPEC_FILE)
    return None if text is None else SweepSpec.model_validate(yaml.safe_load(text))


def read_protocol(ledger: Ledger) -> Protocol | None:
    """The rule by which the sweep judges, which is written before its first score."""
    text = ledger.read_text(PROTOCOL_FILE)
    return None if text is None else Protocol.model_validate_json(text)


def read_verdict(ledger: Ledger) -> Verdict | None:
    """What the sweep came to."""
    text = ledger.read_text(VERDICT_FILE)
    return None if text is None else Verdict.from_json(text)
