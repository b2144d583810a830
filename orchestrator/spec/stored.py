"""The spec, protocol and verdict in a sweep's folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from jobs.problems import InputError, Problem
from jobs.spec.strict import validation_problems
from orchestrator.ledger import PLAN_FILE, PROTOCOL_FILE, SPEC_FILE, VERDICT_FILE, Ledger
from orchestrator.spec.model import MAY_CHANGE, SweepSpec
from orchestrator.spec.plan import plan
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import Protocol

if TYPE_CHECKING:
    from orchestrator.spec.inputs import Inputs  # imports what reads audio


def store_spec(ledger: Ledger, spec: SweepSpec, inputs: "Inputs") -> None:
    """Write the spec and its plan into the sweep's folder, or check that the one there is equal.

    Keys that do not change results may differ; then the new spec replaces the old.

    Raises:
        InputError: a sweep of this name was started with another spec.
    """
    written = spec.model_dump(mode="json")
    with of_this_version(ledger):
        known = stored_spec(ledger)
    if known is not None:
        # With today's defaults for keys that the version that wrote it did not have.
        before = known.model_dump(mode="json")
        changed = [k for k in written if k not in MAY_CHANGE and written[k] != before[k]]
        if changed:
            where = f"{ledger.storage.url}/{ledger.path(SPEC_FILE)}"
            what = f"sweep {spec.name!r} was started with other {', '.join(changed)}"
            raise InputError([Problem(where, what, "Give the changed spec another name.")])
    ledger.write_text(SPEC_FILE, yaml.safe_dump(written, sort_keys=False))
    planned = plan(spec, inputs, ledger.storage)
    ledger.write_text(PLAN_FILE, json.dumps(asdict(planned), indent=2) + "\n")


def stored_spec(ledger: Ledger) -> SweepSpec | None:
    """The sweep's spec; None before it has started.

    Raises:
        ValidationError: another version of voxsweep wrote it.
    """
    text = ledger.read_text(SPEC_FILE)
    return None if text is None else SweepSpec.model_validate(yaml.safe_load(text))


def require_spec(ledger: Ledger) -> SweepSpec:
    """The sweep's spec.

    Raises:
        InputError: the storage has no such sweep, or another version of voxsweep wrote it.
    """
    try:
        with of_this_version(ledger):
            spec = stored_spec(ledger)
    except ValueError:
        spec = None  # no name of a sweep, such as ../x
    if spec is None:
        what = f"must hold the sweep {ledger.sweep!r}, but there is no {ledger.sweep}/{SPEC_FILE}"
        step = "Correct the name, or name the --storage that holds it."
        raise InputError([Problem(ledger.storage.url, what, step)])
    return spec


@contextmanager
def of_this_version(ledger: Ledger) -> Iterator[None]:
    """Raises InputError for documents that another version of voxsweep wrote."""
    try:
        yield
    except ValidationError as error:
        step = "Another version of voxsweep wrote it: use that one."
        raise InputError(validation_problems(error, ledger.sweep, step)) from None


def stored_protocol(ledger: Ledger) -> Protocol | None:
    """The sweep's protocol; None before its first score."""
    text = ledger.read_text(PROTOCOL_FILE)
    return None if text is None else Protocol.model_validate_json(text)


def stored_verdict(ledger: Ledger) -> Verdict | None:
    """The sweep's verdict; None before its end."""
    text = ledger.read_text(VERDICT_FILE)
    return None if text is None else Verdict.from_json(text)
