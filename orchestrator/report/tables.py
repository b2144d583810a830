"""What the tables of a page say, cell by cell."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.spec.trial import BASE_VARIANT
from orchestrator.report.audio import Sounds
from orchestrator.report.audition import Audition
from orchestrator.report.report_input import ReportInput, labelled, ranked, short
from orchestrator.verdict.outcome import VariantRow
from orchestrator.verdict.protocol import Prompt, Protocol
from orchestrator.verdict.stats import Interval
from orchestrator.verdict.table import VariantInfo

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
    """Base64 of the MP3 file."""
    scores: tuple[tuple[str, str], ...]
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One variant in the grid: a button that plays it."""

    clips: str
    """Base64 of an MP3 file for each prompt of the grid, a space between; ``-`` where none is."""
    mean: str
    standing: str
    name: str
    """Its name, score and standing in words."""


@dataclass(frozen=True)
class GridRow:
    """One epoch of a trial in the grid; None at a scale that was not scored."""

    name: str
    trial: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Broken:
    """A failed clip: whose, of which text, why, and its audio if it is kept."""

    name: str
    role: str
    text: str
    reasons: tuple[str, ...]
    audio: str | None


@dataclass(frozen=True)
class Cost:
    """What training took, over all trials."""

    seconds: float
    asked: int
    trained: int
    saved: int
    """Epochs that were not trained because their trial was stopped at a rung."""


@dataclass(frozen=True)
class Line:
    """One variant in the table of all."""

    variant: VariantInfo
    name: str
    row: VariantRow
    cells: tuple[str, ...]


def columns(report: ReportInput, audition: Audition) -> list[Column]:
    """The base, the winner and the runner-up; without a winner the base and the best."""
    variants = report.table.variants
    return [
        Column(name, role, "" if name == BASE_VARIANT else variants[name].name)
        for name, role in audition.compared.items()
    ]


def takes(report: ReportInput, audition: Audition, sounds: Sounds) -> list[tuple[str, list[Take]]]:
    """A prompt's text with a take for each column, for every prompt with audio to play."""
    shown = columns(report, audition)
    return [
        (prompt.text, [_take(report, column, prompt.id, sounds) for column in shown])
        for prompt in audition.prompts
        if any((column.id, prompt.id) in sounds for column in shown)
    ]


def _take(report: ReportInput, column: Column, prompt: str, sounds: Sounds) -> Take:
    failed = report.verdict.row(column.id).failed_clips
    return Take(
        column,
        sounds.get((column.id, prompt)),
        tuple((metric, _score(report, column.id, metric, prompt)) for metric in deciding(report)),
        tuple(reason for clip in failed if clip.prompt == prompt for reason in clip.reasons),
    )


def grid(report: ReportInput, audition: Audition, sounds: Sounds) -> list[GridRow]:
    """The base, then a row a trial with a cell for each scale; empty without audio."""
    cells = {
        v.id: _cell(report, audition, v, sounds)
        for v in (report.table.variants[BASE_VARIANT], *(v for row in audition.grid for v in row))
    }
    if not any(set(cell.clips) - set("- ") for cell in cells.values()):
        return []
    rows = [GridRow("base", "", (cells[BASE_VARIANT],))]
    for variants in audition.grid:
        of_scale = {v.lora_scale: cells[v.id] for v in variants}
        name, _, _ = short(variants[0]).rpartition(" · ")
        at_scales = tuple(of_scale.get(scale) for scale in audition.scales)
        rows.append(GridRow(name, variants[0].trial or "", at_scales))
    return rows


def _cell(report: ReportInput, audition: Audition, variant: VariantInfo, sounds: Sounds) -> Cell:
    row, primary = report.verdict.row(variant.id), report.verdict.primary
    mean = number(row.means.get(primary))
    clips = (sounds.get((variant.id, prompt.id), "-") for prompt in audition.grid_prompts)
    name = f"{variant.name}: {primary} {mean}, {row.standing}"
    return Cell(" ".join(clips), mean, row.standing, name)


def broken(report: ReportInput, audition: Audition, sounds: Sounds) -> list[Broken]:
    """The failed clips that the page plays."""
    texts = {prompt.id: prompt.text for prompt in report.protocol.prompts}
    return [
        Broken(
            name=short(report.table.variants[take.variant]),
            role=audition.compared.get(take.variant, ""),
            text=texts[take.clip.prompt],
            reasons=take.clip.reasons,
            audio=sounds.get((take.variant, take.clip.prompt)),
        )
        for take in audition.failed
    ]


def failed_in_all(report: ReportInput) -> int:
    """Failed clips of every variant and the base."""
    return sum(len(row.failed_clips) for row in report.verdict.rows)


def cost(report: ReportInput) -> Cost:
    """Seconds and epochs over all trials."""
    trials = report.trials
    return Cost(
        seconds=sum(trial.seconds for trial in trials),
        asked=sum(trial.training.epochs for trial in trials),
        trained=sum(len(trial.epochs) for trial in trials),
        saved=sum(t.training.epochs - len(t.epochs) for t in trials if t.end == "stopped"),
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
    return [_line(report, row) for row in (report.verdict.row(BASE_VARIANT), *ranked(report))]


def _line(report: ReportInput, row: VariantRow) -> Line:
    variant = report.table.variants[row.id]
    primary, *constraints = (number(row.means.get(metric)) for metric in deciding(report))
    gain = "–" if row.id == BASE_VARIANT else effect(row.gain)
    failed = f"{row.failures.failed} of {row.failures.clips}"
    cells = (primary, gain, *constraints, failed, number(variant.validation_loss))
    return Line(variant, short(variant), row, cells)


def number(value: float | None) -> str:
    """To three digits; a dash where there is none."""
    return "–" if value is None else f"{value:.3g}"


def effect(gain: Interval) -> str:
    """A gain with its interval."""
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
        (
            "set A, chooses",
            f"{_count(protocol.prompts)} of {protocol.prompt_set}{_shortlisting(protocol)}",
        ),
        ("set B, confirms", f"{_count(protocol.confirmation)} of {protocol.confirmation_set}"),
        (
            "decoding",
            f"temperature {protocol.temperature:g}, top-k {protocol.top_k}, "
            f"{_further_decoding(protocol)}"
            f"seed {protocol.seed} on set A and {protocol.confirmation_seed} on set B",
        ),
        (
            "finalists",
            f"at most {protocol.finalists}, tested together at {protocol.significance:g} "
            "(one-sided paired signed-rank tests, adjusted by Holm)",
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
        *((f"left out: {omitted.name}", omitted.reason) for omitted in protocol.omitted),
        *((f"digest of {name}", value) for name, value in protocol.family_digests.items()),
    ]


def _further_decoding(protocol: Protocol) -> str:
    """What of the decoding is not as by default."""
    said = ""
    if protocol.top_p < 1:
        said += f"top-p {protocol.top_p:g}, "
    if protocol.repetition_penalty > 1:
        said += f"repetition penalty {protocol.repetition_penalty:g}, "
    if protocol.max_tokens is not None:
        said += f"at most {protocol.max_tokens} tokens, "
    return said


def _shortlisting(protocol: Protocol) -> str:
    if not protocol.rest:
        return ""
    after = len(protocol.screening().prompts)
    return f"; after the first {after} the best third and the best of each rank go on"


def _count(prompts: Sequence[Prompt]) -> str:
    return f"{len(prompts)} prompt{'' if len(prompts) == 1 else 's'}"


def clock(seconds: float) -> str:
    """A duration as hours:minutes:seconds."""
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{left:02}"
