"""One variant of a score table in numbers, with what a protocol's rule objects to."""

from collections.abc import Iterator
from dataclasses import replace

from jobs.spec.trial import BASE_VARIANT
from orchestrator.verdict import sentences
from orchestrator.verdict.gates import (
    check_constraints,
    check_failures,
    counted,
    failed_clips,
    total_violation,
    unscored_clips,
)
from orchestrator.verdict.outcome import VariantRow
from orchestrator.verdict.protocol import Protocol
from orchestrator.verdict.screen import bootstrap_of, feasible_first, gains, is_silent
from orchestrator.verdict.table import ScoreTable


def row_of(table: ScoreTable, variant: str, protocol: Protocol) -> VariantRow:
    """The numbers of ``variant``; ``protocol`` is over the prompts of ``table``."""
    bootstrap = bootstrap_of(protocol)
    counts = {m: counted(table, variant, m, protocol) for m in table.values[variant]}
    base = {m: counted(table, BASE_VARIANT, m, protocol) for m in table.values[BASE_VARIANT]}
    gain = bootstrap.interval(gains(table, variant, protocol))
    failures = check_failures(table, variant, protocol)
    checks = check_constraints(table, variant, protocol, bootstrap)
    row = VariantRow(
        id=variant,
        standing="passed",
        reasons=(),
        means={metric: float(values.mean()) for metric, values in counts.items()},
        differences={m: bootstrap.interval(counts[m] - base[m]) for m in counts if m in base},
        gain=gain,
        objective=feasible_first(
            gain.mean, total_violation(failures, checks), table.metrics[protocol.primary].span
        ),
        failures=failures,
        missing={metric: len(clips) for metric, clips in table.missing[variant].items()},
        failed_clips=failed_clips(table, variant, protocol),
        constraints=checks,
    )
    if variant == BASE_VARIANT:
        return replace(row, standing="base")
    reasons = tuple(_objections(table, row, protocol))
    return replace(row, standing="rejected", reasons=reasons) if reasons else row


def _objections(table: ScoreTable, row: VariantRow, protocol: Protocol) -> Iterator[str]:
    if is_silent(table, row.id, protocol):
        yield sentences.no_scores_reason(unscored_clips(table, row.id, protocol))
    elif broken := sentences.broken_rules(row):
        # A gain that comes with failed clips or another voice is no news: leave it out.
        yield from broken
    elif no_gain := sentences.no_gain_reason(row.gain, protocol):
        yield no_gain
