"""Descriptions of runs for MLflow's pages: Markdown, with the unit of every chart."""

from collections.abc import Iterator
from pathlib import Path

from jobs.spec.trial import place
from orchestrator.ledger import REPORT_FILE, SPEC_FILE, Ledger, TrialRecord, TrialResult
from orchestrator.records.params import shorten
from orchestrator.spec.model import SweepSpec
from orchestrator.verdict.outcome import Verdict
from orchestrator.verdict.protocol import Protocol

_LONGEST = 8000
"""Characters of a tag, as many as MLflow takes."""

_CHARTS = (
    ("`loss/*`", "mean over the clips since the last checkpoint", "nats per target token", "lower"),
    ("`by_step/loss`", "of each optimiser step; the step is the step", "nats per target token", ""),
    ("`by_step/learning_rate`", "of each optimiser step", "", ""),
    ("`objective/*`", "what the search maximises, of each lora_scale", "", "higher"),
    ("`seconds/*`", "wall time of training and validation", "s", ""),
)
"""Chart, what it shows, unit, what is better."""


def link(ledger: Ledger, *parts: str) -> str:
    """The URL of something of the sweep's in the storage."""
    where = f"{ledger.storage.url}/{ledger.path(*parts)}"
    return where if "://" in where else Path(where).as_uri()


def trial_note(
    ledger: Ledger,
    record: TrialRecord,
    result: TrialResult | None,
    best: str | None,
    protocol: Protocol | None,
) -> str:
    """Of one trial's run; ``protocol`` is None before anything was scored."""
    lines = [f"Trial `{record.id}`, number {record.order + 1} of sweep **{ledger.sweep}**."]
    if record.replicate_of:
        lines = [
            f"Replicate `{record.id}` of sweep **{ledger.sweep}**: trial `{record.replicate_of}` "
            f"trained again with seed {record.training.seed}."
        ]
    if result is not None:
        why = f": {result.reason}" if result.reason else ""
        end = place(result.epochs, record.training.checkpoint_steps)
        lines.append(f"It is **{result.end}** after {end}{why}.")
        if record.training.horizon not in ("", end):
            lines[-1] += f" Its learning rate was to fall to 0 at {record.training.horizon}."
    if best is not None:
        where = _linked(link(ledger, "clips", "screen", best))
        lines.append(f"Best variant by the objective: `{best}`. Its clips: {where}")
    lines.append(f"Report of the sweep: {_linked(link(ledger, *REPORT_FILE.split('/')))}")
    lines.append("\n".join(_charts(protocol)))
    return shorten("\n\n".join(lines), _LONGEST)


def sweep_note(
    ledger: Ledger, spec: SweepSpec, protocol: Protocol | None, verdict: Verdict | None
) -> str:
    """Of the sweep's own run; there is no ``verdict`` before it has ended."""
    storage = ledger.storage.url
    lines = []
    if verdict is None:
        lines.append(f"Sweep **{spec.name}** of {spec.family} has come to no verdict yet.")
    else:
        lines.append(f"**{verdict.verdict}**")
        lines.append(verdict.sentence)
        lines.append(f"Report: {_linked(link(ledger, *REPORT_FILE.split('/')))}")
        if verdict.confirmed:
            lines.append("\n".join(_finalists(verdict, protocol)))
    lines.append(f"Clips: {_linked(link(ledger, 'clips'))}")
    again = f"voxsweep run {storage}/{ledger.path(SPEC_FILE)} --storage {storage}"
    rebuild = f"voxsweep records {spec.name} --storage {storage}"
    lines.append(f"Run or go on: `{again}`. Rebuild these pages: `{rebuild}`.")
    lines.append(
        "Each trial is a run below this one. Metrics here: `gain/*` is what the winner, or else "
        "the first finalist, gains over the base on fresh prompts, with its interval (of a winner, "
        "given that it was found better); the others are means on those prompts, of the finalist "
        "and of the base."
    )
    lines.append("\n".join(_charts(protocol)))
    return shorten("\n\n".join(lines), _LONGEST)


def _finalists(verdict: Verdict, protocol: Protocol | None) -> Iterator[str]:
    primary = verdict.primary
    units = {metric.name: metric.unit for metric in protocol.metrics} if protocol else {}
    unit = f"({units[primary]}) " if units.get(primary) else ""
    yield "On fresh prompts (set B), against the base:"
    yield ""
    yield f"| finalist | {primary} | gain {unit}| p | finding |"
    yield "|---|---|---|---|---|"
    for each in verdict.confirmed:
        row, gain = each.row, each.effect
        interval = f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        mean = f"{row.means[primary]:.3f}" if primary in row.means else ""
        yield f"| `{row.id}` | {mean} | {interval} | {each.p_holm:.2g} | {each.finding} |"


def _charts(protocol: Protocol | None) -> Iterator[str]:
    yield "| chart | what it shows | unit | better |"
    yield "|---|---|---|---|"
    for row in _CHARTS:
        yield f"| {' | '.join(row)} |"
    for metric in protocol.metrics if protocol else ():
        better = "" if metric.direction == "neither" else metric.direction
        what = "mean over the clips of a lora_scale, by checkpoint"
        yield f"| `{metric.name}/*` | {what} | {metric.unit} | {better} |"
    yield "| `unscored_clips/*` | clips that lack a score | clips | lower |"


def _linked(url: str) -> str:
    return f"[{url}]({url})"
