"""What the tables of a page say, cell by cell."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.material import ReportInput, labelled, ranked, short
from orchestrator.verdict.outcome import VariantRow
from orchestrator.verdict.stats import Interval
from orchestrator.verdict.table import BASE, VariantInfo

SHOWN_LINES = 16
"""Longer tables of variants fold what is below."""


@dataclass(frozen=True)
class Column:
    """A variant to listen to."""

    id: str
    role: str
    name: str


@dataclass(frozen=True)
class Take:
    """One variant on one prompt: its audio, if it is kept, and what was measured."""

    column: Column
    audio: str | None
    """Base64 of the FLAC file."""
    scores: tuple[tuple[str, str], ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One variant in the table of all."""

    variant: VariantInfo
    name: str
    row: VariantRow
    cells: tuple[str, ...]


def columns(report: ReportInput) -> list[Column]:
    """The base, the winner and the runner-up; without a winner the base and the best."""
    verdict = report.verdict
    roles = [(BASE, "Base")]
    if verdict.variant:
        roles.append((verdict.variant, "Winner"))
    if verdict.runner_up:
        roles.append((verdict.runner_up, "Runner-up" if verdict.variant else "Best of the trials"))
    variants = report.table.variants
    return [Column(name, role, "" if name == BASE else variants[name].name) for name, role in roles]


def takes(report: ReportInput) -> list[tuple[str, list[Take]]]:
    """A prompt's text with a take for each column, for every prompt with audio to play."""
    shown = columns(report)
    return [
        (prompt.text, [_take(report, column, prompt.id) for column in shown])
        for prompt in report.protocol.prompts
        if any(prompt.id in report.clips.get(column.id, {}) for column in shown)
    ]


def _take(report: ReportInput, column: Column, prompt: str) -> Take:
    audio = report.clips.get(column.id, {}).get(prompt)
    failed = report.verdict.row(column.id).failed_clips
    return Take(
        column,
        base64.b64encode(audio).decode("ascii") if audio else None,
        tuple((metric, _score(report, column.id, metric, prompt)) for metric in deciding(report)),
        tuple(reason for clip in failed if clip.prompt == prompt for reason in clip.reasons),
    )


def deciding(report: ReportInput) -> list[str]:
    """The primary metric, then the metrics of the constraints."""
    protocol = report.protocol
    return list(dict.fromkeys([protocol.primary, *(c.metric for c in protocol.constraints)]))


def _score(report: ReportInput, variant: str, metric: str, prompt: str) -> str:
    """The measured mean over seeds; a dash where a seed has no value of its own."""
    table = report.table
    lost = {of for of, _ in table.missing[variant].get(metric, {})}
    if metric not in table.values[variant] or prompt in lost:
        return "–"
    return f"{table.by_prompt(table.values[variant][metric])[table.prompts.index(prompt)]:.3g}"


def headings(report: ReportInput) -> list[str]:
    """The headings over a line's cells."""
    primary, *constraints = (labelled(report, metric) for metric in deciding(report))
    confidence = f"gain ({report.protocol.confidence:.0%} interval)"
    return [primary, confidence, *constraints, "failed clips", "validation loss"]


def lines(report: ReportInput) -> list[Line]:
    """The base, then every variant from best to worst."""
    return [_line(report, row) for row in (report.verdict.row(BASE), *ranked(report))]


def _line(report: ReportInput, row: VariantRow) -> Line:
    variant = report.table.variants[row.id]
    primary, *constraints = (_number(row.means.get(metric)) for metric in deciding(report))
    gain = "–" if row.id == BASE else _effect(row.gain)
    failed = f"{row.failures.failed} of {row.failures.clips}"
    cells = (primary, gain, *constraints, failed, _number(variant.validation_loss))
    return Line(variant, short(variant), row, cells)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _effect(gain: Interval) -> str:
    return f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"


def rule(report: ReportInput) -> Sequence[tuple[str, str]]:
    """The protocol as label and value."""
    protocol, gates = report.protocol, report.protocol.gates
    low, high = gates.duration_ratio
    unit = report.table.metrics[protocol.primary].unit
    held = [
        f"{c.metric} at most {c.margin:g} {report.table.metrics[c.metric].unit} worse than the base"
        for c in protocol.constraints
    ]
    return [
        ("protocol", report.verdict.protocol_hash),
        ("prompts", f"{len(protocol.prompts)} of set {protocol.prompt_set}"),
        (
            "decoding",
            f"temperature {protocol.temperature:g}, top-k {protocol.top_k}, seed {protocol.seed}",
        ),
        ("primary metric", f"{protocol.primary}, at least {protocol.min_effect:g} {unit} better"),
        ("constraints", "; ".join(held) or "none"),
        (
            "gates",
            f"duration {low:g} to {high:g} x the base; at most {gates.tail_silence:g} s "
            f"silence at the end; at most {gates.clipping:.1%} clipped; end of speech reached",
        ),
        (
            "intervals",
            f"{protocol.confidence:.0%}, percentile bootstrap over prompts, "
            f"{protocol.bootstrap_resamples} resamples",
        ),
        (
            "metrics",
            "; ".join(f"{m.name} ({m.unit}) version {m.version}" for m in protocol.metrics),
        ),
        *((f"digest of {name}", value) for name, value in protocol.family_digests.items()),
    ]


def clock(seconds: float) -> str:
    """A duration as hours:minutes:seconds."""
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{left:02}"
