"""What the sweep's own run holds: the spec, the training data, the verdict."""

import json
from collections.abc import Iterator

from pydantic import TypeAdapter

from orchestrator.ledger import (
    DATA_FILE,
    PLAN_FILE,
    PROTOCOL_FILE,
    REPORT_FILE,
    SPEC_FILE,
    VERDICT_FILE,
    Ledger,
)
from orchestrator.records.notes import link, sweep_note
from orchestrator.records.params import data_params, spec_params
from orchestrator.records.runs import NOTE_TAG, MetricValue, RunContent
from orchestrator.report.report_input import Speaker
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.stored import stored_protocol, stored_verdict
from orchestrator.verdict.outcome import Verdict

SWEEP_TAG = "voxsweep.sweep"
_FILES = {
    "spec.yaml": SPEC_FILE,
    "plan.json": PLAN_FILE,
    "protocol.json": PROTOCOL_FILE,
    "verdict.json": VERDICT_FILE,
    "report.html": REPORT_FILE,
}
"""Artifacts and the ledger's documents."""


def read_sweep(ledger: Ledger, spec: SweepSpec) -> RunContent:
    """The sweep's own run, as far as the sweep has come."""
    record = ledger.begin()
    started_at = int(record.started_at * 1000)
    verdict = stored_verdict(ledger)
    ended_at = None if verdict is None else int((record.ended_at or _latest(ledger)) * 1000)
    return RunContent(
        trial=None,
        name=spec.name,
        started_at=started_at,
        params=spec_params(spec) | _data(ledger),
        tags=dict(_tags(ledger, spec, record.id, verdict)),
        end=None if ended_at is None else ("FINISHED", ended_at),
        summary=list(_figures(verdict, ended_at)) if verdict and ended_at else (),
        files={
            name: ledger.path(document)
            for name, document in _FILES.items()
            if ledger.storage.exists(ledger.path(document))
        },
    )


def _latest(ledger: Ledger) -> float:
    """When the last epoch ended, for sweeps whose ledger does not have when they ended."""
    last = [epochs[-1] for each in ledger.trials() if (epochs := ledger.epochs(each.id))]
    return max((losses.finished_at for losses in last), default=ledger.begin().started_at)


def _data(ledger: Ledger) -> dict[str, str]:
    text = ledger.read_text(DATA_FILE)
    if text is None:
        return {}
    return data_params(TypeAdapter(list[Speaker]).validate_python(json.loads(text)["speakers"]))


def _tags(
    ledger: Ledger, spec: SweepSpec, sweep_id: str, verdict: Verdict | None
) -> Iterator[tuple[str, str]]:
    yield "voxsweep.sweep_id", sweep_id
    yield SWEEP_TAG, spec.name
    yield "voxsweep.storage", link(ledger)
    yield "voxsweep.clips", link(ledger, "clips")
    yield NOTE_TAG, sweep_note(ledger, spec, stored_protocol(ledger), verdict)
    if verdict is not None:
        yield "voxsweep.report", link(ledger, *REPORT_FILE.split("/"))
        yield "voxsweep.verdict", verdict.verdict
        yield "voxsweep.variant", verdict.variant or ""
        yield "voxsweep.runner_up", verdict.runner_up or ""
        yield "voxsweep.protocol", verdict.protocol_hash


def _figures(verdict: Verdict, time: int) -> Iterator[MetricValue]:
    """On set B, of the winner or else of the first finalist, and of the base."""
    finalists = {each.row.id: each.row for each in verdict.confirmed}
    row = finalists.get(verdict.variant or "") or next(iter(finalists.values()), None)
    if row is None:
        return
    yield MetricValue("gain/mean", row.gain.mean, time, 0)
    yield MetricValue("gain/low", row.gain.low, time, 0)
    yield MetricValue("gain/high", row.gain.high, time, 0)
    yield MetricValue("gain/prompts", float(row.gain.n), time, 0)
    who = "winner" if verdict.variant else "first_finalist"
    for metric, mean in row.means.items():
        yield MetricValue(f"{metric}/{who}", mean, time, 0)
        if metric in row.differences:
            yield MetricValue(f"{metric}/base", mean - row.differences[metric].mean, time, 0)
